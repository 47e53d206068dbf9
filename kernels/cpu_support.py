"""What the compiled CPU loops of every operation share without numba: whether it is there, and records as arrays."""

from __future__ import annotations

import logging
from functools import lru_cache
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import torch

logger = logging.getLogger(__name__)


class Records(NamedTuple):
    """Packed blocks `stride` bytes apart, as bytes, 16-bit words and fp32."""

    bytes: np.ndarray
    halves: np.ndarray
    floats: np.ndarray
    stride: int


def has_numba() -> bool:
    """Whether the package is installed."""
    return find_spec("numba") is not None


@lru_cache(maxsize=1)
def compiled_loops() -> bool:
    """Whether numba is there; says once when it is not."""
    if not has_numba():
        logger.warning(
            "numba is not installed: packing blocks and attention over them run on plain torch, several times slower"
        )
        return False
    return True


def flat_records(records: torch.Tensor) -> Records:
    """A view of records that may lie further apart than they are long."""
    stride = records.stride(0)
    flat = records.as_strided(((len(records) - 1) * stride + records.shape[1],), (1,)).numpy()
    return Records(flat, flat.view(np.uint16), flat.view(np.float32), stride)
