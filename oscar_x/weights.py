"""Samples of a model's attention weights, by which another fine-tuning of the same architecture is told apart."""

from __future__ import annotations

import base64
import binascii
import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from .adapters.base import Adapter, follow
from .errors import UnsupportedModelError

# of each attention projection of every layer, spread evenly over it
SAMPLES = 4
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# Norm of the difference over the norm, of each projection: rounding to bfloat16 moves a number by at most 2^-8 of
# itself, and keeping samples in fp16 by 2^-11, or by 2^-25 where they are below the least normal number of fp16.
TOLERANCE = 2**-8 + 2**-10
LEAST_NORM = 2**-14


def weight_samples(model: Any, adapter: Adapter | None = None) -> str:
    """The samples as text: fp16 in base64. Empty where weights are offloaded, quantized or in a layout of their own.

    Args:
        model: a loaded transformers model.
        adapter: says where attention is; looked up when missing.

    Raises:
        UnsupportedModelError: a model of no known family.
    """
    if adapter is None:
        from .adapters.registry import find_adapter

        adapter = find_adapter(model.config)
    samples = []
    for attention in _attention(model, adapter):
        for weight in attention.parameters():
            if weight.is_meta or weight.dtype not in FLOATS or type(weight) is not torch.nn.Parameter:
                return ""
            if weight.ndim == 2:
                samples.append(_sample(weight.detach()))
    if not samples:
        return ""
    held = torch.cat([sample.to(samples[0].device) for sample in samples]).half().cpu().numpy()
    return base64.b64encode(held.astype("<f2").tobytes()).decode("ascii")


def _sample(weight: torch.Tensor) -> torch.Tensor:
    places = 2 * SAMPLES
    if weight.is_contiguous() and weight.numel() % places == 0:  # the same numbers as a view, which costs nothing
        step = weight.numel() // places
        return weight.view(-1)[step :: 2 * step]
    at = (torch.arange(SAMPLES, device=weight.device) * 2 + 1) * weight.numel() // places
    return weight[at // weight.shape[1], at % weight.shape[1]]


def _attention(model: Any, adapter: Adapter) -> Iterator[Any]:
    for layer in _layers(model, adapter):
        # layers of other kinds, such as linear attention, have none
        with contextlib.suppress(UnsupportedModelError):
            yield follow(layer, adapter.attention)


def _layers(model: Any, adapter: Adapter) -> Any:
    try:
        return adapter.find_layers(model)
    except UnsupportedModelError:  # a family whose model generates without anybody looking into it
        return ()


def weight_difference(mine: str, theirs: str) -> float:
    """Norm of the difference of two models' samples over the norm of the first's, of the projection where that is most.

    Infinite where they are of different numbers of projections.

    Raises:
        ValueError: no samples.
    """
    first, second = _read(mine), _read(theirs)
    if first.shape != second.shape:
        return float("inf")
    if not len(first):
        return 0.0
    return float(((first - second).norm(dim=1) / first.norm(dim=1).clamp_min(LEAST_NORM)).max())


def in_words(difference: float) -> str:
    """What weight_difference found, for an error's text."""
    if difference == float("inf"):
        return "they have other projections"
    return f"samples of a projection differ by up to {difference:.1%}"


def _read(text: str) -> torch.Tensor:
    try:
        held = bytearray(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"the samples of weights are damaged: {error}") from error
    if len(held) % (2 * SAMPLES):
        raise ValueError(f"the samples of weights are damaged: {len(held)} bytes are no whole number of projections")
    return (torch.frombuffer(held, dtype=torch.float16).float() if held else torch.empty(0)).view(-1, SAMPLES)


def same_weights(mine: str, theirs: str) -> bool:
    """Whether two models' weights agree but for the rounding of a dtype, as far as is known of both.

    Raises:
        ValueError: no samples.
    """
    return not mine or not theirs or weight_difference(mine, theirs) <= TOLERANCE
