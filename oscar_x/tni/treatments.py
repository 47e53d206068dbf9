"""Quantization error of groups with each of its causes removed or left in.

A group is ``group_size`` tokens of one KV head; each channel has one scale and one minimum in it, both exact here, so
that nothing but rounding is measured (paper, per-channel quantization). Three treatments remove one cause each:

    rotation  Hadamard over head_dim          channel outliers
    scaling   each token divided by its norm  token norms
    split     parts of a group that belong    modality boundaries
              to one modality have scales
              of their own
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..kernels.hadamard import hadamard_transform
from ..kernels.quantize import dequantize_groups, quantize_groups

TREATMENTS = ("rotation", "scaling", "split")
CAUSES = {"rotation": "channel outliers", "scaling": "token norms", "split": "modality boundaries"}
NONE = "none"


def combination(treatments: Iterable[str]) -> str:
    """The name of treatments together: "rotation+scaling", "none"."""
    chosen = set(treatments)
    return "+".join(name for name in TREATMENTS if name in chosen) or NONE


COMBINATIONS = tuple(
    combination(name for bit, name in enumerate(TREATMENTS) if number >> bit & 1)
    for number in range(2 ** len(TREATMENTS))
)
# what the presets do to keys, and what they do to values
FULL = combination(("rotation", "scaling"))
ROTATED = combination(("rotation",))


@dataclass(frozen=True)
class SquaredErrors:
    """Squared quantization errors of groups.

    Attributes:
        tokens: summed over channels, fp32 [heads, groups, group_size].
        channels: summed over the tokens of a group, fp32 [heads, groups, head_dim]; of the rotated channels where
            groups were rotated.
    """

    tokens: Tensor
    channels: Tensor

    @classmethod
    def of(cls, error: Tensor) -> SquaredErrors:
        """From errors [heads, groups, group_size, head_dim]."""
        squared = error.square()
        return cls(squared.sum(-1), squared.sum(-2))

    def cpu(self) -> SquaredErrors:
        """The same on the CPU."""
        return SquaredErrors(self.tokens.cpu(), self.channels.cpu())

    def choose(self, groups: Tensor) -> SquaredErrors:
        """Of some groups, bool [groups]."""
        return SquaredErrors(self.tokens[:, groups], self.channels[:, groups])

    def replace(self, groups: Tensor, by: SquaredErrors) -> SquaredErrors:
        """With these in the place of some groups, bool [groups]."""
        tokens, channels = self.tokens.clone(), self.channels.clone()
        tokens[:, groups], channels[:, groups] = by.tokens, by.channels
        return SquaredErrors(tokens, channels)


def along_tokens(
    x: Tensor, norms: Tensor, bits: int, *, rotated: bool, scaled: bool, parts: Tensor | None
) -> SquaredErrors:
    """Errors where a scale is shared by the tokens of a group, one for each channel.

    Args:
        x: fp32 [heads, groups, group_size, head_dim].
        norms: token norms to divide by, broadcastable to [heads, groups, group_size]; a zero counts as 1.
        bits: of a code.
        rotated, scaled: treatments.
        parts: int64 [groups, group_size], which part of its group a token belongs to, counted from 0; every part has
            scales of its own. One part where missing.
    """
    x = hadamard_transform(x) if rotated else x
    divisor = torch.where(norms > 0, norms, torch.ones_like(norms))[..., None]
    x = x / divisor if scaled else x
    if parts is None:
        error = _error(x.transpose(-1, -2), bits).transpose(-1, -2)
    else:
        error = torch.zeros_like(x)
        for part in range(int(parts.max()) + 1):
            inside = (parts == part)[None, :, :, None]
            # tokens outside take the place of one inside, so that they do not move the part's extremes
            first = inside.int().argmax(dim=2, keepdim=True).expand(*x.shape[:2], 1, x.shape[3])
            own = torch.where(inside, x, x.gather(2, first))
            error = torch.where(inside, _error(own.transpose(-1, -2), bits).transpose(-1, -2), error)
    return SquaredErrors.of(error * divisor if scaled else error)


def along_channels(x: Tensor, group_size: int, bits: int, *, rotated: bool) -> SquaredErrors:
    """Errors where a scale is shared by ``group_size`` channels of one token.

    Token norms and modality boundaries change nothing here: no two tokens share a scale.

    Args:
        x: fp32 [heads, groups, tokens of a group, head_dim].
    """
    x = hadamard_transform(x) if rotated else x
    return SquaredErrors.of(_error(x, bits, group_size))


def _error(x: Tensor, bits: int, group_size: int | None = None) -> Tensor:
    size = x.shape[-1] if group_size is None else group_size
    codes, scale, minimum = quantize_groups(x, size, bits)
    return dequantize_groups(codes, scale, minimum, size) - x


def parts_of(modalities: Tensor) -> Tensor:
    """Runs of one modality in each group: int64 [groups, group_size], counted from 0."""
    changes = torch.zeros_like(modalities, dtype=torch.int64)
    changes[:, 1:] = (modalities[:, 1:] != modalities[:, :-1]).long()
    return changes.cumsum(1)


def deal(parts: Tensor) -> Tensor:
    """Parts of the same sizes, tokens given to them in turn and not by modality.

    What splitting a group this way gains comes from having more scales, not from where it was cut.
    """
    size = parts.shape[1]
    # part p of n tokens takes places (i + 1/2) / n of the way; sorted, they interleave evenly
    counts = torch.zeros_like(parts).scatter_add_(1, parts, torch.ones_like(parts)).gather(1, parts)
    ranks = torch.arange(size).expand_as(parts) - _first_index(parts)
    places = (ranks + 0.5) / counts + parts * 1e-6
    return parts.gather(1, places.argsort(dim=1, stable=True))


def _first_index(parts: Tensor) -> Tensor:
    """Where the part of each token begins."""
    order = torch.arange(parts.shape[1]).expand_as(parts)
    starts = torch.zeros_like(order)
    starts[:, 1:] = torch.where(parts[:, 1:] != parts[:, :-1], order[:, 1:], 0)
    return starts.cummax(1).values
