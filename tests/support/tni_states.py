"""Keys and values that a cache is given without a model."""

from __future__ import annotations

import torch

from oscar_x.modality import ModalityStream

HEADS, HEAD_DIM = 2, 64


def states(tokens: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values [1, heads, tokens, head_dim] of even norms in random directions."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(2, 1, HEADS, tokens, HEAD_DIM, generator=generator)
    keys, values = drawn / drawn.norm(dim=-1, keepdim=True)
    return keys, values


def stream(modalities: list[int]) -> ModalityStream:
    """A stream of one row whose media are its runs."""
    kinds = torch.tensor([modalities], dtype=torch.int8)
    return ModalityStream(kinds, torch.zeros_like(kinds, dtype=torch.int32))
