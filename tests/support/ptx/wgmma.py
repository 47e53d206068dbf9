"""wgmma.mma_async: a warpgroup's product of 64 rows. A is in registers or in shared memory, B in shared memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from .descriptors import DEPTH, addresses_of_matrix
from .matrix import numbers
from .parse import Instruction
from .registry import EmulationError, Mask, Step, operation, unknown
from .warpgroups import THREADS, Product, read, whole_warpgroups

if TYPE_CHECKING:
    from .machine import Machine

ROWS = 64
FORM = re.compile(r"wgmma\.mma_async\.sync\.aligned\.m64n(\d+)k16\.f32\.(f16|bf16)\.\2")
THREAD = np.arange(THREADS)[:, None]
FIRST_ROW, FIRST_COLUMN = THREAD // 32 * 16 + THREAD % 32 // 4, THREAD % 4 * 2


def places_of(count: int, columns: int) -> np.ndarray:
    """Element i of a thread, of A or of the sums, as a place in the matrix [ROWS, columns]: int [THREADS, count]."""
    i = np.arange(count)
    return (FIRST_ROW + 8 * (i // 2 % 2)) * columns + FIRST_COLUMN + 8 * (i // 4) + i % 2


class InRegisters:
    """A in four registers of two numbers each."""

    def __init__(self, machine: Machine, names: tuple[str, ...], kind: str) -> None:
        self.machine, self.names, self.kind = machine, names, kind
        self.from_places = np.argsort(places_of(8, DEPTH).ravel())

    def take(self, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """Numbers [groups, ROWS, DEPTH], registers, and bytes of shared memory."""
        bits = read(self.machine, self.names, groups)
        every = numbers([*bits.reshape(-1, len(self.names)).T], self.kind).reshape(len(groups), -1)
        return every[:, self.from_places].reshape(-1, ROWS, DEPTH), bits, [np.zeros(0, np.int64)] * len(groups)


class InShared:
    """A factor that a descriptor names, the same in all threads of a warpgroup."""

    def __init__(self, machine: Machine, descriptor: Any, rows: int, trans: bool, kind: str) -> None:
        self.machine, self.rows, self.trans, self.kind = machine, rows, trans, kind
        self.descriptor, self.names = machine.registers.value(descriptor, "b64"), ()

    def take(self, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        shared, found, places = self.machine.shared, [], []
        every = np.broadcast_to(self.descriptor, self.machine.threads).reshape(-1, THREADS)
        for group in groups:
            if (every[group] != every[group, 0]).any():
                raise EmulationError("threads of a warpgroup name different matrix descriptors")
            addresses = addresses_of_matrix(int(every[group, 0]), self.rows, self.trans).ravel()
            first = int(group) * THREADS
            at = shared.check(addresses, 2, np.full(len(addresses), first))
            places.append(np.unique(at[:, None] + np.arange(2)))
            shared.fetching(places[-1], first)
            found.append(numbers([shared.words[2][at // 2]], self.kind).reshape(self.rows, DEPTH))
        return np.stack(found), read(self.machine, (), groups), places


@operation("wgmma.mma_async")
def bind_product(machine: Machine, instruction: Instruction) -> Step:
    form = FORM.fullmatch(instruction.opcode)
    in_registers = len(instruction.operands) > 1 and isinstance(instruction.operands[1], tuple)
    if form is None or len(instruction.operands) != 8 - in_registers:
        raise unknown(instruction)
    columns, kind = int(form[1]), form[2]
    target, first, second, scale, *immediates = instruction.operands
    signs, trans = immediates[:2], immediates[2:]
    if not set(signs) <= {"1", "-1"} or not set(trans) <= {"0", "1"} or len(target) != columns // 2:
        raise unknown(instruction)
    names: tuple[str, ...] = target  # type: ignore[assignment]
    if in_registers:
        a: Any = InRegisters(machine, first, kind)  # type: ignore[arg-type]
    else:
        a = InShared(machine, first, ROWS, trans[0] == "1", kind)
    b = InShared(machine, second, columns, trans[-1] == "1", kind)
    _after_fence(machine, instruction, {*names, *a.names})
    goes_on = machine.registers.value(scale, "pred")
    sign = np.float32(int(signs[0]) * int(signs[1]))  # type: ignore[arg-type]
    to_places = places_of(columns // 2, columns).ravel()

    def step(mask: Mask) -> None:
        groups = whole_warpgroups(machine, mask)
        if not len(groups):
            return
        products = machine.products
        (left, given, read_a), (right, _, read_b) = a.take(groups), b.take(groups)
        start = products.accumulators(machine, names, groups).view(np.float32)
        kept = np.broadcast_to(goes_on, machine.threads).reshape(-1, THREADS)[groups]
        sums = (sign * left @ right.swapaxes(1, 2)).reshape(len(groups), -1)[:, to_places].reshape(start.shape)
        result = (sums + np.where(kept[:, :, None], start, np.float32(0))).view(np.uint32)
        places = [np.concatenate(both) for both in zip(read_a, read_b, strict=True)]
        batch, latest = products.committed[groups], np.ones(len(groups), bool)
        products.issue(machine, Product(groups, batch, names, a.names, given, result, latest, places))

    return step


def _after_fence(machine: Machine, instruction: Instruction, names: set[str]) -> None:
    """wgmma.fence must stand before a product, and nothing but other products may write its registers in between."""
    code = machine.program.instructions
    place = next(i for i, other in enumerate(code) if other is instruction)
    for earlier in reversed(code[:place]):
        if earlier.opcode.startswith("wgmma.fence"):
            return
        if earlier.opcode.startswith(("bra", "bar.sync", "ret")):
            break
        written = set(_names(earlier.operands[0])) if earlier.operands else set()
        chained = earlier.opcode.startswith("wgmma.mma_async") and earlier.operands[0] == instruction.operands[0]
        if written & names and not chained:
            raise EmulationError(f"race: {min(written & names)} is written after wgmma.fence: {instruction}")
    raise EmulationError(f"race: no wgmma.fence before {instruction}")


def _names(operand: Any) -> Iterator[str]:
    if isinstance(operand, tuple):
        for part in operand:
            yield from _names(part)
    elif isinstance(operand, str):
        yield from operand.split("|")
