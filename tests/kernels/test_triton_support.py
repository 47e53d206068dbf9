"""Which versions of Triton the kernels are compiled with."""

from __future__ import annotations

import pytest

from oscar_x.kernels.triton_support import refusal_of_version


@pytest.mark.parametrize("installed", ["3.5.0", "3.6.0", "3.10.0", "4.0.0+git1234"])
def test_versions_that_compile_them(installed: str) -> None:
    assert refusal_of_version(installed) is None


@pytest.mark.parametrize("installed", ["3.2.0", "3.4.0", "2.3.1"])
def test_older_ones_are_named(installed: str) -> None:
    reason = refusal_of_version(installed)
    assert reason == f"Triton {installed} is older than 3.5"
