"""ld and st of every space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .memory import WORDS
from .parse import Address, Instruction
from .registry import EmulationError, Mask, Step, chosen, only, operation, unknown

if TYPE_CHECKING:
    from .machine import Machine

SPACES = ("global", "shared", "local", "param")
# where a cached copy goes, which changes nothing that is read
HINTS = {"nc", "weak", "relaxed", "ca", "cg", "cs", "wb", "wt", "b8", "L1::no_allocate", "L1::evict_last"}
HINTS |= {"L1::evict_first", "L1::evict_normal", "gpu", "cta", "shared::cta"}


def addresses_of(machine: Machine, address: Any) -> np.ndarray:
    """Where each thread's operand points, int64; to be called anew for every execution."""
    if not isinstance(address, Address):
        raise EmulationError(f"{address} is no address")
    if not address.base.startswith("%"):
        base = int(machine.registers.number(address.base, "u64")) + address.offset
        return np.full(machine.threads, base, np.int64)
    width = machine.program.registers[address.base][0]
    row = machine.registers.row(address.base, f"u{width}")
    return row.astype(np.int64) + address.offset


def _form(instruction: Instruction) -> tuple[str, int, int]:
    """Space, bytes of an element, elements."""
    _, *modifiers, kind = instruction.opcode.split(".")
    space = next((name for name in SPACES if name in modifiers or f"{name}::cta" in modifiers), "")
    vector = next((int(name[1:]) for name in modifiers if name in ("v2", "v4", "v8")), 1)
    only(instruction, modifiers, {*SPACES, *HINTS, "v2", "v4", "v8"})
    if not space or kind in ("s8", "s16"):
        raise unknown(instruction)
    return space, int(kind.lstrip("bfsu")) // 8, vector


def _group(operand: Any) -> tuple[Any, ...]:
    return operand if isinstance(operand, tuple) else (operand,)


def _raw(machine: Machine, name: str, size: int) -> np.ndarray:
    """A register as wide as it is; one byte travels in 16 bits or more."""
    width = machine.program.registers[name][0]
    if width < size * 8:
        raise EmulationError(f"register {name} is too narrow for {size} bytes")
    return machine.registers.row(name, f"u{width}")


@operation("ld")
def bind_load(machine: Machine, instruction: Instruction) -> Step:
    space, size, count = _form(instruction)
    target, address = instruction.operands
    if space == "param":
        row = _raw(machine, target, size)
        name = address.base
        return lambda mask: np.copyto(row, machine.parameters[name].view(WORDS[size])[0], where=mask)
    rows = [_raw(machine, name, size) for name in _group(target)]
    if len(rows) != count:
        raise unknown(instruction)

    def step(mask: Mask) -> None:
        threads = chosen(mask, machine.threads)
        if not len(threads):
            return
        at = addresses_of(machine, address)[threads]
        machine.count_access(instruction, space, at, size * count, threads)
        if space == "local":
            words, places = machine.local.words(at, size, count, threads)
            values = [words[places + i] for i in range(count)]
        elif space == "shared":
            values = machine.shared.load(at, size, count, threads)
        else:
            values = machine.memory.load(at, size, count, threads + machine.first_thread)
        for row, value in zip(rows, values, strict=True):
            row[threads] = value

    return step


@operation("st")
def bind_store(machine: Machine, instruction: Instruction) -> Step:
    space, size, count = _form(instruction)
    address, source = instruction.operands
    # an immediate is stored as it is
    parts = [
        _raw(machine, name, size)
        if name.startswith("%")
        else np.full(machine.threads, machine.registers.number(name, f"u{max(size * 8, 16)}"))
        for name in _group(source)
    ]
    if len(parts) != count or space == "param":
        raise unknown(instruction)

    def step(mask: Mask) -> None:
        threads = chosen(mask, machine.threads)
        if not len(threads):
            return
        at = addresses_of(machine, address)[threads]
        machine.count_access(instruction, space, at, size * count, threads)
        values = [part[threads].astype(WORDS[size]) for part in parts]
        if space == "local":
            words, places = machine.local.words(at, size, count, threads)
            for i, value in enumerate(values):
                words[places + i] = value
        elif space == "shared":
            machine.shared.store(at, values, size, threads)
        else:
            machine.memory.store(at, values, size, threads + machine.first_thread)

    return step
