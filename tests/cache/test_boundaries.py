"""Blocks that close early where modalities meet."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from oscar_x import OscarConfig
from oscar_x.cache import OscarCache
from oscar_x.cache.boundaries import block_lengths, runs
from oscar_x.cache.reading import row_states
from oscar_x.config import ONLINE
from oscar_x.kernels.key_bias import KeyBias
from oscar_x.modality import Modality, ModalityStream

TEXT, IMAGE, AUDIO = (int(kind) for kind in (Modality.TEXT, Modality.IMAGE, Modality.AUDIO))


@pytest.fixture
def split(harness):
    return replace(harness.SMALL, modality_split=2.0, modality_split_run=8)


def tell(cache, *rows):
    """Each row as (kind, count) pairs."""
    kinds = torch.tensor([[kind for kind, count in row for _ in range(count)] for row in rows], dtype=torch.int8)
    cache.expect_prompt(cache.get_seq_length() + kinds.shape[1], ModalityStream(kinds, (kinds > 0).int()))
    return kinds


def states(harness, kinds, seed, factor=8.0):
    """Query, keys and values; keys of images are `factor` times as long as the others."""
    query, keys, values = harness.states(len(kinds), 2, kinds.shape[1], 16, seed)
    return query, keys * torch.where(kinds == IMAGE, factor, 1.0)[:, None, :, None], values


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ([(0, 9)], [(0, 0, 9)]),
        ([(0, 9), (1, 8)], [(0, 0, 9), (1, 9, 17)]),
        ([(0, 9), (1, 7), (0, 9)], [(0, 0, 25)]),  # too short: its neighbours are one run again
        ([(1, 9), (0, 7), (2, 9)], [(1, 0, 16), (2, 16, 25)]),
        ([(0, 3), (1, 9)], [(1, 0, 12)]),  # a short start has nothing before it
        ([(0, 3), (1, 4), (2, 9)], [(2, 0, 16)]),
        ([(0, 9), (1, 2)], [(0, 0, 11)]),
    ],
)
def test_runs(given, found):
    assert runs(torch.tensor([kind for kind, count in given for _ in range(count)]), 8) == found


@pytest.mark.parametrize(
    ("total", "keep", "edges", "partial", "lengths"),
    [
        (100, 20, [], False, [16] * 5),
        (10, 20, [], False, []),
        (100, 20, [10, 50, 90], False, [10, 16, 16, 8, 16]),  # 90 lies among those that stay
        (100, 0, [10, 50, 90], True, [10, 16, 16, 8, 16, 16, 8, 10]),
        (60, 20, [40], False, [16, 16, 8]),
        (33, 0, [16], False, [16, 16]),
        (10, 20, [3], True, []),
    ],
)
def test_block_lengths(total, keep, edges, partial, lengths):
    assert block_lengths(total, keep, 16, edges, partial) == lengths


def test_only_modalities_of_other_norms_part(harness, split):
    cache = harness.new_cache(split)
    kinds = tell(cache, [(TEXT, 23), (IMAGE, 40), (AUDIO, 30), (TEXT, 60)])
    harness.attend(cache, *states(harness, kinds, 1))
    # 3 sinks, then text | image | audio and text as one
    assert cache.layers[0].rows[0].lengths == [16, 4, 16, 16, 8, 16, 16, 16, 16]
    everywhere = harness.new_cache(replace(split, modality_split=1.0))
    tell(everywhere, [(TEXT, 23), (IMAGE, 40), (AUDIO, 30), (TEXT, 60)])
    harness.attend(everywhere, *states(harness, kinds, 1))
    assert everywhere.layers[0].rows[0].lengths == [16, 4, 16, 16, 8, 16, 14, 16, 16]


def test_no_split_without_a_stream_or_below_the_ratio(harness, split):
    kinds = torch.tensor([[TEXT] * 40 + [IMAGE] * 60])
    untold, level = harness.new_cache(split), harness.new_cache(split)
    harness.attend(untold, *states(harness, kinds, 2))
    tell(level, [(TEXT, 40), (IMAGE, 60)])
    harness.attend(level, *states(harness, kinds, 2, factor=1.2))
    assert untold.layers[0].rows[0].lengths == level.layers[0].rows[0].lengths == [16] * 4


def test_small_keys_keep_their_precision_beside_large_ones(harness, split):
    """What a split is for: a group of tokens with one scale serves the largest of them."""
    errors = {}
    for ratio in (None, 2.0):
        cache = harness.new_cache(replace(split, modality_split=ratio, token_norm="none", rotate_keys=False))
        kinds = tell(cache, [(TEXT, 23), (IMAGE, 40), (TEXT, 60)])
        query, keys, values = states(harness, kinds, 3, factor=30.0)
        harness.attend(cache, query, keys, values)
        cache.flush()
        text = (kinds[0] == TEXT).nonzero().flatten()[3:]
        errors[ratio] = harness.relative_error(row_states(cache.layers[0], 0)[0][:, text], keys[0][:, text])
    assert errors[2.0] < 0.5 * errors[None]


def test_rows_decide_for_themselves(harness, split):
    """A row of a ragged batch is packed as it is alone."""
    rows = [[(TEXT, 23), (IMAGE, 40), (TEXT, 60)], [(Modality.PADDING, 43), (TEXT, 40), (IMAGE, 40)]]
    batch = harness.new_cache(split)
    kinds = tell(batch, *rows)
    drawn = states(harness, kinds, 4)
    flags = [[True] * 123, [False] * 43 + [True] * 80]
    output = harness.attend(batch, *drawn, harness.causal_mask([[], []], flags, 0))
    for index, start in ((0, 0), (1, 43)):
        alone = harness.new_cache(split)
        tell(alone, rows[index][1:] if start else rows[index])
        single = harness.attend(alone, *(part[index : index + 1, :, start:] for part in drawn))
        torch.testing.assert_close(output[index, :, start:], single[0], rtol=1e-4, atol=1e-5)
        assert batch.layers[0].rows[index].lengths == alone.layers[0].rows[0].lengths
        for found, expected in zip(row_states(batch.layers[0], index), row_states(alone.layers[0], 0), strict=True):
            assert torch.equal(found, expected)
    assert batch.layers[0].rows[1].lengths == [16, 16, 5, 16]


def test_a_prompt_in_chunks_splits_at_the_same_places(harness, split):
    kinds = torch.tensor([[TEXT] * 45 + [IMAGE] * 70 + [TEXT] * 65])
    drawn = states(harness, kinds, 5)
    whole, chunked = harness.new_cache(split), harness.new_cache(split)
    for cache, sizes in ((whole, [180]), (chunked, [60, 60, 60])):
        tell(cache, [(TEXT, 45), (IMAGE, 70), (TEXT, 65)])
        for piece in zip(*(part.split(sizes, 2) for part in drawn), strict=True):
            harness.attend(cache, *piece)
    assert (
        whole.layers[0].rows[0].lengths == chunked.layers[0].rows[0].lengths == [16, 16, 10, 16, 16, 16, 16, 6, 16, 16]
    )


@pytest.mark.parametrize("backend", ["triton", "auto", "reference"])
def test_split_blocks_are_read_by_every_backend(harness, split, backend):
    cache = harness.new_cache(replace(split, backend=backend))
    kinds = tell(cache, [(TEXT, 23), (IMAGE, 40), (TEXT, 60)])
    harness.attend(cache, *states(harness, kinds, 6))
    cache.crop(-25)  # behind, up to and into a block that closed early
    query, keys, values = harness.states(1, 2, 1, 16, 7)
    output = harness.attend(cache, query, keys, values)
    held = [part[None] for part in row_states(cache.layers[0], 0)]
    expected = torch.nn.functional.scaled_dot_product_attention(query, *held)
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)


def test_crop_into_a_block_that_closed_early_and_a_new_turn(harness, split):
    cache = harness.new_cache(split)
    kinds = tell(cache, [(TEXT, 23), (IMAGE, 40), (TEXT, 60)])
    harness.attend(cache, *states(harness, kinds, 8))
    assert cache.layers[0].rows[0].lengths == [16, 4, 16, 16, 8, 16, 16]
    before = row_states(cache.layers[0], 0)[0]
    cache.crop(-62)  # into the image's last block
    assert cache.layers[0].rows[0].lengths == [16, 4, 16, 16, 6]
    assert torch.equal(row_states(cache.layers[0], 0)[0], before[:, :61])
    later = tell(cache, [(AUDIO, 30), (IMAGE, 40)])
    harness.attend(cache, *states(harness, later, 9))
    assert cache.layers[0].rows[0].lengths == [16, 4, 16, 16, 6, 16, 14, 16]


def test_empty_places_are_counted(harness, split, tmp_path):
    cache = harness.new_cache(split)
    kinds = tell(cache, [(TEXT, 23), (IMAGE, 40), (TEXT, 60)])
    harness.attend(cache, *states(harness, kinds, 10))
    record = cache.layers[0].compressor.layout.record_bytes
    assert cache.memory().unfilled == (12 + 8) * record // 16
    cache.save(tmp_path / "cache")
    loaded = OscarCache.load(tmp_path / "cache", cache.model_config)
    assert loaded.layers[0].oscar.modality_split == 2.0
    assert loaded.memory().unfilled == cache.memory().unfilled
    assert loaded.layers[0].rows[0].lengths == cache.layers[0].rows[0].lengths


def test_norms_are_read_without_the_key_bias(harness, split):
    """A bias that every token has would make all norms alike."""
    bias = torch.full((2, 16), 400.0)
    cache = OscarCache(harness.model_config(), split, key_biases={0: KeyBias(bias, torch.ones(8))})
    kinds = tell(cache, [(TEXT, 23), (IMAGE, 40), (TEXT, 60)])
    query, keys, values = states(harness, kinds, 11)
    shifted = keys + cache.layers[0].key_bias.rotated(torch.arange(123)).transpose(0, 1)
    harness.attend(cache, query, shifted, values)
    assert cache.layers[0].rows[0].lengths == [16, 4, 16, 16, 8, 16, 16]


def test_few_norms_are_read(harness, split, monkeypatch):
    """However long the prompt."""
    read = []
    norm = torch.Tensor.norm
    monkeypatch.setattr(torch.Tensor, "norm", lambda self, *a, **k: read.append(self.shape) or norm(self, *a, **k))
    cache = harness.new_cache(replace(split, token_norm="none"))
    kinds = tell(cache, [(TEXT, 2000), (IMAGE, 3000), (TEXT, 1000)])
    cache.layers[0].lazy_initialization(*states(harness, kinds, 12)[1:])
    cache.layers[0].append(*states(harness, kinds, 12)[1:], None)
    sampled = [shape[-2] for shape in read if len(shape) == 3]
    assert sampled == [ONLINE.sample] * 2


@pytest.mark.parametrize("wrong", [0.5, 0, -1, float("nan"), float("inf"), True, "2"])
def test_a_ratio_below_one_is_refused(wrong):
    with pytest.raises(ValueError, match="modality_split="):
        OscarConfig(modality_split=wrong)


def test_a_run_of_no_tokens_is_refused():
    with pytest.raises(ValueError, match="modality_split_run=0"):
        OscarConfig(modality_split_run=0)
