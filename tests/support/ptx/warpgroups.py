"""wgmma is asynchronous: here a product's factors are in use from its issue until wgmma.wait_group, and its sums are
there only then. Until then the accumulators are poisoned, shared memory that is read must not be written, and registers
that are read must not change. What wgmma.fence must order is checked where the instructions stand (wgmma.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .parse import Instruction
from .registry import EmulationError, Mask, Step, operation, unknown

if TYPE_CHECKING:
    from .machine import Machine

THREADS = 128  # of a warpgroup
POISON = np.uint32(0xFFFFFFFF)


@dataclass
class Product:
    """Under way for some warpgroups, of which all arrays but `places` hold one entry each.

    Attributes:
        batch: the commit that it belongs to.
        targets, factors: names of registers; those of A are empty where A is in shared memory.
        given: what the factors held at the issue [warpgroups, THREADS, registers].
        result: what the targets will hold, as bits, likewise.
        latest: no later product goes on with its sums.
        places: bytes of shared memory that it reads, of each warpgroup.
    """

    groups: np.ndarray
    batch: np.ndarray
    targets: tuple[str, ...]
    factors: tuple[str, ...]
    given: np.ndarray
    result: np.ndarray
    latest: np.ndarray
    places: list[np.ndarray]

    def part(self, which: np.ndarray) -> Product:
        arrays = (x[which] for x in (self.given, self.result, self.latest))
        places = [place for place, wanted in zip(self.places, which, strict=True) if wanted]
        return Product(self.groups[which], self.batch[which], self.targets, self.factors, *arrays, places)


class Products:
    """Those under way, oldest first."""

    def __init__(self, threads: int) -> None:
        self.committed = np.zeros(-(-threads // THREADS), np.int64)
        self.under_way: list[Product] = []

    def issue(self, machine: Machine, product: Product) -> None:
        write(machine, product.targets, product.groups, np.full_like(product.result, POISON))
        for place in product.places:
            machine.shared.busy[place] += 1
        self.under_way.append(product)

    def accumulators(self, machine: Machine, names: tuple[str, ...], groups: np.ndarray) -> np.ndarray:
        """What a product starts from, bits; sums of one under way need no wait if its registers are the same."""
        held = read(machine, names, groups)
        for product in self.under_way:
            mine = np.isin(groups, product.groups)
            if not mine.any() or not set(names) & {*product.targets, *product.factors}:
                continue
            if product.targets != names:
                raise EmulationError("race: accumulators are in use by another product, without wgmma.wait_group")
            at = np.searchsorted(product.groups, groups[mine])
            held[mine] = np.where(product.latest[at][:, None, None], product.result[at], held[mine])
            product.latest[at] = False
        return held

    def arrive(self, machine: Machine, groups: np.ndarray, most: int) -> None:
        """Of these warpgroups all but the `most` latest batches."""
        kept = []
        for product in self.under_way:
            due = np.isin(product.groups, groups) & (product.batch < self.committed[product.groups] - most)
            _finish(machine, product.part(due))
            if not due.all():
                kept.append(product.part(~due))
        self.under_way = kept


def _finish(machine: Machine, product: Product) -> None:
    if not np.array_equal(read(machine, product.factors, product.groups), product.given):
        raise EmulationError("race: registers of A are written before wgmma.wait_group has waited for their product")
    last = product.part(product.latest)
    if (read(machine, last.targets, last.groups) != POISON).any():
        raise EmulationError("race: accumulators are written before wgmma.wait_group has waited for their product")
    write(machine, last.targets, last.groups, last.result)
    for group, place in zip(product.groups, product.places, strict=True):
        machine.shared.busy[place] -= 1
        machine.shared.fetched(place, int(group) * THREADS)


def read(machine: Machine, names: tuple[str, ...], groups: np.ndarray) -> np.ndarray:
    """Bits of registers [warpgroups, THREADS, registers]."""
    rows = [machine.registers.row(name, "b32").reshape(-1, THREADS)[groups] for name in names]
    return np.stack(rows, 2) if rows else np.zeros((len(groups), THREADS, 0), np.uint32)


def write(machine: Machine, names: tuple[str, ...], groups: np.ndarray, bits: np.ndarray) -> None:
    for i, name in enumerate(names):
        machine.registers.row(name, "b32").reshape(-1, THREADS)[groups] = bits[:, :, i]


def whole_warpgroups(machine: Machine, mask: Mask) -> np.ndarray:
    """Which warpgroups execute, each with all of its threads."""
    if machine.warps % 4:
        raise EmulationError(f"wgmma with {machine.warps} warps")
    if mask is True:
        return np.arange(machine.threads // THREADS)
    threads = mask.reshape(-1, THREADS)
    some = threads.any(1)
    if not np.array_equal(some, threads.all(1)):
        group = int(np.flatnonzero(some & ~threads.all(1))[0])
        raise EmulationError(f"divergence: {int(threads[group].sum())} threads of warpgroup {group} execute it")
    return np.flatnonzero(some)


@operation("wgmma.fence", "wgmma.commit_group", "wgmma.wait_group")
def bind_order(machine: Machine, instruction: Instruction) -> Step:
    _, name, *modifiers = instruction.opcode.split(".")
    if modifiers != ["sync", "aligned"] or len(instruction.operands) != (name == "wait_group"):
        raise unknown(instruction)
    most = int(instruction.operands[0]) if name == "wait_group" else 0  # type: ignore[arg-type]

    def step(mask: Mask) -> None:
        groups = whole_warpgroups(machine, mask)
        if name == "commit_group":
            machine.products.committed[groups] += 1
        elif name == "wait_group":
            machine.products.arrive(machine, groups, most)

    return step
