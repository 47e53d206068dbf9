"""A tiny model, and the report on states that its cache is given without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import oscar_x
from oscar_x.modality import Modality
from oscar_x.tni.assemble import assemble
from oscar_x.tni.norm_map import NormMapBuilder
from oscar_x.tni.observe import ObservingCache
from oscar_x.tni.report import TniReport


@pytest.fixture(scope="package")
def given(support: Callable[[str], Any]) -> Any:
    """tests/support/tni_states.py."""
    return support("tni_states")


@pytest.fixture(scope="package")
def llama(tiny: Callable[..., Any]) -> Any:
    """A tiny Llama at 2 bits; not to be changed."""
    return oscar_x.load(tiny("llama"), device="cpu")


@pytest.fixture
def report_of(llama: Any, given: Any) -> Callable[..., TniReport]:
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
        cache.expect_prompt(count, given.stream(kinds))
        for piece in keys.split(list(pieces) or count, 2):
            at = cache.observers[0].seen(0) if cache.observers else 0
            for layer in range(2):
                taken, _ = cache.update(piece, values[:, :, at : at + piece.shape[2]], layer)
                taken.layer.append(piece, values[:, :, at : at + piece.shape[2]], None)
        cache.note_tokens(0, [3 + place % 250 for place in range(count)])
        counts = {Modality(kind).name.lower(): kinds.count(kind) for kind in sorted(set(kinds))}
        return assemble(llama, cache, llama.config, "0" * 16, 1, counts)

    return make
