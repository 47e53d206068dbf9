"""Qwen3-VL with a mixture of experts: the experts hold no cache, everything else is Qwen3-VL's."""

from __future__ import annotations

from dataclasses import replace

from . import qwen3_vl

ADAPTER = replace(
    qwen3_vl.ADAPTER,
    name="Qwen3-VL-MoE",
    model_types=("qwen3_vl_moe",),
    short_names={
        "Qwen3-VL-MoE": "Qwen/Qwen3-VL-30B-A3B-Instruct",
        "Qwen3-VL-30B-A3B": "Qwen/Qwen3-VL-30B-A3B-Instruct",
        "Qwen3-VL-235B-A22B": "Qwen/Qwen3-VL-235B-A22B-Instruct",
    },
    notes="attention is Qwen3-VL's; the experts hold no cache",
)
