"""Moves, selections, shifts, bit fields and byte permutations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .parse import Instruction
from .registers import TYPES, put
from .registry import Mask, Step, only, operation, unknown

if TYPE_CHECKING:
    from .machine import Machine


@operation("mov")
def bind_move(machine: Machine, instruction: Instruction) -> Step:
    _, *modifiers, kind = instruction.opcode.split(".")
    only(instruction, modifiers, set())
    target, source = instruction.operands
    if isinstance(target, tuple):
        return _taken_apart(machine, target, source, kind)
    if isinstance(source, tuple):
        return _put_together(machine, target, source, kind)
    row, value = machine.registers.row(target, kind), machine.registers.value(source, kind)
    return lambda mask: np.copyto(row, value, where=mask)


def _taken_apart(machine: Machine, target: tuple[Any, ...], source: Any, kind: str) -> Step:
    """mov.b32 {%low, %high}, %whole"; "_" is a part that is not wanted."""
    whole, width = machine.registers.value(source, kind), int(kind[1:]) // len(target)
    wanted = [(machine.registers.row(name, f"b{width}"), i * width) for i, name in enumerate(target) if name != "_"]

    def step(mask: Mask) -> None:
        parts = [((whole >> whole.dtype.type(shift)).astype(row.dtype), row) for row, shift in wanted]
        for part, row in parts:
            put(row, part, mask)

    return step


def _put_together(machine: Machine, target: Any, source: tuple[Any, ...], kind: str) -> Step:
    row, width = machine.registers.row(target, kind), int(kind[1:]) // len(source)
    parts = [machine.registers.value(name, f"b{width}") for name in source]

    def step(mask: Mask) -> None:
        whole = sum(part.astype(row.dtype) << row.dtype.type(i * width) for i, part in enumerate(parts))
        put(row, whole, mask)

    return step


@operation("selp")
def bind_selection(machine: Machine, instruction: Instruction) -> Step:
    _, *modifiers, kind = instruction.opcode.split(".")
    only(instruction, modifiers, set())
    row = machine.registers.row(instruction.operands[0], kind)
    first, second = (machine.registers.value(operand, kind) for operand in instruction.operands[1:3])
    choice = machine.predicate(instruction.operands[3])
    return lambda mask: put(row, np.where(choice(), first, second), mask)


@operation("shl", "shr")
def bind_shift(machine: Machine, instruction: Instruction) -> Step:
    name, *modifiers, kind = instruction.opcode.split(".")
    only(instruction, modifiers, set())
    row, value = (
        machine.registers.row(instruction.operands[0], kind),
        machine.registers.value(instruction.operands[1], kind),
    )
    by, most = machine.registers.value(instruction.operands[2], "u32"), np.uint32(TYPES[kind].itemsize * 8)
    shift: Any = np.left_shift if name == "shl" else np.right_shift

    def step(mask: Mask) -> None:
        # numpy, like PTX, shifts everything out from the width on
        put(row, shift(value, np.minimum(by, most).astype(row.dtype)), mask)

    return step


@operation("shf")
def bind_funnel(machine: Machine, instruction: Instruction) -> Step:
    _, direction, mode, kind = instruction.opcode.split(".")
    row = machine.registers.row(instruction.operands[0], kind)
    low, high, by = (machine.registers.value(operand, "u32") for operand in instruction.operands[1:])

    def step(mask: Mask) -> None:
        amount = (by & np.uint32(31) if mode == "wrap" else np.minimum(by, np.uint32(32))).astype(np.uint64)
        both = (high.astype(np.uint64) << np.uint64(32)) | low.astype(np.uint64)
        put(row, both << amount >> np.uint64(32) if direction == "l" else both >> amount, mask)

    return step


@operation("bfe")
def bind_field(machine: Machine, instruction: Instruction) -> Step:
    """Bits [position, position + length) of a number, the uppermost of them repeated upwards if it is signed."""
    kind = instruction.opcode.split(".")[1]
    if kind not in ("u32", "s32"):
        raise unknown(instruction)
    row, value = (machine.registers.row(instruction.operands[0], kind), machine.registers.value)
    source, position, length = (value(instruction.operands[i], "s32" if i == 1 else "u32") for i in (1, 2, 3))
    if kind == "u32":
        source = source.view(np.uint32)

    def step(mask: Mask) -> None:
        at, bits = (np.asarray(x & np.uint32(255)).astype(np.int64) for x in (position, length))
        wide = source.astype(np.int64) >> np.minimum(at, 63)
        bits = np.minimum(bits, 32)
        field = wide & ((np.int64(1) << bits) - 1)
        if kind == "s32":
            field = np.where(bits > 0, (field << (64 - np.maximum(bits, 1))) >> (64 - np.maximum(bits, 1)), 0)
        put(row, field, mask)

    return step


@operation("bfi")
def bind_insertion(machine: Machine, instruction: Instruction) -> Step:
    """The lowest bits of the first number put into the second, from a position on."""
    if instruction.opcode != "bfi.b32":
        raise unknown(instruction)
    row = machine.registers.row(instruction.operands[0], "b32")
    given, into, position, length = (machine.registers.value(operand, "u32") for operand in instruction.operands[1:])

    def step(mask: Mask) -> None:
        at, bits = (np.minimum(x & np.uint32(255), np.uint32(32)).astype(np.uint64) for x in (position, length))
        ones = ((np.uint64(1) << bits) - np.uint64(1)) << at & np.uint64(0xFFFFFFFF)
        put(row, (into.astype(np.uint64) & ~ones) | (given.astype(np.uint64) << at & ones), mask)

    return step


@operation("prmt")
def bind_permutation(machine: Machine, instruction: Instruction) -> Step:
    """Each half byte of the selector names one of 8 bytes; its upper bit asks for that byte's sign instead."""
    if instruction.opcode != "prmt.b32":
        raise unknown(instruction)
    row = machine.registers.row(instruction.operands[0], "b32")
    low, high, selector = (machine.registers.value(operand, "b32") for operand in instruction.operands[1:])

    def step(mask: Mask) -> None:
        both = (high.astype(np.uint64) << np.uint64(32)) | low.astype(np.uint64)
        result = np.uint32(0)
        for place in range(4):
            half = (selector >> np.uint32(4 * place)) & np.uint32(15)
            byte = ((both >> (half & np.uint32(7)).astype(np.uint64) * np.uint64(8)) & np.uint64(255)).astype(np.uint32)
            byte = np.where(half > 7, np.where(byte > 127, np.uint32(255), np.uint32(0)), byte)
            result = result | (byte << np.uint32(8 * place))
        put(row, result, mask)

    return step


@operation("lop3")
def bind_logic(machine: Machine, instruction: Instruction) -> Step:
    if instruction.opcode != "lop3.b32":
        raise unknown(instruction)
    row = machine.registers.row(instruction.operands[0], "b32")
    sources = [machine.registers.value(operand, "b32") for operand in instruction.operands[1:4]]
    table = int(instruction.operands[4], 0)

    def step(mask: Mask) -> None:
        result = np.uint32(0)
        for index in range(8):
            if table >> index & 1:
                bits = [source if index & at else ~source for source, at in zip(sources, (4, 2, 1), strict=True)]
                result = result | (bits[0] & bits[1] & bits[2])
        put(row, result, mask)

    return step
