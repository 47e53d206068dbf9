"""Attention over packed blocks against plain softmax attention in fp64 over the same codes."""

from __future__ import annotations

import pytest
import torch

from oscar_x.compressor import Compressor
from oscar_x.config import PRESETS, OscarConfig, resolve_config
from oscar_x.kernels.decode_attention import exact_attention, merge_attention, packed_attention
from oscar_x.kernels.key_bias import KeyBias

HEADS = 2


def dense(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scaling: float, seen: torch.Tensor):
    scores = query.double() @ keys.double().transpose(-1, -2) * scaling
    scores = scores.masked_fill(~seen, float("-inf"))
    return scores.softmax(-1).nan_to_num() @ values.double(), scores.logsumexp(-1)


def make(config: OscarConfig, head_dim: int, batch: int, blocks: int):
    compressor = Compressor(config, HEADS, head_dim)
    shape = (batch * blocks, HEADS, config.block_size, head_dim)
    # token norms spread over two decades, as attention sinks and media tokens spread them
    spread = torch.exp(torch.rand(*shape[:3], 1) * 4 - 2)
    records = compressor.compress(torch.randn(shape) * spread, torch.randn(shape))
    keys, values = (
        states.unflatten(0, (batch, blocks)).transpose(1, 2).flatten(2, 3) for states in compressor.decompress(records)
    )
    return compressor.layout, records, keys, values


def check(config: OscarConfig, head_dim: int = 64, rows: int = 3, batch: int = 2, blocks: int = 3) -> None:
    layout, records, keys, values = make(config, head_dim, batch, blocks)
    table = torch.arange(batch * blocks).reshape(batch, blocks)
    lengths = torch.full((batch, blocks), config.block_size)
    lengths[0, -1], lengths[1, 0] = 0, 5  # a missing block and a cropped one
    seen = (torch.arange(config.block_size) < lengths[..., None]).flatten(1)[:, None, None]
    query = torch.randn(batch, HEADS, rows, head_dim)
    expected, expected_lse = dense(query, keys, values, 0.2, seen)
    for backend in ("reference", "auto"):
        output, lse = packed_attention(query, records, table, lengths, layout, 0.2, backend=backend)
        assert (output - expected).norm() <= 1e-3 * expected.norm()
        torch.testing.assert_close(lse.double(), expected_lse, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("key_bits", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("value_bits", [1, 2, 3, 4, 8])
def test_bits(key_bits: int, value_bits: int) -> None:
    check(resolve_config(key_bits=key_bits, value_bits=value_bits))


@pytest.mark.parametrize("group_size", [8, 16, 32, 64, 128, 256])
@pytest.mark.parametrize("scale_bits", [16, 8, 6, 4, 3, 2])
def test_groups_and_scales(group_size: int, scale_bits: int) -> None:
    check(resolve_config(key_group_size=group_size, value_group_size=group_size, scale_bits=scale_bits))


@pytest.mark.parametrize("head_dim", [64, 80, 96, 128, 256])
@pytest.mark.parametrize("preset", list(PRESETS))
def test_head_dims(head_dim: int, preset: str) -> None:
    check(PRESETS[preset], head_dim=head_dim)


@pytest.mark.parametrize("rows", [1, 16, 64, 1000])
def test_rows(rows: int) -> None:
    check(PRESETS["balanced"], rows=rows)


@pytest.mark.parametrize(
    "changes",
    [
        {"value_grouping": "per_channel"},
        {"token_norm": "none"},
        {"token_norm": "shared", "norm_bits": 8},
        {"norm_bits": 16},
        {"rotate_keys": False},
        {"rotate_values": False},
        {"block_size": 32},
        {"block_size": 256},
    ],
)
def test_variants(changes: dict) -> None:
    check(resolve_config(**changes))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_queries_of_16_bits(dtype: torch.dtype) -> None:
    layout, records, keys, values = make(PRESETS["balanced"], 64, 1, 2)
    query = torch.randn(1, HEADS, 4, 64, dtype=dtype)
    table, lengths = torch.arange(2)[None], torch.full((1, 2), 128)
    output, _ = packed_attention(query, records, table, lengths, layout, 0.2)
    expected, _ = dense(query, keys, values, 0.2, torch.ones(1, dtype=torch.bool))
    assert (output - expected).norm() <= 1e-2 * expected.norm()


def test_the_callers_mask_and_rows_that_see_nothing() -> None:
    layout, records, keys, values = make(PRESETS["balanced"], 64, 1, 2)
    table, lengths = torch.tensor([[1, 0]]), torch.tensor([[128, 100]])
    keys, values = (torch.cat([s[:, :, 128:], s[:, :, :128]], 2) for s in (keys, values))
    visible = torch.rand(1, 1, 3, 256) > 0.5
    visible[:, :, 1] = False
    query = torch.randn(1, HEADS, 3, 64)
    output, lse = packed_attention(query, records, table, lengths, layout, 0.2, visible)
    seen = visible & (torch.arange(256) < 228)
    expected, _ = dense(query, keys, values, 0.2, seen)
    assert (output - expected).norm() <= 1e-3 * expected.norm()
    assert (output[:, :, 1] == 0).all()
    assert lse[:, :, 1].isneginf().all()


def test_key_bias_is_put_back_where_it_was() -> None:
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
    expected, _ = dense(query, keys + share, values, 0.1, torch.ones(1, dtype=torch.bool))
    assert (output - expected).norm() <= 1e-3 * expected.norm()


def test_parts_merge_to_the_whole() -> None:
    query, keys, values = torch.randn(2, HEADS, 5, 64), torch.randn(2, HEADS, 90, 64), torch.randn(2, HEADS, 90, 64)
    edges = [(0, 1), (1, 40), (40, 90)]
    parts = [exact_attention(query, keys[:, :, a:b], values[:, :, a:b], 0.3) for a, b in edges]
    output, lse = merge_attention(parts)
    expected, expected_lse = dense(query, keys, values, 0.3, torch.ones(1, dtype=torch.bool))
    torch.testing.assert_close(output.double(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(lse.double(), expected_lse, rtol=1e-5, atol=1e-4)


def test_bad_arguments_are_named() -> None:
    layout, records, _, _ = make(PRESETS["balanced"], 64, 1, 1)
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
