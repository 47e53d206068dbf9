"""What compiled_code.py emulates: few compilations that cover much."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from oscar_x.config import PRESETS, OscarConfig, resolve_config

SMALL = {"block_size": 32, "value_scale_rows": 16}
# with fp32 queries products keep 22 bits; TF32, which the interpreter knows nothing of, would keep 11
BOUNDS = {torch.float32: 5e-5, torch.float16: 1e-2, torch.bfloat16: 1e-2}
FP32, FP16, BF16 = torch.float32, torch.float16, torch.bfloat16


@dataclass(frozen=True)
class Case:
    """A call of joint_attention, or of packed_attention where `exact` is empty.

    Attributes:
        lengths: tokens of each block of each row of the batch; negative ones are told from block_size.
        exact: exact tokens of each row of the batch; behind them are NaN.
        used: blocks of each row that are looked at, or all.
        bias: a key bias, "one" position a token or "three".
    """

    config: OscarConfig = PRESETS["balanced"]
    head_dim: int = 128
    rows: int = 4
    dtype: torch.dtype = BF16
    lengths: tuple[tuple[int, ...], ...] = ((0, 1, -1), (999, -3, 999))
    exact: tuple[int, ...] = ()
    used: tuple[int, ...] = ()
    masked: bool = False
    bias: str = ""
    heads: int = 2
    capability: int = 90


def config(**changes: Any) -> OscarConfig:
    return resolve_config(**{**SMALL, **changes})


# long enough for several shares of several blocks: fetching ahead comes into its stride
LONG = ((0, 1, -1, 999, 999, 7, 999, 999, 999), (999, -3, 999, 0, 0, 999, 999, 999, 1))
DECODE = {
    "balanced": Case(lengths=LONG, exact=(40, 3)),
    "paper, fp16, used": Case(PRESETS["paper"], dtype=FP16, used=(2, 3), exact=(33, 0)),
    "max, mask": Case(PRESETS["max"], rows=3, masked=True, exact=(1, 5)),
    "fp32": Case(dtype=FP32, exact=(37, 7)),
    "head_dim 64, 3 bits, scales of 3 bits": Case(config(key_bits=3, value_bits=3, scale_bits=3), 64, rows=5),
    "head_dim 256, 1 row": Case(config(), 256, rows=1, exact=(40, 2)),
    "head_dim 256, fp32": Case(config(), 256, dtype=FP32, exact=(40, 2)),
    "per channel, fp16": Case(config(value_grouping="per_channel"), 128, dtype=FP16),
}
WIDE = {
    "bias, positions": Case(config(), 64, bias="one"),
    "bias, three axes": Case(config(), 64, rows=2, bias="three"),
    "16 rows": Case(rows=16, exact=(40, 40)),
    "32 rows": Case(config(), rows=32, exact=(40, 40)),
    "32 rows, for 8.0": Case(config(), 64, rows=32, exact=(40, 40), capability=80),
    "70 rows, mask": Case(config(), rows=70, masked=True),
    "head_dim 80, 1 and 8 bits, scales of 16": Case(config(key_bits=1, value_bits=8, scale_bits=16), 80, dtype=FP16),
    "head_dim 80, 8 and 4 bits, fp32": Case(config(key_bits=8, value_bits=4), 80, dtype=FP32),
    "groups of 8": Case(config(key_group_size=8, value_group_size=8), rows=8),
}
MORE = {
    "paper, fp32": Case(PRESETS["paper"], dtype=FP32, exact=(33, 64)),
    "max, fp16, used": Case(PRESETS["max"], lengths=LONG, dtype=FP16, used=(9, 0)),
    "head_dim 64, 8 rows": Case(head_dim=64, rows=8, exact=(40, 3), heads=3),
    "head_dim 96, 4 bits and 1": Case(config(key_bits=4, value_bits=1), 96),
    "groups of 64": Case(resolve_config(key_group_size=64, value_group_size=64)),
    "scales of 6, norms of 16": Case(config(scale_bits=6, norm_bits=16), 64),
    "no norms, no rotation": Case(config(token_norm="none", rotate_keys=False, rotate_values=False), 64),
    "per channel, 3 bits, fp32": Case(
        config(value_grouping="per_channel", value_bits=3, scale_bits=16), 64, dtype=FP32
    ),
    "bias, fp32, exact": Case(config(), 64, dtype=FP32, bias="one", exact=(7, 40)),
    "300 rows": Case(config(), 64, rows=300, dtype=FP16),
    "70 rows, head_dim 256, fp32": Case(config(), 256, rows=70, dtype=FP32),
}
COMPRESSION: dict[str, tuple[Any, ...]] = {
    "balanced": (PRESETS["balanced"], 128, BF16),
    "paper": (PRESETS["paper"], 128, FP16),
    "max": (PRESETS["max"], 64, FP32),
    "3 bits, head_dim 80": (config(key_bits=3, value_bits=3, scale_bits=3), 80, FP32),
    "per channel, 8 bits and 1": (config(value_grouping="per_channel", key_bits=8, value_bits=1), 64, FP32),
    "3 bits, for 8.0": (config(key_bits=3, value_bits=3), 64, FP32, 80),
}
ROTATION = {"80": (1e-6, 80, FP32), "128": (8e-3, 128, BF16), "80, for 8.0": (1e-6, 80, FP32, 80)}
