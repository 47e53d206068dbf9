"""Samples of a model's attention weights, by which another fine-tuning of the same architecture is told apart."""

from __future__ import annotations

import base64
import binascii
import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import torch

from .adapters.base import Adapter, follow
from .errors import UnsupportedModelError

logger = logging.getLogger(__name__)

# of each attention projection of every layer, spread evenly over it
SAMPLES = 4
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# Norm of the difference over the norm. Rounding to bfloat16 moves samples by 0.002; other weights, be it another
# quantization of the same, move them by more.
TOLERANCE = 2**-8


def weight_samples(model: Any, adapter: Adapter) -> str:
    """The samples as text: fp16 in base64. Empty where weights are offloaded or in a layout of their own.

    Args:
        model: a loaded model of the adapter's family.
        adapter: says where attention is.
    """
    samples = []
    for attention in _attention(model, adapter):
        for weight in attention.parameters():
            if weight.is_meta or weight.dtype not in FLOATS or type(weight) is not torch.nn.Parameter:
                logger.info("weights are offloaded or quantized: another fine-tuning will not be recognized")
                return ""
            if weight.ndim == 2:
                at = (torch.arange(SAMPLES, device=weight.device) * 2 + 1) * weight.numel() // (2 * SAMPLES)
                samples.append(weight.detach()[at // weight.shape[1], at % weight.shape[1]].float().cpu())
    held = torch.cat(samples).half().numpy() if samples else torch.empty(0).numpy()
    return base64.b64encode(held.astype("<f2").tobytes()).decode("ascii")


def _attention(model: Any, adapter: Adapter) -> Iterator[Any]:
    for layer in adapter.find_layers(model):
        # layers of other kinds, such as linear attention, have none
        with contextlib.suppress(UnsupportedModelError):
            yield follow(layer, adapter.attention)


def weight_difference(mine: str, theirs: str) -> float:
    """Norm of the difference of two models' samples over the norm of the first's; infinite where they are no match.

    Raises:
        ValueError: no samples.
    """
    first, second = _read(mine), _read(theirs)
    if first.shape != second.shape:
        return float("inf")
    return float((first - second).norm() / first.norm().clamp_min(torch.finfo(torch.float32).tiny))


def _read(text: str) -> torch.Tensor:
    try:
        held = bytearray(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"the samples of weights are damaged: {error}") from error
    if len(held) % 2:
        raise ValueError("the samples of weights are damaged: an odd number of bytes")
    return torch.frombuffer(held, dtype=torch.float16).float() if held else torch.empty(0)


def same_weights(mine: str, theirs: str) -> bool:
    """Whether two models' weights agree but for the rounding of a dtype, as far as is known of both.

    Raises:
        ValueError: no samples.
    """
    return not mine or not theirs or weight_difference(mine, theirs) <= TOLERANCE
