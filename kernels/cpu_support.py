"""What the compiled CPU loops of every operation share without numba: whether it is there, and records as arrays."""

from __future__ import annotations

import logging
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np
import torch

logger = logging.getLogger(__name__)

# Stands for the files of all operations' loops. Read with the package, not when they are compiled: a process that an
# update overtakes would keep what it compiles of the old ones under the number of the new ones.
LOOPS_NUMBER = 1 | crc32(b"".join(file.read_bytes() for file in sorted(Path(__file__).parent.rglob("cpu*.py"))))


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
