"""Error bound of a group whose tokens share a scale, by how much their norms differ. docs/tni.md derives it."""

from __future__ import annotations

import torch
from torch import Tensor


def imbalance(norms: Tensor) -> Tensor:
    """Largest squared norm over the mean squared norm of a group, [..., group_size] -> [...].

    From 1, where all norms are equal, to group_size, where one token holds everything; 1 for a group of zeros.
    """
    squares = (norms / norms.amax(-1, keepdim=True).clamp_min(torch.finfo(norms.dtype).tiny)).square()
    return torch.where(norms.amax(-1) > 0, 1 / squares.mean(-1).clamp_min(torch.finfo(norms.dtype).tiny), 1.0)


def direction_spread(x: Tensor) -> Tensor:
    """sqrt(sum over channels of the largest squared channel among the tokens' unit vectors).

    Between 1 and sqrt(min(group_size, head_dim)); tokens of zero norm have no direction and count as zeros.

    Args:
        x: [..., group_size, head_dim].

    Returns:
        [...].
    """
    norms = x.norm(dim=-1, keepdim=True)
    units = x / torch.where(norms > 0, norms, torch.ones_like(norms))
    return units.abs().amax(-2).square().sum(-1).sqrt()


def error_bound(x: Tensor, bits: int, *, scaled: bool) -> Tensor:
    """Upper bound of the relative error energy of groups quantized along tokens (asymmetric min-max).

    Sum over tokens of the squared error over the sum of the squared norms is at most
    (direction_spread / (2**bits - 1))**2, times the imbalance where tokens are not divided by their norms.

    Args:
        x: [..., group_size, head_dim].

    Returns:
        [...].
    """
    bound = (direction_spread(x) / (2**bits - 1)).square()
    return bound if scaled else bound * imbalance(x.norm(dim=-1))
