"""Instructions that compute a number from numbers of the same type.

fma rounds once, near enough: products of fp32 numbers are exact in fp64, whose own rounding is 2**29 finer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .parse import Instruction
from .registers import put
from .registry import Mask, Step, only, operation, unknown

if TYPE_CHECKING:
    from .machine import Machine

LEAST_NORMAL = np.float32(2.0**-126)
ROUNDING = {"rn", "full", "approx", "ftz", "lo", "hi", "wide", "cc"}


def flushed(x: Any) -> Any:
    """.ftz: numbers below the normal ones are zero, their sign kept."""
    return np.where(np.abs(x) < LEAST_NORMAL, np.copysign(np.float32(0), x), x)


def to_bfloat16(x: Any) -> np.ndarray:
    """Bits of fp32 numbers rounded to the nearest, ties to even; one NaN."""
    x = np.asarray(x, np.float32)
    bits = x.view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(x), np.uint16(0x7FFF), rounded)


def from_bfloat16(bits: Any) -> np.ndarray:
    """bits -> fp32."""
    return (np.asarray(bits).astype(np.uint32) << 16).view(np.float32)


def _is_float(kind: str) -> bool:
    return kind.startswith(("f", "bf"))


def apply(machine: Machine, instruction: Instruction, kind: str, formula: Callable[..., Any]) -> Step:
    """The step that writes formula(*sources) to the first operand, rounded to `kind`."""
    row = machine.registers.row(instruction.operands[0], kind)
    sources = [machine.registers.value(operand, kind) for operand in instruction.operands[1:]]
    if kind.startswith("bf16"):

        def step(mask: Mask) -> None:
            put(row, to_bfloat16(formula(*map(from_bfloat16, sources))), mask)

    elif "ftz" in instruction.opcode.split("."):

        def step(mask: Mask) -> None:
            put(row, flushed(formula(*map(flushed, sources))), mask)

    elif isinstance(formula, np.ufunc):

        def step(mask: Mask) -> None:
            formula(*sources, out=row, where=mask if len(row) == machine.threads or mask is True else mask.repeat(2))

    else:

        def step(mask: Mask) -> None:
            put(row, formula(*sources), mask)

    return step


UFUNCS: dict[str, Any] = {
    **{"add": np.add, "sub": np.subtract, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor},
    # of a NaN and a number these give the number, as PTX's do without .NaN
    **{"min": np.fmin, "max": np.fmax, "neg": np.negative, "not": np.invert, "abs": np.abs},
}


@operation(*UFUNCS)
def bind_plain(machine: Machine, instruction: Instruction) -> Step:
    name, *modifiers, kind = instruction.opcode.split(".")
    only(instruction, modifiers, {"rn", "ftz", "NaN"})
    formula = UFUNCS[name]
    if "NaN" in modifiers:
        formula = {"min": np.minimum, "max": np.maximum}[name]
    if name == "neg" and kind.startswith("b"):
        raise unknown(instruction)
    return apply(machine, instruction, kind, formula)


@operation("div", "rem", "sqrt", "rsqrt", "rcp", "ex2", "lg2", "sin", "cos")
def bind_function(machine: Machine, instruction: Instruction) -> Step:
    name, *modifiers, kind = instruction.opcode.split(".")
    only(instruction, modifiers, ROUNDING - {"lo", "hi", "wide", "cc"})
    one = np.float32(1)
    formulas: dict[str, Callable[..., Any]] = {
        **{"sqrt": np.sqrt, "ex2": np.exp2, "lg2": np.log2, "sin": np.sin, "cos": np.cos},
        **{"rsqrt": lambda x: one / np.sqrt(x), "rcp": lambda x: one / x, "div": lambda x, y: x / y},
    }
    if not _is_float(kind):
        formulas["div"] = lambda x, y: _whole_division(x, y)[0]
        formulas["rem"] = lambda x, y: _whole_division(x, y)[1]
    if name not in formulas:
        raise unknown(instruction)
    return apply(machine, instruction, kind, formulas[name])


def _whole_division(x: Any, y: Any) -> tuple[Any, Any]:
    """Towards zero; by zero, which is undefined, 0 and 0."""
    x, y = np.asarray(x).astype(np.int64), np.asarray(y).astype(np.int64)
    there = np.where(y == 0, 1, y)
    quotient = np.where(y == 0, 0, np.abs(x) // np.abs(there) * np.sign(x) * np.sign(there))
    return quotient, np.where(y == 0, 0, x - quotient * there)


@operation("mul", "mad", "fma", "madc")
def bind_product(machine: Machine, instruction: Instruction) -> Step:
    name, *modifiers, kind = instruction.opcode.split(".")
    only(instruction, modifiers, ROUNDING - {"full", "approx"})
    if _is_float(kind):
        return apply(machine, instruction, kind, np.multiply if name == "mul" else _fused(kind))
    if "wide" in modifiers:
        return _wide_product(machine, instruction, kind)
    if modifiers == ["hi"] and name == "mul" and kind in ("s16", "u16", "s32", "u32"):
        bits = int(kind[1:])
        wide = np.dtype(f"{'i' if kind[0] == 's' else 'u'}{bits // 4}").type
        return apply(
            machine,
            instruction,
            kind,
            lambda a, b: np.asarray(a).astype(wide) * np.asarray(b).astype(wide) >> wide(bits),
        )
    if kind.endswith("32") and (name == "madc" or {"hi", "cc"} & set(modifiers)):
        return _product_with_carry(machine, instruction, kind, modifiers)
    if modifiers != ["lo"] or name == "madc":
        raise unknown(instruction)
    return apply(machine, instruction, kind, np.multiply if name == "mul" else lambda a, b, c: a * b + c)


def _fused(kind: str) -> Callable[..., Any]:
    target = {"f16": np.float16, "f16x2": np.float16, "f64": np.float64}.get(kind, np.float32)
    return lambda a, b, c: (np.asarray(a, np.float64) * b + c).astype(target)


def _wide_product(machine: Machine, instruction: Instruction, kind: str) -> Step:
    wide = f"{kind[0]}{2 * int(kind[1:])}"
    row = machine.registers.row(instruction.operands[0], wide)
    first, second = (machine.registers.value(operand, kind) for operand in instruction.operands[1:3])
    added = machine.registers.value(instruction.operands[3], wide) if len(instruction.operands) > 3 else None

    def step(mask: Mask) -> None:
        product = first.astype(row.dtype) * second.astype(row.dtype)
        put(row, product if added is None else product + added, mask)

    return step


def _product_with_carry(machine: Machine, instruction: Instruction, kind: str, modifiers: list[str]) -> Step:
    """mad.hi, mad.lo.cc and madc of 32 bits."""
    if kind[0] != "u":
        raise unknown(instruction, "signed")
    row = machine.registers.row(instruction.operands[0], kind)
    factors = [machine.registers.value(operand, kind) for operand in instruction.operands[1:]]
    shift, carry = np.uint64(32 if "hi" in modifiers else 0), machine.carry
    reads, writes = instruction.opcode.startswith("madc"), "cc" in modifiers

    def step(mask: Mask) -> None:
        wide = [np.asarray(factor).astype(np.uint64) for factor in factors]
        total = ((wide[0] * wide[1]) >> shift) & np.uint64(0xFFFFFFFF)
        for added in (*wide[2:], *((carry,) if reads else ())):
            total = total + added.astype(np.uint64)
        put(row, total, mask)
        if writes:
            np.copyto(carry, total >> np.uint64(32) != 0, where=mask)

    return step
