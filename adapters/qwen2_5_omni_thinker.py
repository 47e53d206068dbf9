"""The thinker of Qwen2.5-Omni as a checkpoint of its own: it reads the same and only writes."""

from __future__ import annotations

from dataclasses import replace

from .qwen2_5_omni import ADAPTER as OMNI

ADAPTER = replace(
    OMNI,
    name="Qwen2.5-Omni thinker",
    model_types=("qwen2_5_omni_thinker",),
    short_names={},
    auto_class="AutoModelForImageTextToText",
    generator="",
    speech=None,
    notes="key projections carry a bias; where it is larger than the keys themselves, it is taken out before "
    "compression",
)
