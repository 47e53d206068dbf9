"""mma, ldmatrix and stmatrix: which lane holds which element, as the PTX ISA's tables say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .access import addresses_of
from .arithmetic import from_bfloat16
from .parse import Instruction
from .registers import put
from .registry import Mask, Step, chosen, operation, unknown
from .warp import LANES, whole_warps

if TYPE_CHECKING:
    from .machine import Machine

ROW_BYTES = 16  # of a matrix of 8 x 8 numbers of 16 bits
LANE = np.arange(LANES)
# element i of a lane, for A [16, 16]: registers of two; for B [16, 8] and C [16, 8] likewise
A_AT = np.stack([(LANE // 4 + 8 * (i // 2 % 2)) * 16 + LANE % 4 * 2 + i % 2 + 8 * (i // 4) for i in range(8)], 1)
B_AT = np.stack([(LANE % 4 * 2 + i % 2 + 8 * (i // 2)) * 8 + LANE // 4 for i in range(4)], 1)
C_AT = np.stack([(LANE // 4 + 8 * (i // 2)) * 8 + LANE % 4 * 2 + i % 2 for i in range(4)], 1)
# for tf32, A [16, 8] and B [8, 8]: registers of one
A_TF32_AT = np.stack([(LANE // 4 + 8 * (i % 2)) * 8 + LANE % 4 + 4 * (i // 2) for i in range(4)], 1)
B_TF32_AT = np.stack([(LANE % 4 + 4 * i) * 8 + LANE // 4 for i in range(2)], 1)
FORMS = {
    f"mma.sync.aligned.m16n8k{depth}.row.col.f32.{kind}.{kind}.f32": (kind, depth)
    for kind, depth in (("f16", 16), ("bf16", 16), ("tf32", 8))
}
TF32_BITS = np.uint32(0xFFFFE000)  # tensor cores ignore the others


def numbers(rows: list[Any], kind: str) -> np.ndarray:
    """What registers of factors hold, fp32 [threads, elements]."""
    bits = np.stack(rows, 1)
    if kind == "tf32":
        return (bits & TF32_BITS).view(np.float32)
    halves = bits.view(np.uint16)
    return from_bfloat16(halves) if kind == "bf16" else halves.view(np.float16).astype(np.float32)


@operation("mma")
def bind_product(machine: Machine, instruction: Instruction) -> Step:
    if instruction.opcode not in FORMS:
        raise unknown(instruction)
    kind, depth = FORMS[instruction.opcode]
    registers, (target, first, second, added) = machine.registers, instruction.operands
    outputs = [registers.row(name, "f32") for name in target]  # type: ignore[union-attr]
    a, b, c = ([registers.value(name, "b32") for name in group] for group in (first, second, added))
    places = (A_TF32_AT, B_TF32_AT, C_AT) if kind == "tf32" else (A_AT, B_AT, C_AT)
    from_a, from_b, to_c = (np.argsort(at.ravel()) for at in places)

    def step(mask: Mask) -> None:
        whole_warps(mask)
        left = numbers(a, kind).reshape(-1, 16 * depth)[:, from_a].reshape(-1, 16, depth)
        right = numbers(b, kind).reshape(-1, 8 * depth)[:, from_b].reshape(-1, depth, 8)
        rows = np.stack([np.broadcast_to(row, machine.threads) for row in c], 1)
        start = np.ascontiguousarray(rows).view(np.float32).reshape(-1, 128)[:, to_c].reshape(-1, 16, 8)
        result = (left @ right + start).reshape(-1, 128)[:, C_AT.ravel()].reshape(-1, 4)
        for i, row in enumerate(outputs):
            put(row, result[:, i], mask)

    return step


def _matrices(instruction: Instruction, store: bool) -> tuple[int, bool]:
    """How many, and whether they are transposed."""
    parts = instruction.opcode.split(".")[1:]
    trans = "trans" in parts
    expected = ["sync", "aligned", "m8n8", parts[3], *(["trans"] if trans else []), "shared", "b16"]
    if parts != expected or parts[3] not in ("x1", "x2", "x4"):
        raise unknown(instruction)
    return int(parts[3][1]), trans


def _rows(machine: Machine, mask: Mask, address: Any, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Lanes 8 i to 8 i + 7 say where the rows of matrix i start: addresses and those lanes, a warp after the other."""
    whole_warps(mask)
    threads = chosen(mask, machine.threads)
    threads = threads[threads % LANES < 8 * count]
    return addresses_of(machine, address)[threads], threads


@operation("ldmatrix")
def bind_matrix_load(machine: Machine, instruction: Instruction) -> Step:
    count, trans = _matrices(instruction, False)
    target, address = instruction.operands
    rows = [machine.registers.row(name, "b32") for name in target]  # type: ignore[union-attr]

    def step(mask: Mask) -> None:
        at, threads = _rows(machine, mask, address, count)
        if not len(threads):
            return
        machine.count_access(instruction, "shared", at, ROW_BYTES, threads)
        places = machine.shared.check(at, ROW_BYTES, threads)
        machine.shared.reading(places, ROW_BYTES, threads, together=True)
        data = machine.shared.words[2][places[:, None] // 2 + np.arange(8)].reshape(-1, count, 8, 8)
        data = np.ascontiguousarray(data.swapaxes(2, 3) if trans else data)
        # lane l holds elements 2 (l % 4) and the next of row l / 4
        held = data.view(np.uint32).reshape(-1, count, LANES)
        every = chosen(mask, machine.threads)
        for i, row in enumerate(rows):
            row[every] = held[:, i].ravel()

    return step


@operation("stmatrix")
def bind_matrix_store(machine: Machine, instruction: Instruction) -> Step:
    count, trans = _matrices(instruction, True)
    address, source = instruction.operands
    rows = [machine.registers.row(name, "b32") for name in source]  # type: ignore[union-attr]

    def step(mask: Mask) -> None:
        at, threads = _rows(machine, mask, address, count)
        if not len(threads):
            return
        machine.count_access(instruction, "shared", at, ROW_BYTES, threads)
        places = machine.shared.check(at, ROW_BYTES, threads)
        every = chosen(mask, machine.threads)
        held = np.stack([row[every].reshape(-1, LANES) for row in rows], 1)
        data = np.ascontiguousarray(held).view(np.uint16).reshape(-1, count, 8, 8)
        data = np.ascontiguousarray(data.swapaxes(2, 3) if trans else data).view(np.uint8).reshape(-1, ROW_BYTES)
        machine.shared.writing(places, ROW_BYTES, threads, data, together=True)
        machine.shared.bytes[places[:, None] + np.arange(ROW_BYTES)] = data

    return step
