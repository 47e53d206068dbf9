from __future__ import annotations

import pytest
import torch

from oscar_x.kernels.hadamard import hadamard_matrix
from oscar_x.tni.attribution import attribute
from oscar_x.tni.treatments import COMBINATIONS, TREATMENTS, along_channels, along_tokens, combination, deal, parts_of

BITS = 2


def groups(seed: int = 0, heads: int = 2, count: int = 3, size: int = 8, head_dim: int = 16) -> torch.Tensor:
    return torch.randn(heads, count, size, head_dim, generator=torch.Generator().manual_seed(seed))


def rounded(column: torch.Tensor) -> torch.Tensor:
    """Min-max quantization of one vector, as the formula says."""
    low, high = column.min(), column.max()
    step = (high - low) / (2**BITS - 1)
    return low + ((column - low) / step).round() * step if step > 0 else column


def slow(x: torch.Tensor, norms: torch.Tensor, rotated: bool, scaled: bool, parts: torch.Tensor) -> torch.Tensor:
    """Squared error of each token of one group [size, head_dim], channel by channel and part by part."""
    y = x @ hadamard_matrix(x.shape[-1], x.dtype, x.device) if rotated else x
    y = y / norms[:, None] if scaled else y
    read = torch.zeros_like(y)
    for part in parts.unique():
        for channel in range(y.shape[1]):
            read[parts == part, channel] = rounded(y[parts == part, channel])
    error = (read - y) * norms[:, None] if scaled else read - y
    return error.square().sum(-1)


@pytest.mark.parametrize("name", COMBINATIONS)
def test_errors_are_those_of_the_formula(name: str):
    x = groups()
    parts = torch.tensor([[0] * 8, [0, 0, 0, 1, 1, 1, 1, 1], [0, 1, 1, 2, 2, 2, 2, 3]])
    split = parts if "split" in name else None
    how = {"rotated": "rotation" in name, "scaled": "scaling" in name}
    found = along_tokens(x, x.norm(dim=-1), BITS, parts=split, **how)
    for head in range(2):
        for group in range(3):
            own = parts[group] if "split" in name else torch.zeros(8)
            expected = slow(x[head, group], x[head, group].norm(dim=-1), *how.values(), own)
            torch.testing.assert_close(found.tokens[head, group], expected, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(found.tokens.sum(-1), found.channels.sum(-1))


@pytest.mark.parametrize("rotated", [False, True])
def test_scaled_errors_follow_their_tokens_norms(rotated: bool):
    x = groups()
    factors = torch.rand(2, 3, 8, generator=torch.Generator().manual_seed(1)) * 50 + 0.01
    plain, grown = (
        along_tokens(y, y.norm(dim=-1), BITS, rotated=rotated, scaled=True, parts=None).tokens
        for y in (x, x * factors[..., None])
    )
    torch.testing.assert_close(grown / factors.square(), plain, rtol=1e-3, atol=1e-5)


def test_scales_along_channels_know_no_other_token():
    x = groups(head_dim=32)
    alone = along_channels(x[:, :, :1], 8, BITS, rotated=True).tokens
    torch.testing.assert_close(along_channels(x, 8, BITS, rotated=True).tokens[:, :, :1], alone)


def test_zeros_have_no_error():
    x = torch.zeros(1, 1, 4, 8)
    for scaled in (False, True):
        assert along_tokens(x, x.norm(dim=-1), BITS, rotated=True, scaled=scaled, parts=None).tokens.sum() == 0


def test_parts_are_runs_of_one_modality_and_dealt_parts_have_their_sizes():
    modalities = torch.tensor([[0, 0, 1, 1, 1, 0, 2, 2], [0] * 8])
    parts = parts_of(modalities)
    assert parts.tolist() == [[0, 0, 1, 1, 1, 2, 3, 3], [0] * 8]
    dealt = deal(parts)
    assert [row.bincount().tolist() for row in dealt] == [row.bincount().tolist() for row in parts]
    assert dealt[0].tolist() != parts[0].tolist()
    # no part is a run: that of three lies on both sides of others
    where = (dealt[0] == 1).nonzero()[:, 0]
    assert int(where[-1] - where[0]) > 2


def test_causes_add_up_to_what_all_treatments_gain():
    errors = {name: float(number) for name, number in zip(COMBINATIONS, torch.rand(8).tolist(), strict=True)}
    parts = attribute(errors.__getitem__)
    gained = errors["none"] - errors[combination(TREATMENTS)]
    assert sum(part.share for part in parts.values()) == pytest.approx(gained)
    assert parts["scaling"].alone == pytest.approx(errors["none"] - errors["scaling"])
    assert parts["scaling"].last == pytest.approx(errors["rotation+split"] - errors["rotation+scaling+split"])


def test_a_treatment_that_changes_nothing_owes_nothing():
    parts = attribute(lambda name: 1.0 - 0.25 * ("rotation" in name) - 0.5 * ("scaling" in name))
    assert (parts["rotation"].share, parts["scaling"].share, parts["split"].share) == (0.25, 0.5, 0.0)
