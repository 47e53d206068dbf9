"""States that a cache is given without a model, and what it makes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import oscar_x
from oscar_x.modality import Modality, ModalityStream
from oscar_x.tni.assemble import assemble
from oscar_x.tni.norm_map import NormMapBuilder
from oscar_x.tni.observe import ObservingCache
from oscar_x.tni.report import TniReport

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


@pytest.fixture(scope="package")
def llama(tiny: Callable[..., Any]) -> Any:
    """A tiny Llama at 2 bits; not to be changed."""
    return oscar_x.load(tiny("llama"), device="cpu")


@pytest.fixture
def report_of(llama: Any) -> Callable[..., TniReport]:
    """The report on states given to a tiny Llama's two layers, in pieces of any length."""

    def make(
        keys: torch.Tensor,
        values: torch.Tensor,
        modalities: list[int] | None = None,
        pieces: tuple[int, ...] = (),
        **options: Any,
    ) -> TniReport:
        cache = ObservingCache(llama.model.config, llama.config, llama.config, {}, **options)
        cache.begin(0)
        count = keys.shape[2]
        cache.norm_map = NormMapBuilder(count)
        kinds = modalities or [0] * count
        cache.expect_prompt(count, stream(kinds))
        for piece in keys.split(list(pieces) or count, 2):
            at = cache.observers[0].seen(0) if cache.observers else 0
            for layer in range(2):
                taken, _ = cache.update(piece, values[:, :, at : at + piece.shape[2]], layer)
                taken.layer.append(piece, values[:, :, at : at + piece.shape[2]], None)
        cache.note_tokens(0, [3 + place % 250 for place in range(count)])
        counts = {Modality(kind).name.lower(): kinds.count(kind) for kind in sorted(set(kinds))}
        return assemble(llama, cache, llama.config, "0" * 16, 1, counts)

    return make
