"""setp: comparisons, with PTX's meaning of NaN."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .arithmetic import flushed
from .parse import Instruction
from .registry import Mask, Step, only, operation, unknown

if TYPE_CHECKING:
    from .machine import Machine

ORDERED: dict[str, Any] = {
    **{"eq": np.equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal},
    **{"lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal},
    "ne": lambda a, b: (a < b) | (a > b),
}
COMPARISONS = {
    **ORDERED,
    # these hold, too, where one of the two is NaN
    **{"equ": lambda a, b: ~ORDERED["ne"](a, b), "neu": np.not_equal, "ltu": lambda a, b: ~(a >= b)},
    **{"leu": lambda a, b: ~(a > b), "gtu": lambda a, b: ~(a <= b), "geu": lambda a, b: ~(a < b)},
    **{"num": lambda a, b: ~(np.isnan(a) | np.isnan(b)), "nan": lambda a, b: np.isnan(a) | np.isnan(b)},
}
JOINED: dict[str, Any] = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}


@operation("setp")
def bind_comparison(machine: Machine, instruction: Instruction) -> Step:
    _, compare, *modifiers, kind = instruction.opcode.split(".")
    only(instruction, modifiers, {*JOINED, "ftz"})
    if compare not in COMPARISONS or kind.startswith("bf"):
        raise unknown(instruction)
    names = instruction.operands[0].split("|")
    rows = [machine.registers.row(name, "pred") for name in names]
    first, second = (machine.registers.value(operand, kind) for operand in instruction.operands[1:3])
    formula, joined = COMPARISONS[compare], next((JOINED[m] for m in modifiers if m in JOINED), None)
    other = machine.predicate(instruction.operands[3]) if joined is not None else None

    def step(mask: Mask) -> None:
        both = (flushed(first), flushed(second)) if "ftz" in modifiers else (first, second)
        holds = formula(*both)
        against = ~holds
        if joined is not None and other is not None:
            holds, against = joined(holds, other()), joined(against, other())
        for row, value in zip(rows, (holds, against), strict=False):
            np.copyto(row, value, where=mask)

    return step
