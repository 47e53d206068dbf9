"""A shape small enough for tests."""

from __future__ import annotations

import pytest

from oscar_x.evals.bench.bandwidth import Peaks
from oscar_x.evals.bench.shapes import Shape


@pytest.fixture
def small() -> Shape:
    """Two layers, four query heads over two KV heads."""
    return Shape("small", 2, 4, 2, 32, 64, 96, 64, 0, "LlamaConfig")


@pytest.fixture
def peaks() -> Peaks:
    """A device that copies 1 GB a second and does 1e9 operations."""
    return Peaks(1e9, {"float32": 1e9, "bfloat16": 1e9})
