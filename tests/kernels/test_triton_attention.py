"""What is particular to Triton's attention, on the GPU where there is one, else in Triton's interpreter; test_parity.py
compares it with other backends."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import pytest
import torch

from oscar_x.compressor import Compressor
from oscar_x.config import PRESETS, OscarConfig, resolve_config
from oscar_x.kernels.decode_attention import packed_attention
from oscar_x.kernels.decode_attention.triton_configs import MERGE_CHUNK, split_config, split_count
from oscar_x.kernels.key_bias import KeyBias
from oscar_x.kernels.triton_support import layout_numbers, layout_of

pytest.importorskip("triton", reason="needs Triton, which has wheels for Linux")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # tests/conftest.py switches the interpreter on
SMALL = {"block_size": 32, "value_scale_rows": 16}  # the interpreter takes its time a block


@pytest.fixture
def attention(support) -> ModuleType:
    return support("attention_case")


def make(
    attention: ModuleType, config: OscarConfig, head_dim: int = 64, batch: int = 1, blocks: int = 2, heads: int = 1
):
    """A layout, records, the states that they stand for, their numbers and lengths, on Triton's device."""
    torch.manual_seed(0)
    layout, *tensors = attention.make(config, 64, batch, blocks, heads)
    table = torch.arange(batch * blocks).reshape(batch, blocks)
    lengths = torch.full((batch, blocks), config.block_size)
    return layout, *(tensor.to(DEVICE) for tensor in (*tensors, table, lengths))


@pytest.mark.parametrize("length", [0, 1, 31, 32])
def test_lengths_rows_of_a_batch_and_shared_records(attention, length: int) -> None:
    layout, records, keys, values, table, lengths = make(attention, resolve_config(**SMALL), blocks=3, batch=2, heads=2)
    table[1, :2] = table[0, [2, 0]]  # a fork reads its parent's blocks, in its own order
    keys[1, :, :64], values[1, :, :64] = (torch.cat([s[0, :, 64:], s[0, :, :32]], 1) for s in (keys, values))
    lengths[0] = 0
    lengths[1, 1] = length
    query = torch.randn(2, 2, 3, 64, device=DEVICE)
    output, lse = packed_attention(query, records, table, lengths, layout, 0.2, backend="triton")
    expected, expected_lse = attention.dense(query, keys, values, attention.seen_slots(lengths, 32))
    assert (output[0] == 0).all()
    assert lse[0].isneginf().all()
    assert (output - expected).norm() <= 1e-3 * expected.norm()
    torch.testing.assert_close(lse[1].double(), expected_lse[1], rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("axes", [None, "one", "three"])
def test_key_bias_is_put_back_where_it_was(attention, axes: str | None) -> None:
    layout, records, keys, values, table, lengths = make(attention, resolve_config(**SMALL), heads=2)
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
    expected, _ = attention.dense(query, keys, values, torch.ones(1, dtype=torch.bool, device=DEVICE), 0.01)
    assert (output - expected).norm() <= 1e-3 * expected.norm()


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_magnitudes_beyond_fp16(attention, factor: float) -> None:
    compressor = Compressor(resolve_config(**SMALL), 1, 64)
    records = compressor.compress(torch.randn(1, 1, 32, 64) / factor, torch.randn(1, 1, 32, 64) * factor)
    keys, values = compressor.decompress(records)
    query, ones = torch.randn(1, 1, 2, 64) * factor, torch.ones(1, dtype=torch.bool)
    expected, _ = attention.dense(query, keys, values, ones)
    table, lengths = torch.zeros(1, 1, dtype=torch.int64), torch.full((1, 1), 32)
    tensors = (tensor.to(DEVICE) for tensor in (query, records, table, lengths))
    output, _ = packed_attention(*tensors, compressor.layout, 0.2, backend="triton")
    assert ((output.cpu().double() - expected) / factor).norm() <= 1e-3 * (expected / factor).norm()


def test_bad_arguments_are_named(attention) -> None:
    layout, records, _, _, table, lengths = make(attention, resolve_config(**SMALL))
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
    odd, records, _, _, table, lengths = make(attention, resolve_config(block_size=48, value_scale_rows=16))
    with pytest.raises(ValueError, match="backend='triton' cannot be used here: block_size=48"):
        packed_attention(query, records, table, lengths, odd, 0.2, backend="triton")


def test_layouts_survive_the_operators_schema() -> None:
    for config in (*PRESETS.values(), resolve_config(value_grouping="per_channel", token_norm="none")):
        layout = Compressor(config, 3, 96).layout
        assert layout_of(layout_numbers(layout)) == layout


def test_the_operator_is_one_for_torch_compile(attention) -> None:
    from oscar_x.kernels.decode_attention.triton import packed_attention_op

    layout, records, _, _, table, lengths = make(attention, resolve_config(**SMALL))
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
