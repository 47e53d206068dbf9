"""Instruction sets as types of their own, so that numba compiles and keeps the loops for each apart."""

from __future__ import annotations

from typing import Any, NamedTuple


class Avx512(NamedTuple):
    """AVX-512 with VNNI: four products of bytes and their sum in one instruction, in 16 lanes of 32 bits."""

    lanes: int = 16
    shifts: int = 0
    plain: int = 0


class Avx2Vnni(NamedTuple):
    """The same in 8 lanes."""

    lanes: int = 8
    shifts: int = 0
    plain: int = 0


class Avx2(NamedTuple):
    """Sums of two products in 16 bits, then of two such sums. The first saturate: codes must be shifted down."""

    lanes: int = 8
    shifts: int = 1
    plain: int = 0


class Wide(NamedTuple):
    """AVX-512 in fp32 (cpu_floats.py)."""

    lanes: int = 16
    shifts: int = 0
    plain: int = 1


class Portable(NamedTuple):
    """None of these: the same loops, for vectors that every compiler can make something of."""

    lanes: int = 8
    shifts: int = 0
    plain: int = 1


def width(isa: Any) -> int:
    """Lanes of an instruction set, from numba's type of it."""
    return int(isa.instance_class._field_defaults["lanes"])


def shifts_codes(isa: Any) -> bool:
    """Whether codes must be shifted down before they are multiplied."""
    return bool(isa.instance_class._field_defaults["shifts"])
