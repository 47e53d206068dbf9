"""Instructions by which the lanes of a warp exchange numbers, or wait for each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .parse import Instruction
from .registers import put
from .registry import EmulationError, Mask, Step, chosen, operation, unknown

if TYPE_CHECKING:
    from .machine import Machine

LANES = 32
ALL = ("-1", "0xffffffff", "0xFFFFFFFF")


def whole_warps(mask: Mask) -> np.ndarray | bool:
    """Which warps execute, each with all of its lanes."""
    if mask is True:
        return True
    lanes = mask.reshape(-1, LANES)
    some = lanes.any(1)
    if not np.array_equal(some, lanes.all(1)):
        warp = int(np.flatnonzero(some & ~lanes.all(1))[0])
        raise EmulationError(f"divergence: {int(lanes[warp].sum())} of 32 lanes of warp {warp} execute it")
    return some


@operation("shfl")
def bind_shuffle(machine: Machine, instruction: Instruction) -> Step:
    parts = instruction.opcode.split(".")
    if parts[1] != "sync" or parts[3] != "b32" or instruction.operands[4] not in ALL:
        raise unknown(instruction)
    names, registers = instruction.operands[0].split("|"), machine.registers
    row, source = registers.row(names[0], "b32"), registers.value(instruction.operands[1], "b32")
    inside = registers.row(names[1], "pred") if len(names) > 1 else None
    by, clamp = (registers.value(operand, "s32") for operand in instruction.operands[2:4])
    lane = (np.arange(machine.threads) % LANES).astype(np.int32)
    first = np.arange(machine.threads) - lane

    def step(mask: Mask) -> None:
        whole_warps(mask)
        segment, amount = (clamp >> np.int32(8)) & np.int32(31), by & np.int32(31)
        least = lane & segment
        most = least | (clamp & np.int32(31) & ~segment)
        if parts[2] == "up":
            wanted, fits = lane - amount, lane - amount >= most
        else:
            wanted = {"down": lane + amount, "bfly": lane ^ amount, "idx": least | (amount & ~segment)}[parts[2]]
            fits = wanted <= most
        result = np.broadcast_to(source, lane.shape)[first + np.where(fits, wanted, lane)]
        put(row, result, mask)
        if inside is not None:
            put(inside, fits, mask)

    return step


@operation("bar.warp")
def bind_warp_barrier(machine: Machine, instruction: Instruction) -> Step:
    if instruction.operands[0] not in ALL:
        raise unknown(instruction)

    def step(mask: Mask) -> None:
        whole_warps(mask)
        machine.shared.pass_warp_barrier(mask)

    return step


@operation("fence")
def bind_fence(machine: Machine, instruction: Instruction) -> Step:
    """Orders what one thread sees, which here is ordered anyhow."""
    return lambda mask: None


@operation("fence.proxy")
def bind_proxy_fence(machine: Machine, instruction: Instruction) -> Step:
    """Between ld, st and others, and wgmma, which reaches shared memory on another way."""
    if instruction.opcode not in ("fence.proxy.async", "fence.proxy.async.shared::cta"):
        raise unknown(instruction)
    return lambda mask: machine.shared.pass_fence(chosen(mask, machine.threads))


REDUCTIONS = {"add": np.add, "min": np.minimum, "max": np.maximum, "and": np.bitwise_and, "or": np.bitwise_or}
REDUCTIONS["xor"] = np.bitwise_xor


@operation("redux")
def bind_reduction(machine: Machine, instruction: Instruction) -> Step:
    _, sync, name, kind = instruction.opcode.split(".")
    if sync != "sync" or name not in REDUCTIONS or not kind.endswith("32"):
        raise unknown(instruction)
    row, source = (machine.registers.row(operand, kind) for operand in instruction.operands[:2])
    members = machine.registers.value(instruction.operands[2], "u32")

    def step(mask: Mask) -> None:
        whole_warps(mask)
        if not np.broadcast_to(members == np.uint32(0xFFFFFFFF), machine.threads)[chosen(mask, machine.threads)].all():
            raise unknown(instruction, "some lanes")
        of_warp = REDUCTIONS[name].reduce(source.reshape(-1, LANES), axis=1, dtype=source.dtype)
        put(row, np.repeat(of_warp, LANES), mask)

    return step
