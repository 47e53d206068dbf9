"""The thinker of Qwen3-Omni-MoE as a checkpoint of its own: it reads the same and only writes."""

from __future__ import annotations

from dataclasses import replace

from .qwen3_omni_moe import ADAPTER as OMNI

ADAPTER = replace(
    OMNI,
    name="Qwen3-Omni-MoE thinker",
    model_types=("qwen3_omni_moe_thinker",),
    short_names={},
    auto_class="AutoModelForImageTextToText",
    generator="",
    speech=None,
    notes="",
)
