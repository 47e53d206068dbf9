"""The parts of attention, and what its wrapper refuses; test_parity.py compares backends over all parameters."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch

from oscar_x.compressor import Compressor
from oscar_x.config import PRESETS
from oscar_x.kernels.decode_attention import exact_attention, merge_attention, packed_attention
from oscar_x.kernels.key_bias import KeyBias

HEADS = 2


@pytest.fixture
def attention(support) -> ModuleType:
    return support("attention_case")


def test_key_bias_is_put_back_where_it_was(attention) -> None:
    config = PRESETS["balanced"]
    compressor = Compressor(config, HEADS, 64)
    bias = KeyBias(20 * torch.randn(HEADS, 64), 10000.0 ** (-torch.arange(32) / 32))
    positions = torch.arange(4, 4 + 256)
    share = bias.rotated(positions).transpose(0, 1)
    plain, values = torch.randn(2, HEADS, 128, 64), torch.randn(2, HEADS, 128, 64)
    records = compressor.compress(plain, values)
    keys, values = (s.transpose(0, 1).flatten(1, 2)[None] for s in compressor.decompress(records))
    query = torch.randn(1, HEADS, 2, 64)
    table, lengths, first = torch.arange(2)[None], torch.full((1, 2), 128), torch.tensor([[4, 132]])
    output, _ = packed_attention(query, records, table, lengths, compressor.layout, 0.1, None, bias, first)
    expected, _ = attention.dense(query, keys + share, values, torch.ones(1, dtype=torch.bool), 0.1)
    assert (output - expected).norm() <= 1e-3 * expected.norm()


def test_parts_merge_to_the_whole(attention) -> None:
    query, keys, values = torch.randn(2, HEADS, 5, 64), torch.randn(2, HEADS, 90, 64), torch.randn(2, HEADS, 90, 64)
    edges = [(0, 1), (1, 40), (40, 90)]
    parts = [exact_attention(query, keys[:, :, a:b], values[:, :, a:b], 0.3) for a, b in edges]
    output, lse = merge_attention(parts)
    expected, expected_lse = attention.dense(query, keys, values, torch.ones(1, dtype=torch.bool), 0.3)
    torch.testing.assert_close(output.double(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(lse.double(), expected_lse, rtol=1e-5, atol=1e-4)


def test_bad_arguments_are_named(attention) -> None:
    layout, records, _, _ = attention.make(PRESETS["balanced"], 64, 1, 1)
    query, table, lengths = torch.randn(1, HEADS, 1, 64), torch.zeros(1, 1, dtype=torch.int64), torch.ones(1, 1).long()
    with pytest.raises(ValueError, match="query has shape"):
        packed_attention(query[..., :32], records, table, lengths, layout, 1.0)
    with pytest.raises(ValueError, match="records must be"):
        packed_attention(query, records[:, :-16], table, lengths, layout, 1.0)
    with pytest.raises(ValueError, match="at least one block"):
        packed_attention(query, records, table[:, :0], lengths[:, :0], layout, 1.0)
    with pytest.raises(ValueError, match="go together"):
        packed_attention(query, records, table, lengths, layout, 1.0, positions=table)
    with pytest.raises(ValueError, match="parts is empty"):
        merge_attention([])
