"""The registers of all threads: one row of numbers a register, seen as whatever type an instruction names."""

from __future__ import annotations

from typing import Any

import numpy as np

from .parse import Program
from .registry import EmulationError

TYPES = {
    **{f"{kind}{width}": np.dtype(f"u{width // 8}") for kind in "bu" for width in (8, 16, 32, 64)},
    **{f"s{width}": np.dtype(f"i{width // 8}") for width in (8, 16, 32, 64)},
    **{"f16": np.dtype("f2"), "f32": np.dtype("f4"), "f64": np.dtype("f8"), "pred": np.dtype("?")},
    **{"bf16": np.dtype("u2"), "f16x2": np.dtype("f2"), "bf16x2": np.dtype("u2"), "tf32": np.dtype("f4")},
}
POISON = 0xFF  # every byte: NaN as a number, out of bounds as an address


class Registers:
    """`threads` values each; `symbols` are addresses that an operand may name."""

    def __init__(self, program: Program, threads: int, symbols: dict[str, int]) -> None:
        self.program, self.threads, self.symbols = program, threads, symbols
        self.rows = {
            width: np.empty((program.counts[width], threads), TYPES["pred" if width == 1 else f"u{width}"])
            for width in program.counts
        }
        self.special: dict[str, np.ndarray] = {}

    def poison(self) -> None:
        """What was never written must not be taken for a number."""
        for width, rows in self.rows.items():
            rows.fill(True) if width == 1 else rows.view(np.uint8).fill(POISON)

    def row(self, name: str, kind: str) -> np.ndarray:
        """A register's row, writable; two numbers a thread for the packed types."""
        if name not in self.program.registers:
            raise EmulationError(f"register {name} is not declared")
        width, place = self.program.registers[name]
        row = self.rows[width][place]
        if kind == "pred":
            return row
        wanted = 32 if kind.endswith("x2") else int(kind.lstrip("bfstu"))
        # a byte lies in a register of 16 bits
        if wanted != width:
            raise EmulationError(f"register {name} of {width} bits is used as {kind}")
        return row.view(TYPES[kind])

    def value(self, operand: Any, kind: str) -> Any:
        """What an operand holds: a row that changes with the register, or a number."""
        if operand in self.special:
            return self.special[operand].view(TYPES[kind])
        if operand.startswith("%"):
            return self.row(operand, kind)
        return self.number(operand, kind)

    def number(self, text: str, kind: str) -> Any:
        """An immediate operand; floating-point ones are written as bits."""
        if kind == "pred":
            return np.bool_(int(text, 0) != 0)
        if text in self.symbols:
            bits = self.symbols[text]
        elif text[:2].lower() in ("0f", "0d") and len(text) in (10, 18):
            bits = int(text[2:], 16)
        else:
            bits = int(text.rstrip("U"), 0)
        kind_of_bits = np.dtype(f"u{8 if kind.endswith('64') else TYPES[kind].itemsize}")
        if kind.endswith("x2"):
            kind_of_bits = np.dtype("u4")
        whole = np.array([bits % (1 << 8 * kind_of_bits.itemsize)], np.uint64).astype(kind_of_bits)
        seen = whole.view(TYPES[kind])
        return np.tile(seen, self.threads) if kind.endswith("x2") else seen[0]


def put(row: np.ndarray, value: Any, mask: Any) -> None:
    """Writes a register where the mask says so; packed types hold two numbers a thread."""
    if mask is not True and len(mask) != len(row):
        mask = np.repeat(mask, len(row) // len(mask))
    np.copyto(row, value, casting="unsafe", where=mask)
