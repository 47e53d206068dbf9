"""Triton's attention over packed blocks against fp64 softmax attention over the same codes: on the GPU where there is
one, else in Triton's interpreter."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from oscar_x.compressor import Compressor
from oscar_x.config import PRESETS, OscarConfig, resolve_config
from oscar_x.kernels.decode_attention import joint_attention, packed_attention
from oscar_x.kernels.decode_attention.triton_configs import MERGE_CHUNK, split_config, split_count
from oscar_x.kernels.key_bias import KeyBias
from oscar_x.kernels.triton_support import layout_numbers, layout_of

pytest.importorskip("triton", reason="needs Triton, which has wheels for Linux")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # tests/conftest.py switches the interpreter on
SMALL = {"block_size": 32, "value_scale_rows": 16}  # the interpreter takes its time a block
TOLERANCE = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 1e-2}


def dense(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scaling: float, seen: torch.Tensor):
    scores = query.double() @ keys.double().transpose(-1, -2) * scaling
    scores = scores.masked_fill(~seen, float("-inf"))
    return scores.softmax(-1).nan_to_num() @ values.double(), scores.logsumexp(-1)


def make(config: OscarConfig, head_dim: int = 64, batch: int = 1, blocks: int = 2, heads: int = 1):
    torch.manual_seed(0)
    compressor = Compressor(replace(config, backend="reference"), heads, head_dim)
    shape = (batch * blocks, heads, config.block_size, head_dim)
    spread = torch.exp(torch.rand(*shape[:3], 1) * 4 - 2)
    records = compressor.compress(torch.randn(shape) * spread, torch.randn(shape))
    keys, values = (
        states.unflatten(0, (batch, blocks)).transpose(1, 2).flatten(2, 3) for states in compressor.decompress(records)
    )
    table = torch.arange(batch * blocks).reshape(batch, blocks)
    lengths = torch.full((batch, blocks), config.block_size)
    tensors = (records, keys, values, table, lengths)
    return compressor.layout, *(tensor.to(DEVICE) for tensor in tensors)


def seen_slots(lengths: torch.Tensor, block_size: int) -> torch.Tensor:
    return (torch.arange(block_size, device=DEVICE) < lengths[..., None]).flatten(1)[:, None, None]


def check(config: OscarConfig, head_dim: int = 64, rows: int = 2, dtype: torch.dtype = torch.float32, **sizes: int):
    layout, records, keys, values, table, lengths = make(config, head_dim, **sizes)
    lengths[0, -1] = config.block_size - 3
    query = torch.randn(*keys.shape[:2], rows, head_dim, device=DEVICE).to(dtype)
    expected, expected_lse = dense(query, keys, values, 0.2, seen_slots(lengths, config.block_size))
    output, lse = packed_attention(query, records, table, lengths, layout, 0.2, backend="triton")
    assert output.dtype == lse.dtype == torch.float32
    assert (output - expected).norm() <= TOLERANCE[dtype] * expected.norm()
    assert (lse - expected_lse).abs().max() <= 20 * TOLERANCE[dtype]


@pytest.mark.parametrize("value_bits", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("key_bits", [1, 2, 3, 4, 8])
def test_bits(key_bits: int, value_bits: int) -> None:
    check(resolve_config(key_bits=key_bits, value_bits=value_bits, **SMALL))


@pytest.mark.parametrize("scale_bits", [16, 8, 6, 4, 3, 2])
@pytest.mark.parametrize("group_size", [8, 16, 32])
def test_groups_and_scales(group_size: int, scale_bits: int) -> None:
    groups = {"key_group_size": group_size, "value_group_size": group_size}
    check(resolve_config(scale_bits=scale_bits, **groups, **SMALL))


@pytest.mark.parametrize("group_size", [64, 128, 256])
def test_large_groups(group_size: int) -> None:
    groups = {"key_group_size": group_size, "value_group_size": group_size}
    check(resolve_config(block_size=group_size, **groups), head_dim=128, blocks=1)


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("head_dim", [64, 80, 96, 128, 256])
def test_head_dims_and_dtypes(head_dim: int, dtype: torch.dtype) -> None:
    check(resolve_config(**SMALL), head_dim=head_dim, dtype=dtype)


@pytest.mark.parametrize("preset", list(PRESETS))
@pytest.mark.parametrize("head_dim", [80, 128])
def test_presets_with_their_own_blocks(preset: str, head_dim: int) -> None:
    check(PRESETS[preset], head_dim=head_dim, heads=2, dtype=torch.bfloat16)


@pytest.mark.parametrize(("rows", "head_dim"), [(1, 128), (16, 64), (17, 64), (40, 64), (70, 256), (300, 64)])
def test_query_rows(rows: int, head_dim: int) -> None:
    check(resolve_config(**SMALL), rows=rows, head_dim=head_dim, dtype=torch.float16)


@pytest.mark.parametrize(
    "changes",
    [
        {"value_grouping": "per_channel"},
        {"value_grouping": "per_channel", "value_bits": 3, "scale_bits": 16},
        {"token_norm": "none"},
        {"token_norm": "shared", "norm_bits": 8},
        {"norm_bits": 16},
        {"rotate_keys": False},
        {"rotate_values": False},
        {"block_size": 16},
        {"key_bits": 1, "value_bits": 1, "block_size": 16},
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_variants(changes: dict, dtype: torch.dtype) -> None:
    check(resolve_config(**{**SMALL, **changes}), dtype=dtype)


@pytest.mark.parametrize("length", [0, 1, 31, 32])
def test_lengths_rows_of_a_batch_and_shared_records(length: int) -> None:
    layout, records, keys, values, table, lengths = make(resolve_config(**SMALL), blocks=3, batch=2, heads=2)
    table[1, :2] = table[0, [2, 0]]  # a fork reads its parent's blocks, in its own order
    keys[1, :, :64], values[1, :, :64] = (torch.cat([s[0, :, 64:], s[0, :, :32]], 1) for s in (keys, values))
    lengths[0] = 0
    lengths[1, 1] = length
    query = torch.randn(2, 2, 3, 64, device=DEVICE)
    output, lse = packed_attention(query, records, table, lengths, layout, 0.2, backend="triton")
    expected, expected_lse = dense(query, keys, values, 0.2, seen_slots(lengths, 32))
    assert (output[0] == 0).all()
    assert lse[0].isneginf().all()
    assert (output - expected).norm() <= 1e-3 * expected.norm()
    torch.testing.assert_close(lse[1].double(), expected_lse[1], rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("per_row", [False, True])
def test_the_callers_mask(per_row: bool) -> None:
    layout, records, keys, values, table, lengths = make(resolve_config(**SMALL), batch=2)
    visible = torch.rand(2, 1, 3 if per_row else 1, 64, device=DEVICE) > 0.5
    visible[0, :, -1] = False
    query = torch.randn(2, 1, 3, 64, device=DEVICE)
    output, lse = packed_attention(query, records, table, lengths, layout, 0.2, visible, backend="triton")
    expected, _ = dense(query, keys, values, 0.2, visible)
    assert (output - expected).norm() <= 1e-3 * expected.norm()
    assert lse[0, 0, -1].isneginf()


@pytest.mark.parametrize("axes", [None, "one", "three"])
def test_key_bias_is_put_back_where_it_was(axes: str | None) -> None:
    layout, records, keys, values, table, lengths = make(resolve_config(**SMALL), heads=2)
    pairs = 24  # fewer than half the channels: the rest does not turn
    which = torch.arange(pairs, device=DEVICE) % 3 if axes == "three" else None
    frequencies = 10000.0 ** (-torch.arange(pairs, device=DEVICE) / pairs)
    bias = KeyBias(100 * torch.randn(2, 64, device=DEVICE), frequencies, 1.1, which)
    if axes == "three":
        positions = torch.randint(0, 100_000, (3, 1, 2, 32), device=DEVICE)
        share = bias.placed(positions.flatten(2))
    else:
        positions = torch.tensor([[99_000, 40]], device=DEVICE)
        at = positions[..., None] + torch.arange(32, device=DEVICE)
        share = bias.rotated(at.flatten(1))
        positions = at[None] if axes == "one" else positions
    query = torch.randn(1, 2, 2, 64, device=DEVICE)
    call = query, records, table, lengths, layout, 0.01, None, bias, positions
    output, _ = packed_attention(*call, backend="triton")
    keys = keys + share.transpose(1, 2)
    expected, _ = dense(query, keys, values, 0.01, torch.ones(1, dtype=torch.bool, device=DEVICE))
    assert (output - expected).norm() <= 1e-3 * expected.norm()


@pytest.mark.parametrize("blocks", [1, 5])
@pytest.mark.parametrize("rows", [2, 300])
def test_exact_tokens_are_joined(blocks: int, rows: int) -> None:
    layout, records, keys, values, table, lengths = make(resolve_config(**SMALL), blocks=blocks, batch=2)
    buffers = torch.randn(2, 2, 1, 60, 64, device=DEVICE)
    new_keys, new_values = (buffer[:, :, :37] for buffer in buffers)  # part of a buffer, as a layer holds them
    exact_visible = torch.rand(2, 1, 1, 37, device=DEVICE) > 0.3
    query = torch.randn(2, 1, rows, 64, device=DEVICE)
    call = query, records, table, lengths, layout, 0.2, new_keys, new_values, None, exact_visible
    output, lse = joint_attention(*call, backend="triton")
    seen = torch.cat([seen_slots(lengths, 32).expand(2, 1, 1, -1), exact_visible], -1)
    joined = torch.cat([keys, new_keys], 2), torch.cat([values, new_values], 2)
    expected, expected_lse = dense(query, *joined, 0.2, seen)
    assert (output - expected).norm() <= 1e-3 * expected.norm()
    torch.testing.assert_close(lse.double(), expected_lse, rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(output, joint_attention(*call, backend="reference")[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("head_dim", [64, 80])
@pytest.mark.parametrize("slots", [1, 32, 33, 530])
@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_exact_tokens_of_every_dtype_and_number(dtype: torch.dtype, slots: int, head_dim: int) -> None:
    layout, records, keys, values, table, lengths = make(resolve_config(**SMALL), head_dim, blocks=3, batch=3)
    # as a captured step holds them: slots by the longest sequence, and what is behind the others' was never written
    held = torch.tensor([slots, slots // 2, 0], device=DEVICE)
    new = torch.randn(2, 3, 1, slots, head_dim, device=DEVICE).to(dtype)
    there = torch.arange(slots, device=DEVICE) < held[:, None]
    poisoned = new.masked_fill(~there[None, :, None, :, None], float("nan"))
    query = torch.randn(3, 1, 5, head_dim, device=DEVICE).to(dtype)
    call = query, records, table, lengths, layout, 0.2, *poisoned
    output, lse = joint_attention(*call, backend="triton", exact_lengths=held)
    seen = torch.cat([seen_slots(lengths, 32), there[:, None, None]], -1)
    expected, expected_lse = dense(query, torch.cat([keys, new[0]], 2), torch.cat([values, new[1]], 2), 0.2, seen)
    assert (output - expected).norm() <= TOLERANCE[dtype] * expected.norm()
    assert (lse - expected_lse).abs().max() <= 20 * TOLERANCE[dtype]


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_magnitudes_beyond_fp16(factor: float) -> None:
    compressor = Compressor(resolve_config(**SMALL), 1, 64)
    records = compressor.compress(torch.randn(1, 1, 32, 64) / factor, torch.randn(1, 1, 32, 64) * factor)
    keys, values = compressor.decompress(records)
    query, ones = torch.randn(1, 1, 2, 64) * factor, torch.ones(1, dtype=torch.bool)
    expected, _ = dense(query, keys, values, 0.2, ones)
    table, lengths = torch.zeros(1, 1, dtype=torch.int64), torch.full((1, 1), 32)
    tensors = (tensor.to(DEVICE) for tensor in (query, records, table, lengths))
    output, _ = packed_attention(*tensors, compressor.layout, 0.2, backend="triton")
    assert ((output.cpu().double() - expected) / factor).norm() <= 1e-3 * (expected / factor).norm()


def test_bad_arguments_are_named() -> None:
    layout, records, _, _, table, lengths = make(resolve_config(**SMALL))
    query = torch.randn(1, 1, 2, 64, device=DEVICE)
    call = {"query": query, "records": records, "table": table, "lengths": lengths, "layout": layout, "scaling": 0.2}
    wide = torch.cat([records, records], 1)[:, : records.shape[1]]
    cases = [
        ({"records": wide}, ValueError, "records must be contiguous"),
        ({"table": table.repeat_interleave(2, 1)[:, ::2]}, ValueError, "table must be contiguous"),
        ({"lengths": lengths.int()}, TypeError, "int64"),
        ({"query": query.transpose(-1, -2).contiguous().transpose(-1, -2)}, ValueError, "contiguous along head_dim"),
        ({"query": query.double()}, ValueError, "float64"),
        ({"layout": replace(layout, block_size=24)}, ValueError, "records must be"),
    ]
    for change, error, words in cases:
        with pytest.raises(error, match=words):
            packed_attention(**{**call, **change}, backend="triton")
    odd, records, _, _, table, lengths = make(resolve_config(block_size=48, value_scale_rows=16))
    with pytest.raises(ValueError, match="backend='triton' cannot be used here: block_size=48"):
        packed_attention(query, records, table, lengths, odd, 0.2, backend="triton")


def test_layouts_survive_the_operators_schema() -> None:
    for config in (*PRESETS.values(), resolve_config(value_grouping="per_channel", token_norm="none")):
        layout = Compressor(config, 3, 96).layout
        assert layout_of(layout_numbers(layout)) == layout


def test_the_operator_is_one_for_torch_compile() -> None:
    from oscar_x.kernels.decode_attention.triton import packed_attention_op

    layout, records, _, _, table, lengths = make(resolve_config(**SMALL))
    query = torch.randn(1, 1, 2, 64, device=DEVICE)
    arguments = (query, records, table, lengths, layout_numbers(layout), 0.2, None, [], 1.0, [], None, None, None)
    torch.library.opcheck(
        packed_attention_op,
        arguments,
        test_utils=("test_schema", "test_faketensor", "test_autograd_registration"),
    )


@pytest.mark.parametrize("head_dim", [64, 128, 256])
@pytest.mark.parametrize("blocks", [1, 7, 1024, 8192])
@pytest.mark.parametrize("rows", [1, 5, 64, 4096])
def test_splits_leave_no_share_without_blocks(head_dim: int, blocks: int, rows: int) -> None:
    config = split_config(head_dim, rows)
    splits = split_count(config, 8 * -(-rows // config.rows), blocks, rows, 132)
    assert 1 <= splits <= blocks
    assert splits == 1 or blocks // splits >= config.least_blocks


def test_a_launch_fills_the_device_once_and_the_merge_no_round_more() -> None:
    config = split_config(128, 4)
    together = config.programs * 132
    for tiles in (1, 2, 8, 100, 1000, 5000):
        splits = split_count(config, tiles, 8192, 4, 132, others=9)
        assert splits == 1 or tiles * (splits + 9) <= together
        assert splits <= MERGE_CHUNK or splits % MERGE_CHUNK == 0
