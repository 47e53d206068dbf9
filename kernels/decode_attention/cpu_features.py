"""Which instructions this processor has, and which of them a layout can be read with."""

from __future__ import annotations

import platform
from functools import lru_cache
from typing import Any

import torch

from ..layout import BlockLayout

# best first; features as LLVM names them
SETS: dict[str, tuple[str, ...]] = {
    "avx512": ("avx512f", "avx512bw", "avx512vl", "avx512vnni"),
    "avx2-vnni": ("avx2", "f16c", "avx512vl", "avx512vnni"),
    "avx2": ("avx2", "f16c"),
    "avx512-fp32": ("avx512f", "avx512bw", "avx512vl"),
    "portable": (),
}
IN_FP32 = ("avx512-fp32", "portable")
# of queries and exact tokens that the loops read as they are
FLOAT32, BFLOAT16, FLOAT16 = 0, 1, 2
KINDS = {torch.float32: FLOAT32, torch.bfloat16: BFLOAT16, torch.float16: FLOAT16}


@lru_cache(maxsize=1)
def available_sets() -> tuple[str, ...]:
    """Names of SETS that numba compiles for here, best first."""
    features = _features()
    return tuple(name for name, needed in SETS.items() if all(feature in features for feature in needed))


def _features() -> set[str]:
    import llvmlite.binding as llvm
    from numba.core import config

    if platform.machine().lower() not in ("x86_64", "amd64"):
        return set()
    told, chosen = (getattr(config, name, None) for name in ("CPU_NAME", "CPU_FEATURES"))
    if told or chosen:  # numba was told to compile for another processor
        return {feature[1:] for feature in (chosen or "").split(",") if feature.startswith("+")}
    return {name for name, there in llvm.get_host_cpu_features().items() if there}


def best_set(layout: BlockLayout, dtype: torch.dtype) -> str:
    """The best of available_sets that reads a layout for queries of a dtype.

    fp32 queries are multiplied in fp32: in bytes, their scores would keep 16 bits.
    """
    single = dtype not in (torch.float16, torch.bfloat16)
    return next(name for name in available_sets() if reads(name, layout) and (name in IN_FP32 or not single))


@lru_cache(maxsize=256)
def reads(name: str, layout: BlockLayout) -> bool:
    """Whether loops for a set read a layout; those in fp32 read every one."""
    if name in IN_FP32:
        return True
    runs = layout.values.tokens_per_range
    whole = layout.head_dim % 16 == 0 and layout.block_size % 16 == 0 and (layout.scale_bits == 16 or runs % 16 == 0)
    # without VNNI, sums of two products of 8-bit codes leave 16 bits
    wide = 8 in (layout.key_bits, layout.value_bits, layout.scale_bits)
    return whole and not (name == "avx2" and wide)


def instruction_set(name: str) -> Any:
    """The set as the loops take it.

    Raises:
        ValueError: unknown, or not of this processor.
    """
    from .cpu_sets import Avx2, Avx2Vnni, Avx512, Portable, Wide

    if name not in available_sets():
        raise ValueError(f"instructions={name!r} is not available here; choose one of {', '.join(available_sets())}")
    sets = {"avx512": Avx512, "avx2-vnni": Avx2Vnni, "avx2": Avx2, "avx512-fp32": Wide, "portable": Portable}
    return sets[name]()
