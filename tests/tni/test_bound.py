"""The bound that docs/tni.md derives holds, and is no looser than it says."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oscar_x.tni import error_bound, imbalance
from oscar_x.tni.bound import direction_spread
from oscar_x.tni.treatments import along_tokens

SHAPES = st.tuples(st.sampled_from([2, 5, 16, 32]), st.sampled_from([8, 16, 64]))


def draw(seed: int, shape: tuple[int, int], spread: float, offset: float) -> torch.Tensor:
    """A group [1, 1, size, head_dim] whose norms spread over `spread` octaves around a common direction."""
    generator = torch.Generator().manual_seed(seed)
    size, head_dim = shape
    directions = torch.randn(size, head_dim, generator=generator) + offset * torch.randn(head_dim, generator=generator)
    norms = 2 ** (spread * torch.rand(size, 1, generator=generator))
    return (directions / directions.norm(dim=-1, keepdim=True) * norms)[None, None]


def relative_error(x: torch.Tensor, bits: int, rotated: bool, scaled: bool) -> float:
    errors = along_tokens(x, x.norm(dim=-1), bits, rotated=rotated, scaled=scaled, parts=None)
    return float(errors.tokens.sum() / x.square().sum())


@given(
    st.integers(0, 2**31),
    SHAPES,
    st.floats(0, 12),
    st.floats(0, 5),
    st.sampled_from([1, 2, 3, 4]),
    st.booleans(),
)
def test_the_error_of_a_group_stays_below_its_bound(seed, shape, spread, offset, bits, scaled):
    x = draw(seed, shape, spread, offset)
    assert relative_error(x, bits, False, scaled) <= float(error_bound(x, bits, scaled=scaled)) * 1.0001


@given(st.integers(0, 2**31), SHAPES, st.floats(0, 12))
def test_each_token_stays_below_the_bound_of_its_own_norm(seed, shape, spread):
    x = draw(seed, shape, spread, 0.0)
    norms = x.norm(dim=-1)
    errors = along_tokens(x, norms, 2, rotated=False, scaled=False, parts=None).tokens.sqrt() / norms
    allowed = direction_spread(x)[..., None] / 3 * norms.amax(-1, keepdim=True) / norms
    assert bool((errors <= allowed * 1.0001).all())


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_the_bound_is_attained(bits: int):
    # two tokens span every channel's range; the number of levels is even, so a third token of zeros is half a step
    # from the nearest of them
    levels = 2**bits - 1
    x = torch.stack([torch.ones(8), -torch.ones(8), torch.zeros(8)])[None, None]
    norms = x.norm(dim=-1)
    worst = along_tokens(x, norms, bits, rotated=False, scaled=False, parts=None).tokens.amax()
    assert float((direction_spread(x) / levels * norms.amax()).square()) == pytest.approx(float(worst), rel=1e-5)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [8, 32, 128])
def test_the_bound_of_a_group_is_attained_but_for_its_two_largest(bits: int, size: int):
    x = torch.zeros(1, 1, size, 8)
    x[0, 0, 0], x[0, 0, 1] = 1, -1
    bound = error_bound(x, bits, scaled=False)
    assert relative_error(x, bits, False, False) == pytest.approx(float(bound) * (size - 2) / size, rel=1e-5)
    assert float(bound) == pytest.approx(float(error_bound(x, bits, scaled=True)) * size / 2, rel=1e-5)


@pytest.mark.parametrize("ratio", [4.0, 16.0, 64.0])
def test_without_scaling_small_tokens_pay_for_large_ones_in_proportion(ratio: float):
    x = draw(3, (16, 64), 0.0, 0.0)
    uneven = x.clone()
    uneven[:, :, ::2] *= ratio

    def small(y: torch.Tensor, scaled: bool) -> float:
        errors = along_tokens(y, y.norm(dim=-1), 2, rotated=True, scaled=scaled, parts=None).tokens
        return float((errors / y.square().sum(-1))[:, :, 1::2].mean().sqrt())

    assert 0.5 * ratio < small(uneven, False) / small(x, False) < 1.5 * ratio
    assert small(uneven, True) == pytest.approx(small(x, True), rel=1e-3)


@given(st.integers(0, 2**31), SHAPES, st.floats(0, 12))
def test_the_factors_keep_to_their_ranges(seed, shape, spread):
    x = draw(seed, shape, spread, 0.0)
    assert 1 - 1e-5 <= float(imbalance(x.norm(dim=-1))) <= shape[0] + 1e-3
    assert 1 - 1e-5 <= float(direction_spread(x)) <= min(shape) ** 0.5 + 1e-4


def test_imbalance_of_the_extremes():
    assert float(imbalance(torch.full((16,), 3.0))) == pytest.approx(1)
    assert float(imbalance(torch.tensor([5.0] + [0.0] * 15))) == pytest.approx(16)
    assert float(imbalance(torch.zeros(4))) == 1
    norms = torch.rand(16) + 0.1
    expected = (norms.max() / norms.mean()) ** 2 / (1 + (norms.std(correction=0) / norms.mean()) ** 2)
    assert float(imbalance(norms)) == pytest.approx(float(expected), rel=1e-5)
