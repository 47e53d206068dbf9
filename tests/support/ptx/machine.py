"""Executes a kernel for all threads of many programs at once.

Every thread has its own place in the code. Of the blocks of instructions at which some thread is able to go on, the
one whose turn comes first (flow.py) is executed for all threads there, so that what diverged meets again, and what
never meets is noticed by the instructions that need whole warps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import arithmetic, bits, compare, convert, matrix, wgmma  # noqa: F401  they register what they prepare
from .copies import Copies
from .counters import Counts
from .flow import turn_order
from .memory import Global, Local
from .parse import Instruction, Program
from .registers import Registers
from .registry import BINDERS, EmulationError, Mask, Step, unknown
from .shared import BASE, Shared
from .warp import LANES, whole_warps
from .warpgroups import Products

EXITED, WAITING = 2**31 - 1, 2**31 - 2
MOST_STEPS = 2_000_000
ENDS = ("bra", "bar.sync", "ret", "exit")


@dataclass
class Block:
    """Instructions that follow each other without a jump, and the one that ends them, if any."""

    instructions: list[Instruction]
    steps: list[Step]
    end: Instruction | None
    following: int
    target: int


class Machine:
    """`programs` of `warps` warps each, which run together; run() takes the grid's programs in that many at a time."""

    def __init__(
        self, program: Program, memory: Global, shared_bytes: int, programs: int, warps: int, counting: bool = False
    ) -> None:
        self.program, self.memory, self.shared_bytes, self.counting = program, memory, shared_bytes, counting
        self.programs, self.warps, self.threads = programs, warps, programs * warps * LANES
        symbols = {**memory.symbols, program.local_symbol: Local.BASE, program.shared_symbol: BASE}
        symbols.pop("", None)
        self.registers = Registers(program, self.threads, symbols)
        self.parameters: dict[str, np.ndarray] = {}
        self.carry = np.zeros(self.threads, bool)
        self.first_thread, self.counts = 0, Counts()
        thread = np.arange(self.threads, dtype=np.uint32) % np.uint32(warps * LANES)
        zero, all_threads = np.zeros_like(thread), np.full_like(thread, warps * LANES)
        self.registers.special.update({"%tid.x": thread, "%tid.y": zero, "%tid.z": zero, "%laneid": thread % 32})
        self.registers.special.update({"%ntid.x": all_threads, "%warpid": thread // 32})
        for axis in "xyz":
            self.registers.special[f"%ctaid.{axis}"] = np.zeros_like(thread)
            self.registers.special[f"%nctaid.{axis}"] = np.zeros_like(thread)
        self._restart()
        self.blocks = self._blocks()
        self.visits = np.zeros(len(self.blocks), np.int64)

    def _restart(self) -> None:
        self.shared = Shared(self.shared_bytes, self.programs, self.warps)
        self.local = Local(self.program.local_bytes, self.threads)
        self.copies, self.products = Copies(self.threads), Products(self.threads)
        self.registers.poison()

    def predicate(self, name: Any) -> Callable[[], np.ndarray]:
        """What "%p1" or "!%p1" holds at the time of the call."""
        row = self.registers.row(name.lstrip("!"), "pred")
        return (lambda: ~row) if name.startswith("!") else (lambda: row)

    def _blocks(self) -> list[Block]:
        """In the order of their turns, in which `following` and `target` count, too."""
        code, starts = self.program.instructions, {0, *self.program.labels.values()}
        starts |= {i + 1 for i, instruction in enumerate(code) if instruction.opcode.startswith(ENDS)}
        order = sorted(start for start in starts if start < len(code))
        stops = dict(zip(order, [*order[1:], len(code)], strict=True))
        ends = {
            start: code[stop - 1] if code[stop - 1].opcode.startswith(ENDS) else None for start, stop in stops.items()
        }
        ways = {start: self._ways(ends[start], stop) for start, stop in stops.items()}
        turns = turn_order({start: [to for to in both if to in stops] for start, both in ways.items()}, 0)
        place_of = {start: place for place, start in enumerate(turns)}
        blocks = []
        for start in turns:
            end = ends[start]
            within = code[start : stops[start] - (end is not None)]
            following, target = (place_of.get(to, EXITED) for to in ways[start])
            blocks.append(Block(within, [self._step(instruction) for instruction in within], end, following, target))
        return blocks

    def _ways(self, end: Instruction | None, following: int) -> tuple[int, int]:
        """Where a block leads: without a jump, and with it. -1 is nowhere."""
        if end is None or end.opcode == "bar.sync":
            return following, following
        target = self.program.labels[end.operands[0]] if end.opcode.startswith("bra") else -1  # type: ignore[index]
        return following if end.guard is not None else target, target

    def _step(self, instruction: Instruction) -> Step:
        words = instruction.opcode.split(".")
        binder = BINDERS.get(".".join(words[:2])) or BINDERS.get(words[0])
        if binder is None:
            raise unknown(instruction)
        step = binder(self, instruction)
        if instruction.guard is None:
            return step
        holds = self.predicate(instruction.guard)
        return lambda mask: step(holds().copy() if mask is True else holds() & mask)

    def run(self, grid: tuple[int, int, int], parameters: dict[str, np.ndarray]) -> Counts:
        """All programs of a grid."""
        self.parameters = parameters
        total = int(np.prod(grid))
        with np.errstate(all="ignore"):
            for first in range(0, total, self.programs):
                self._restart()
                self._place(np.arange(first, first + self.programs), grid, total)
                self._until_all_have_left()
        self._count_instructions()
        return self.counts

    def _place(self, programs: np.ndarray, grid: tuple[int, int, int], total: int) -> None:
        of_thread = np.repeat(programs, self.warps * LANES)
        self.first_thread = int(programs[0]) * self.warps * LANES
        places = of_thread % grid[0], of_thread // grid[0] % grid[1], of_thread // (grid[0] * grid[1])
        for axis, place, size in zip("xyz", places, grid, strict=True):
            self.registers.special[f"%ctaid.{axis}"][:] = place
            self.registers.special[f"%nctaid.{axis}"][:] = size
        self.at = np.where(of_thread < total, 0, EXITED)
        self.resume = np.zeros(self.threads, np.int64)

    def _until_all_have_left(self) -> None:
        for _ in range(MOST_STEPS):
            lowest = int(self.at.min())
            if lowest == EXITED:
                return
            if lowest == WAITING:
                raise EmulationError("not all threads of a program reach the barrier that others wait at")
            here = self.at == lowest
            self._execute(self.blocks[lowest], lowest, True if here.all() else here)
        raise EmulationError(f"no end after {MOST_STEPS} blocks of instructions")

    def _execute(self, block: Block, place: int, mask: Mask) -> None:
        self.visits[place] += self.threads // LANES if mask is True else mask.reshape(-1, LANES).any(1).sum()
        number = 0
        try:
            for number, step in enumerate(block.steps):  # noqa: B007  told by the error
                step(mask)
            number = len(block.steps)
            self._leave(block, mask)
        except EmulationError as error:
            raise EmulationError(f"{error}: {[*block.instructions, block.end][number]}") from None

    def _leave(self, block: Block, mask: Mask) -> None:
        end, target = block.end, block.target
        taken = True if end is None or end.guard is None else self.predicate(end.guard)()
        if end is not None and end.opcode == "bar.sync":
            if end.operands != ("0",) or end.guard is not None:
                raise unknown(end)
            whole_warps(mask)
            np.copyto(self.resume, target, where=mask)
            target = WAITING
        np.copyto(self.at, np.where(taken, target, block.following), where=mask)
        if target == WAITING:
            self._release()

    def _release(self) -> None:
        """Lets the programs go on of which every thread waits."""
        waiting = (self.at == WAITING).reshape(self.programs, -1).all(1)
        if waiting.any():
            ready = waiting.repeat(self.warps * LANES)
            self.at[ready] = self.resume[ready]
            self.shared.pass_barrier(ready)

    def count_access(
        self, instruction: Instruction, space: str, at: np.ndarray, size: int, threads: np.ndarray
    ) -> None:
        """Notes what an access costs, if that is asked for."""
        if not self.counting or not len(at):
            return
        warps, lanes = threads // LANES, threads % LANES
        if space == "shared":
            self.counts.note_shared(instruction.opcode, at, size, warps, lanes)
        elif space == "global":
            self.counts.note_global(instruction.opcode, at, size, warps)

    def _count_instructions(self) -> None:
        for block, visits in zip(self.blocks, self.visits, strict=True):
            for instruction in [*block.instructions, *([block.end] if block.end else [])]:
                self.counts.instructions[instruction.opcode] += int(visits)
        self.visits[:] = 0
