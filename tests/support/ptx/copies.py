"""cp.async: what is copied arrives when its thread waits for it, not before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .access import addresses_of
from .parse import Instruction
from .registry import EmulationError, Mask, Step, chosen, operation, unknown

if TYPE_CHECKING:
    from .machine import Machine


@dataclass
class Copy:
    """Under way for some threads; `group` is the commit of each that it belongs to."""

    threads: np.ndarray
    group: np.ndarray
    places: np.ndarray
    data: np.ndarray


class Copies:
    """Those under way, oldest first."""

    def __init__(self, threads: int) -> None:
        self.committed = np.zeros(threads, np.int64)
        self.under_way: list[Copy] = []

    def arrive(self, machine: Machine, mask: Mask, most: int) -> None:
        """Of the threads of the mask all but the `most` latest groups; -1: even what was not committed."""
        waiting = np.zeros(machine.threads, bool)
        waiting[chosen(mask, machine.threads)] = True
        shared, kept = machine.shared, []
        for copy in self.under_way:
            due = waiting[copy.threads] & (copy.group < self.committed[copy.threads] - most)
            every = copy.places[due][:, None] + np.arange(copy.data.shape[1])
            shared.bytes[every], shared.pending[every] = copy.data[due], False
            shared.writer[every], shared.written_at[every] = shared.stamps(copy.threads[due])[:, None], shared.fences
            if not due.all():
                kept.append(Copy(*(x[~due] for x in (copy.threads, copy.group, copy.places, copy.data))))
        self.under_way = kept


@operation("cp.async")
def bind_copy(machine: Machine, instruction: Instruction) -> Step:
    parts = instruction.opcode.split(".")
    if parts[2] == "commit_group":
        return _commit(machine)
    if parts[2] in ("wait_group", "wait_all"):
        most = int(instruction.operands[0]) if parts[2] == "wait_group" else -1  # type: ignore[arg-type]
        return lambda mask: machine.copies.arrive(machine, mask, most)
    if parts[2] not in ("ca", "cg") or parts[3:] != ["shared", "global"]:
        raise unknown(instruction)
    target, source, size_text, *given = instruction.operands
    size = int(size_text, 0)  # type: ignore[arg-type]
    if size not in ((16,) if parts[2] == "cg" else (4, 8, 16)):
        raise unknown(instruction, "size")
    given_size = machine.registers.value(given[0], "u32") if given else np.uint32(size)

    def step(mask: Mask) -> None:
        threads = chosen(mask, machine.threads)
        if not len(threads):
            return
        sizes = np.broadcast_to(given_size, machine.threads)[threads].astype(np.int64)
        if not np.isin(sizes, (0, size)).all():
            raise EmulationError("cp.async of a part of its size is not emulated")
        to, start = addresses_of(machine, target)[threads], addresses_of(machine, source)[threads]
        places = machine.shared.check(to, size, threads)
        machine.shared.writing(places, size, threads)
        data, read = np.zeros((len(threads), size), np.uint8), sizes > 0
        machine.count_access(instruction, "global", start[read], size, threads[read])
        machine.count_access(instruction, "shared", to, size, threads)
        if read.any():
            width = min(size, 8)
            words = machine.memory.load(start[read], width, size // width, threads[read] + machine.first_thread)
            data[read] = np.stack(words, 1).view(np.uint8)
        every = places[:, None] + np.arange(size)
        if (machine.shared.writer[every] != machine.shared.stamps(threads)[:, None]).any():
            raise EmulationError("race: two threads copy to the same shared memory")
        machine.shared.pending[every] = True
        machine.shared.bytes[every] = 0xFF
        machine.copies.under_way.append(Copy(threads, machine.copies.committed[threads], places, data))

    return step


def _commit(machine: Machine) -> Step:
    def step(mask: Mask) -> None:
        machine.copies.committed[chosen(mask, machine.threads)] += 1

    return step
