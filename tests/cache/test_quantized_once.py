"""Each token is quantized once, however it came and whatever is taken back."""

from __future__ import annotations

import pytest
import torch

from oscar_x.compressor import Compressor

HEADS, HEAD_DIM = 2, 16


@pytest.fixture
def packed_tokens(monkeypatch):
    """Keys of every token given to a compressor, in order."""
    given = []
    compress = Compressor.compress

    def counted(self, key_states, value_states, *where):
        given.extend(key_states.transpose(1, 2).flatten(0, 1).flatten(1).clone().unbind())
        return compress(self, key_states, value_states, *where)

    monkeypatch.setattr(Compressor, "compress", counted)
    return given


def feed(harness, cache, counts, seed=0):
    """The states given, [1, heads, sum(counts), head_dim]."""
    query, keys, values = harness.states(1, HEADS, sum(counts), HEAD_DIM, seed)
    start = 0
    for count in counts:
        part = slice(start, start + count)
        harness.attend(cache, query[:, :, part], keys[:, :, part], values[:, :, part])
        start += count
    return keys, values


@pytest.mark.parametrize("counts", [[1] * 250, [100, *[1] * 150], [37, 90, 1, 1, 60, *[1] * 60]])
def test_no_token_is_given_to_the_compressor_twice(harness, packed_tokens, counts):
    cache = harness.new_cache()
    keys, _ = feed(harness, cache, counts)
    row = cache.layers[0].rows[0]
    assert row.packed > 150
    assert len(packed_tokens) == row.packed
    first = harness.SMALL.sink_tokens
    expected = keys[0, :, first : first + row.packed].transpose(0, 1).flatten(1)
    assert torch.equal(torch.stack(packed_tokens), expected)


def test_flush_packs_the_window_and_nothing_else(harness, packed_tokens):
    cache = harness.new_cache()
    keys, _ = feed(harness, cache, [70])
    before = len(packed_tokens)
    cache.flush()
    cache.flush()
    row = cache.layers[0].rows[0]
    assert (row.packed, row.residual) == (70 - harness.SMALL.sink_tokens, 0)
    # the last block is filled up with copies of its last token
    block_size = harness.SMALL.block_size
    assert len(packed_tokens) - before == -(-(row.packed - before) // block_size) * block_size
    assert torch.equal(packed_tokens[-1], keys[0, :, -1].flatten())


def test_crop_keeps_codes(harness, packed_tokens):
    cache = harness.new_cache()
    feed(harness, cache, [120])
    layer, row = cache.layers[0], cache.layers[0].rows[0]
    block_size = harness.SMALL.block_size
    records, blocks, given = layer.pool.records.clone(), list(row.blocks), len(packed_tokens)
    cache.crop(-(row.residual + block_size + 5))
    assert row.residual == 0
    assert row.blocks == blocks[:-1]
    assert row.lengths == [block_size] * (len(blocks) - 2) + [block_size - 5]
    assert torch.equal(layer.pool.records[row.blocks], records[row.blocks])
    feed(harness, cache, [1] * 60, seed=1)
    assert row.blocks[: len(blocks) - 1] == blocks[:-1]
    assert torch.equal(layer.pool.records[blocks[:-1]], records[blocks[:-1]])
    assert row.lengths[len(blocks) - 2] == block_size - 5
    assert len(packed_tokens) - given == sum(row.lengths[len(blocks) - 1 :])


def test_rejected_candidates_leave_no_trace(harness):
    """Chunks up to the residual window that are rolled back: the same bytes as if they had never come."""
    query, keys, values = harness.states(1, HEADS, 140, HEAD_DIM, seed=2)
    straight, rolled = harness.new_cache(), harness.new_cache()
    for at in range(140):
        part = slice(at, at + 1)
        harness.attend(straight, query[:, :, part], keys[:, :, part], values[:, :, part])
    at = 0
    while at < 140:
        count = min(1 + at % 19, 140 - at)
        part, kept = slice(at, at + count), max(1, count // 3)
        harness.attend(rolled, query[:, :, part], keys[:, :, part], values[:, :, part])
        if count > kept:
            rolled.crop(kept - count)
        at += kept
    first, second = straight.layers[0], rolled.layers[0]
    first.pack_due()
    second.pack_due()
    assert first.rows[0].lengths == second.rows[0].lengths
    assert torch.equal(first.pool.records[first.rows[0].blocks], second.pool.records[second.rows[0].blocks])
