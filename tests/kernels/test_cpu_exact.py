"""Exact tokens in the compiled loops, beside packed blocks; test_parity.py compares them over all parameters."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch

from oscar_x.compressor import Compressor
from oscar_x.config import PRESETS
from oscar_x.kernels.decode_attention import cpu, joint_attention

HEADS = 2


@pytest.fixture
def attention(support) -> ModuleType:
    return support("attention_case")


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


def test_halves_of_every_size_are_read() -> None:
    """Subnormal, small, large and negative numbers of 16 bits come out as they are."""
    for dtype in (torch.float16, torch.bfloat16):
        call = case(8, rows=1, dtype=dtype)
        query, *_, keys, values = call
        assert cpu.joins(query, keys, values)
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


def test_other_types_and_masks_take_the_parts_apart(attention) -> None:
    call = case(20, dtype=torch.bfloat16)
    query, keys, values = call[0], *call[-2:]
    assert not cpu.joins(query, keys.float(), values.float())
    assert not cpu.joins(query.double(), keys.double(), values.double())
    seen = torch.rand(1, 1, 4, 20) > 0.5
    found = joint_attention(*call, exact_visible=seen)
    attention.check(found, joint_attention(*call, exact_visible=seen, backend="reference"), torch.bfloat16)
