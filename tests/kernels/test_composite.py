"""Layers whose KV heads are stored in several ways: every head is what it would be in a layer of its own."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from oscar_x.compressor import Compressor, block_layout, head_ways
from oscar_x.config import OscarConfig, resolve_config
from oscar_x.head_groups import HeadGroup
from oscar_x.kernels.composite import CompositeLayout, composite_layout
from oscar_x.kernels.compress import compress_blocks
from oscar_x.kernels.decode_attention import exact_attention, joint_attention, merge_attention, packed_attention
from oscar_x.kernels.key_bias import KeyBias
from oscar_x.kernels.triton_support import has_triton, layout_numbers, layout_of

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # tests/conftest.py switches Triton's interpreter on
HEADS, HEAD_DIM, BLOCKS = 4, 16, 2
# heads 0 and 3 as the layer, neighbours 1 and 2 apart; then a group of heads that are no neighbours
GROUPS = {
    "three ways": (HeadGroup((1,), key_bits=3, value_group_size=8), HeadGroup((2,), value_grouping="per_channel")),
    "no neighbours": (HeadGroup((0, 3), value_bits=4, key_group_size=8, scale_bits=3),),
    "neighbours": (HeadGroup((2, 3), key_bits=1, value_bits=8, scale_bits=8),),
}
BACKENDS = ["reference", "auto", *(["triton"] if has_triton() else [])]


@pytest.fixture(params=list(GROUPS))
def config(request) -> OscarConfig:
    return resolve_config(block_size=32, value_scale_rows=16, head_groups=GROUPS[request.param])


def states(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    spread = torch.exp(torch.rand(*shape[:-1], 1) * 4 - 2)
    keys = torch.randn(shape) * spread
    # norms are computed in units of the largest rotated element: the same for every head, or roundings may differ
    keys[:, :, 0] = 0
    keys[:, :, 0, 0] = 256
    return keys.to(DEVICE), torch.randn(shape).to(DEVICE)


def alone(config: OscarConfig, head: int) -> OscarConfig:
    """The settings of a layer that has this head only."""
    group = next((group for group in config.head_groups if head in group.heads), None)
    return replace(config, head_groups=(), **(group.changes if group else {}))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_head_is_stored_as_it_would_be_alone(config, backend) -> None:
    keys, values = states(BLOCKS, HEADS, 32, HEAD_DIM)
    compressor = Compressor(replace(config, backend=backend), HEADS, HEAD_DIM)
    held = compressor.decompress(compressor.compress(keys, values))
    for head in range(HEADS):
        single = Compressor(replace(alone(config, head), backend=backend), 1, HEAD_DIM)
        expected = single.decompress(single.compress(keys[:, [head]], values[:, [head]]))
        assert all(torch.equal(mine[:, [head]], theirs) for mine, theirs in zip(held, expected, strict=True))


@pytest.mark.parametrize("backend", BACKENDS)
def test_records_in_a_pool_leave_the_others_as_they_are(config, backend) -> None:
    keys, values = states(BLOCKS, HEADS, 32, HEAD_DIM)
    layout = block_layout(config, HEADS, HEAD_DIM)
    expected = compress_blocks(keys, values, layout, backend=backend)
    pool = torch.zeros(5, layout.record_bytes, dtype=torch.uint8, device=DEVICE)
    written = torch.tensor([3, 0], device=DEVICE)
    compress_blocks(keys, values, layout, pool, written, backend)
    assert torch.equal(pool[written], expected)
    assert not pool[[1, 2, 4]].any()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_that_of_every_head_alone(config, backend, masked) -> None:
    compressor = Compressor(replace(config, backend="reference"), HEADS, HEAD_DIM)
    keys, values = states(BLOCKS, HEADS, 32, HEAD_DIM)
    records = compressor.compress(keys, values)
    table, lengths = torch.arange(BLOCKS, device=DEVICE)[None], torch.tensor([[32, 20]], device=DEVICE)
    query = torch.randn(1, HEADS, 3, HEAD_DIM).to(DEVICE)
    visible = (torch.rand(1, 1, 3, 32 * BLOCKS) > 0.3).to(DEVICE) if masked else None
    bias = KeyBias(5 * torch.randn(HEADS, HEAD_DIM), 100.0 ** (-torch.arange(8) / 8)).to(DEVICE) if masked else None
    positions = torch.tensor([[0, 32]], device=DEVICE) if masked else None
    seen = visible, bias, positions
    output, lse = packed_attention(query, records, table, lengths, compressor.layout, 0.3, *seen, backend)
    for head in range(HEADS):
        single = Compressor(replace(alone(config, head), backend="reference"), 1, HEAD_DIM)
        own = single.compress(keys[:, [head]], values[:, [head]])
        share = None if bias is None else replace(bias, bias=bias.bias[[head]])
        call = query[:, [head]], own, table, lengths, single.layout, 0.3, visible, share, positions, "reference"
        expected, expected_lse = packed_attention(*call)
        torch.testing.assert_close(output[:, [head]], expected, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(lse[:, [head]], expected_lse, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_exact_tokens_join_in(config, backend) -> None:
    compressor = Compressor(replace(config, backend="reference"), HEADS, HEAD_DIM)
    records = compressor.compress(*states(BLOCKS, HEADS, 32, HEAD_DIM))
    keys, values = states(1, HEADS, 5, HEAD_DIM)
    table, lengths = torch.arange(BLOCKS, device=DEVICE)[None], torch.full((1, BLOCKS), 32, device=DEVICE)
    query = torch.randn(1, HEADS, 1, HEAD_DIM).to(DEVICE)
    call = query, records, table, lengths, compressor.layout, 0.3
    output, lse = joint_attention(*call, keys, values, backend=backend)
    packed = packed_attention(*call, backend="reference")
    expected, expected_lse = merge_attention([exact_attention(query, keys, values, 0.3), packed])
    torch.testing.assert_close(output, expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(lse, expected_lse, rtol=1e-3, atol=1e-4)


def test_bytes_are_the_sum_of_the_heads(config) -> None:
    layout = block_layout(config, HEADS, HEAD_DIM)
    assert isinstance(layout, CompositeLayout)
    singles = [block_layout(alone(config, head), 1, HEAD_DIM) for head in range(HEADS)]
    assert layout.record_bytes == sum(single.record_bytes for single in singles)
    assert layout.bits_per_element == pytest.approx(sum(single.bits_per_element for single in singles) / HEADS)
    for name, size in layout.bytes_by_part().items():
        assert size == sum(single.bytes_by_part()[name] for single in singles)
    assert all(layout_of(layout_numbers(part.layout)) == part.layout for part in layout.parts)


def test_heads_that_are_stored_alike_make_one_part() -> None:
    same = resolve_config(head_groups=(HeadGroup((1,), key_bits=2), HeadGroup((2,), scale_bits=4)))
    assert block_layout(same, HEADS, HEAD_DIM) == block_layout(OscarConfig(), HEADS, HEAD_DIM)
    two = resolve_config(head_groups=(HeadGroup((0,), key_bits=3), HeadGroup((2,), key_bits=3)))
    assert [heads for heads, _ in head_ways(two, HEADS)] == [(0, 2), (1, 3)]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([HeadGroup((1,)), HeadGroup((0, 1))], "head_groups is not allowed to name KV head 1 in two groups"),
        ([HeadGroup((head,)) for head in range(4)], "head_groups has 4 groups; use at most 3"),
        ([HeadGroup((0,), key_bits=5)], "key_bits=5 is not allowed"),
        ([HeadGroup((0,), key_bits=16, value_bits=16)], r"head_groups: KV heads \[0\] have 16 bits"),
        ([HeadGroup((0,), key_group_size=256)], "block_size=128 is not a multiple of key_group_size=256"),
    ],
)
def test_refused_groups(groups, message) -> None:
    with pytest.raises(ValueError, match=message):
        OscarConfig(head_groups=tuple(groups))


def test_what_cannot_be_told_apart_by_head() -> None:
    with pytest.raises(ValueError, match="head_groups is not allowed here: token_norm='shared' is one norm for all"):
        resolve_config("paper", head_groups=(HeadGroup((0,), key_bits=3),))
    with pytest.raises(ValueError, match="head_groups is not allowed here: 16 bits are no compression"):
        resolve_config(kv_bits=16, head_groups=(HeadGroup((0,), key_bits=3),))
    for heads in ((), (1, 0), (-1,), (0, 0), ("a",)):
        with pytest.raises(ValueError, match="of a head group is not allowed; use ascending KV head numbers"):
            HeadGroup(heads)
    with pytest.raises(ValueError, match="settings for KV head 4, but the layer has 4, 0 to 3"):
        block_layout(resolve_config(head_groups=(HeadGroup((4,), key_bits=3),)), HEADS, HEAD_DIM)


def test_layouts_that_make_no_record() -> None:
    plain, shared = block_layout(OscarConfig(), 2, HEAD_DIM), block_layout(resolve_config("paper"), 2, HEAD_DIM)
    for ways, message in (
        ([((0, 1), plain), ((1, 2), plain)], "each from 0 on must be named once"),
        ([((0, 1), plain), ((2, 3), replace(plain, block_size=64))], "one block_size and one head_dim"),
        ([((0, 1), plain), ((2,), plain)], "a part of 1 heads has a layout for 2"),
        ([((0, 1), plain), ((2, 3), shared)], "one norm for all heads of a layer"),
    ):
        with pytest.raises(ValueError, match=message):
            composite_layout(ways)
