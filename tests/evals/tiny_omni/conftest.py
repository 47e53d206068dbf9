"""The shipped model, loaded once."""

from __future__ import annotations

from typing import Any

import pytest

import oscar_x


@pytest.fixture(scope="session")
def full() -> Any:
    """The model with a full cache. Shared: do not change it."""
    return oscar_x.load("tiny-omni", kv_bits=16, device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def packed() -> Any:
    """The model at 2 bits, preset balanced. Shared: do not change it."""
    return oscar_x.load("tiny-omni", device="cpu", dtype="float32")
