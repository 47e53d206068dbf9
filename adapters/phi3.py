"""Phi-3 text models: queries, keys and values come from one fused projection."""

from __future__ import annotations

from .base import Adapter

ADAPTER = Adapter(
    name="Phi-3",
    model_types=("phi3",),
    short_names={"Phi-3": "microsoft/Phi-3-mini-4k-instruct", "Phi-3.5": "microsoft/Phi-3.5-mini-instruct"},
    key_projection="qkv_proj",
    notes="head_dim 96 in the mini models is rotated in blocks of 32; Phi-3.5's sliding window is never reached: its "
    "layers are compressed, those of Phi-3-mini-4k, of 2,047 tokens, are not; where a text of Phi-3.5 grows past 4,096 "
    "tokens it is read anew with other rotary frequencies, in greedy decoding and sampling alone",
)
