"""What blocks that end early cost: places that hold no token."""

from __future__ import annotations

import numpy as np

from ..cache.layer import OscarLayer


def places(layer: OscarLayer) -> np.ndarray:
    """Of a layer's packed tokens, int64 [2]: places in its blocks, and those they need where only the last block of a
    sequence may be partly empty."""
    size = layer.oscar.block_size
    held = sum(len(row.blocks) for row in layer.rows) * size
    return np.array([held, sum(-(-row.packed // size) for row in layer.rows) * size])


def padding(counted: np.ndarray) -> float:
    """How many times the bytes of blocks that are full blocks take which end where modalities meet.

    Args:
        counted: sums of places().
    """
    held, needed = counted
    return float(held / needed) if needed else 1.0
