"""A small random omni model for the tests of the memory study."""

from __future__ import annotations

from typing import Any

import pytest

import oscar_x


@pytest.fixture(scope="session")
def omni(tiny_media) -> Any:
    """Shared: do not change it."""
    return oscar_x.load(tiny_media("qwen2_5_omni"), device="cpu")
