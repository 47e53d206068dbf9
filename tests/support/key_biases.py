"""Large key-projection biases for tiny models."""

from __future__ import annotations

from typing import Any

import torch

# rotary pairs (channel i turns with channel i + head_dim / 2), as parts of all pairs, fastest first
BANDS = {"high": (0.0, 0.25), "middle": (0.375, 0.625), "low": (0.75, 1.0)}


def set_key_biases(layers: Any, norm: float, band: str | None) -> None:
    """Give every KV head of every layer a bias of this norm, spread over one band of rotary channels; none at all where
    band is None."""
    for index, layer in enumerate(layers):
        projection, half = layer.self_attn.k_proj, layer.self_attn.head_dim // 2
        heads = len(projection.bias) // (2 * half)
        bias = torch.zeros(heads, 2, half)
        if band is not None:
            start, stop = (int(part * half) for part in BANDS[band])
            generator = torch.Generator().manual_seed(index)
            bias[:, :, start:stop] = torch.randn(heads, 2, stop - start, generator=generator)
            bias *= norm / bias.flatten(1).norm(dim=1)[:, None, None]
        projection.bias.data.copy_(bias.flatten())
