"""Runs the command line as its entry point does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from oscar_x import CacheSettings, OscarConfig, Profile
from oscar_x.cache.serialize import model_signature
from oscar_x.cli import main
from oscar_x.profile import Measured


@dataclass(frozen=True)
class Outcome:
    """What a command line left behind."""

    status: int
    output: str
    errors: str


@pytest.fixture
def oscar_x(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """``oscar_x("info", "--json", "-")`` in this process."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> Outcome:
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(status, captured.out, captured.err)

    return run


@pytest.fixture
def write_profile(tiny: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """``write_profile(key_bits=3)``: a profile for the tiny Llama whose layer 1 has these settings."""

    def write(**settings: Any) -> Path:
        signature = model_signature(AutoConfig.from_pretrained(tiny("llama")))
        measured = Measured(2.7, 0.05)
        origin = {"data_hash": "0" * 16, "library_version": "0.1.0", "date": "2026-11-23", "target": {"kl_target": 0.1}}
        chosen = CacheSettings(OscarConfig(), {1: OscarConfig(**settings)})
        profile = Profile(chosen, signature, "llama", **origin, before=measured, after=measured)
        profile.save(tmp_path / "written.json")
        return tmp_path / "written.json"

    return write


@pytest.fixture
def start() -> Callable[..., subprocess.Popen[str]]:
    """``start("chat", path)`` in a process of its own, all three streams piped."""
    program = str(Path(sys.executable).with_name("oscar-x"))

    def run(*arguments: object, **options: Any) -> subprocess.Popen[str]:
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        environment = {**os.environ, "COLUMNS": "200"}
        return subprocess.Popen([program, *map(str, arguments)], text=True, env=environment, **{**pipes, **options})

    return run
