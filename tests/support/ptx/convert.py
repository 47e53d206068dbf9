"""cvt: between types, with PTX's rounding and saturation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .arithmetic import flushed, from_bfloat16, to_bfloat16
from .parse import Instruction
from .registers import TYPES, put
from .registry import Mask, Step, only, operation, unknown

if TYPE_CHECKING:
    from .machine import Machine

TO_WHOLE: dict[str, Callable[[Any], Any]] = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


@operation("cvt")
def bind_conversion(machine: Machine, instruction: Instruction) -> Step:
    _, *modifiers, target, source = instruction.opcode.split(".")
    only(instruction, modifiers, {"rn", "ftz", *TO_WHOLE})
    if target.endswith("x2"):
        return _packed(machine, instruction, target)
    # a byte lies in a register of 16 bits
    byte = source in ("s8", "u8")
    narrow = target in ("s8", "u8")
    row = machine.registers.row(instruction.operands[0], "b16" if narrow else target)
    value = machine.registers.value(instruction.operands[1], "b16" if byte else source)
    formula = _formula(instruction, modifiers, target, source)

    def step(mask: Mask) -> None:
        result = formula(value.astype(np.uint8).view(TYPES[source]) if byte else value)
        put(row, result.astype(np.int16) if narrow else result, mask)

    return step


def _formula(instruction: Instruction, modifiers: list[str], target: str, source: str) -> Callable[[Any], Any]:
    floats = [kind.startswith(("f", "bf")) for kind in (target, source)]
    whole = next((TO_WHOLE[name] for name in modifiers if name in TO_WHOLE), None)

    def read(x: Any) -> Any:
        x = from_bfloat16(x) if source == "bf16" else x
        return flushed(x) if "ftz" in modifiers and source == "f32" else x

    if floats == [False, False]:
        return lambda x: x.astype(TYPES[target])
    if floats == [False, True]:
        if whole is None:
            raise unknown(instruction, "no rounding")
        return lambda x: _saturated(whole(read(x).astype(np.float64)), TYPES[target])
    if whole is not None:
        raise unknown(instruction, "rounding to whole numbers of floating point")
    if target == "bf16":
        return lambda x: to_bfloat16(read(x))
    if "ftz" in modifiers and target == "f32":
        return lambda x: flushed(read(x).astype(np.float32))
    return lambda x: read(x).astype(TYPES[target])


def _saturated(x: np.ndarray, kind: np.dtype) -> np.ndarray:
    """What does not fit becomes the nearest that does, NaN becomes 0."""
    limits = np.iinfo(kind)
    inside = np.where((x >= limits.min) & (x < float(limits.max)), x, 0).astype(kind)
    inside = np.where(x >= float(limits.max), kind.type(limits.max), inside)
    return np.where(x < limits.min, kind.type(limits.min), inside)


def _packed(machine: Machine, instruction: Instruction, target: str) -> Step:
    """Two fp32 numbers to one register: the first into its upper half."""
    if target not in ("f16x2", "bf16x2") or not instruction.opcode.endswith(".f32"):
        raise unknown(instruction)
    row = machine.registers.row(instruction.operands[0], "b32")
    high, low = (machine.registers.value(operand, "f32") for operand in instruction.operands[1:])

    def bits(x: Any) -> np.ndarray:
        half = to_bfloat16(x) if target == "bf16x2" else np.asarray(x).astype(np.float16).view(np.uint16)
        return half.astype(np.uint32)

    def step(mask: Mask) -> None:
        put(row, (bits(high) << np.uint32(16)) | bits(low), mask)

    return step
