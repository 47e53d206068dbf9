"""Arrays and tensors of pixels to uint8 [height, width, channels]."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..errors import MediaError
from .limits import MediaLimits
from .sizes import check_size

_CHANNELS = (1, 3, 4)
_OVERSHOOT = 1e-3  # of floats: what interpolation and rounding leave outside of [0, 1]


def is_array(source: Any) -> bool:
    """Whether a source is a numpy array or a torch tensor."""
    return isinstance(source, (np.ndarray, torch.Tensor))


def as_numpy(source: np.ndarray | torch.Tensor) -> np.ndarray:
    """The same numbers as a numpy array on the CPU; bfloat16, which numpy lacks, becomes float32."""
    if not isinstance(source, torch.Tensor):
        return source
    tensor = source.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def channels_last(pixels: np.ndarray | torch.Tensor, where: str, limits: MediaLimits) -> Any:
    """A view [..., height, width, channels] of pixels [..., height, width, channels] or [..., channels, height, width].

    Where both readings are possible, an array is channels last and a tensor channels first, as their users have it.

    Raises:
        MediaError: no dimension of 1, 3 or 4 channels, or a size that is not allowed.
    """
    first, last = pixels.shape[-3] in _CHANNELS, pixels.shape[-1] in _CHANNELS
    if not first and not last:
        raise MediaError(f"{where}: shape {tuple(pixels.shape)} has no dimension of 1, 3 or 4 channels, first or last")
    if first and (not last or isinstance(pixels, torch.Tensor)):
        pixels = pixels.movedim(-3, -1) if isinstance(pixels, torch.Tensor) else np.moveaxis(pixels, -3, -1)
    check_size(pixels.shape[-2], pixels.shape[-3], where, limits)
    return pixels


def as_bytes(pixels: np.ndarray, where: str) -> np.ndarray:
    """uint8 pixels from uint8, uint16 or floats between 0 and 1.

    Raises:
        MediaError: another dtype, NaN or infinity, or floats out of range.
    """
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.uint16:
        return (pixels // 257).astype(np.uint8)
    if not np.issubdtype(pixels.dtype, np.floating):
        raise MediaError(f"{where}: dtype {pixels.dtype} is not allowed; use uint8, uint16 or floats from 0 to 1")
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= -_OVERSHOOT and high <= 1 + _OVERSHOOT):  # false for NaN
        raise MediaError(f"{where}: floats from {low:g} to {high:g} are not allowed; use 0 to 1, or uint8 for 0 to 255")
    return np.round(np.clip(pixels.astype(np.float32), 0, 1) * 255).astype(np.uint8)
