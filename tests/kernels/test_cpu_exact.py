"""Exact tokens in the compiled loops, beside packed blocks, against the reference's two parts."""

from __future__ import annotations

import pytest
import torch

from oscar_x.compressor import Compressor
from oscar_x.config import PRESETS, resolve_config
from oscar_x.kernels.decode_attention import cpu, joint_attention
from oscar_x.kernels.decode_attention.cpu_features import available_sets

HEADS = 2
TOLERANCE = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 1e-2}


def case(tokens: int, *, batch: int = 1, rows: int = 4, head_dim: int = 64, dtype=torch.float32, config=None):
    """A call of joint_attention whose exact tokens lie in a larger buffer, with NaN where no token is."""
    torch.manual_seed(tokens + rows)
    compressor = Compressor(config or PRESETS["balanced"], HEADS, head_dim)
    size = compressor.layout.block_size
    records = compressor.compress(*torch.randn(2, 3, HEADS, size, head_dim).unbind())
    table, lengths = torch.arange(3).repeat(batch, 1), torch.tensor([[size, 1, size - 1]]).repeat(batch, 1)
    held = torch.full((2, batch, HEADS, tokens + 7, head_dim), torch.nan, dtype=dtype)
    held[:, :, :, :tokens] = torch.randn(2, batch, HEADS, tokens, head_dim)
    query = torch.randn(batch, HEADS, rows, head_dim, dtype=dtype)
    return [query, records, table, lengths, compressor.layout, 0.2, *held[:, :, :, :tokens].unbind()]


def check(found, expected, dtype: torch.dtype) -> None:
    (output, lse), (right, right_lse) = found, expected
    assert output.isfinite().all()
    assert (output - right).norm() <= TOLERANCE[dtype] * right.norm()
    torch.testing.assert_close(lse, right_lse, rtol=1e-3, atol=2e-3)


def compare(call, exact_lengths: torch.Tensor | None = None) -> None:
    query, *packed, keys, values = call
    expected = joint_attention(*call, exact_lengths=exact_lengths, backend="reference")
    assert cpu.joins(query, keys, values)
    for name in available_sets():
        found = cpu.packed_attention(query, *packed, instructions=name, exact=(keys, values, exact_lengths))
        check(found, expected, query.dtype)


@pytest.mark.parametrize("tokens", [1, 5, 127, 128, 129, 300])
@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_every_length_and_dtype(tokens: int, dtype: torch.dtype) -> None:
    compare(case(tokens, dtype=dtype))


@pytest.mark.parametrize("head_dim", [64, 80, 128, 256])
@pytest.mark.parametrize("rows", [1, 3, 16, 32])
def test_head_dims_and_rows(head_dim: int, rows: int) -> None:
    compare(case(40, head_dim=head_dim, rows=rows, dtype=torch.bfloat16))


@pytest.mark.parametrize("preset", list(PRESETS))
def test_presets_and_no_rotation(preset: str) -> None:
    compare(case(40, config=PRESETS[preset]))
    compare(case(40, config=resolve_config(preset, rotate_keys=False, rotate_values=False)))


@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_rows_of_a_batch_hold_different_numbers_of_exact_tokens(dtype: torch.dtype) -> None:
    call = case(30, batch=3, dtype=dtype)
    counts = torch.tensor([30, 1, 17])
    for row, count in enumerate(counts):
        for states in call[-2:]:
            states[row, :, count:] = torch.nan
    found = joint_attention(*call, exact_lengths=counts)
    for row, count in enumerate(counts):
        query, records, table, lengths, layout, scaling, keys, values = call
        alone = slice(row, row + 1)
        states = keys[alone, :, :count], values[alone, :, :count]
        expected = joint_attention(
            query[alone], records, table[alone], lengths[alone], layout, scaling, *states, backend="reference"
        )
        check([part[alone] for part in found], expected, dtype)


def test_halves_of_every_size_are_read() -> None:
    """Subnormal, small, large and negative numbers of 16 bits come out as they are."""
    for dtype in (torch.float16, torch.bfloat16):
        call = case(8, rows=1, dtype=dtype)
        query, *_, keys, values = call
        call[3].zero_()  # nothing but the exact tokens
        query.zero_()  # which all weigh the same
        keys.zero_()
        numbers = torch.tensor([0.0, 6e-8, -6e-8, 3e-5, -1.0, 0.333, 60000.0, -60000.0]).to(dtype)
        values[:] = numbers[:, None]
        found = joint_attention(*call)[0]
        torch.testing.assert_close(found, torch.full_like(found, numbers.float().mean()), rtol=1e-5, atol=1e-3)
        values[:] = numbers[1].item()
        torch.testing.assert_close(
            joint_attention(*call)[0], torch.full_like(found, numbers[1].item()), rtol=1e-3, atol=0
        )


def test_other_types_and_masks_take_the_parts_apart() -> None:
    call = case(20, dtype=torch.bfloat16)
    query, keys, values = call[0], *call[-2:]
    assert not cpu.joins(query, keys.float(), values.float())
    assert not cpu.joins(query.double(), keys.double(), values.double())
    seen = torch.rand(1, 1, 4, 20) > 0.5
    found = joint_attention(*call, exact_visible=seen)
    check(found, joint_attention(*call, exact_visible=seen, backend="reference"), torch.bfloat16)
