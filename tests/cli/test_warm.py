"""``oscar-x warm``."""

from __future__ import annotations

import json
from types import SimpleNamespace

from oscar_x.kernels import cpu_ahead, cpu_support


def test_what_one_process_compiled_another_finds(oscar_x, start):
    outcome = oscar_x("warm", "--json", "-")
    loops = json.loads(outcome.output)["loops"]
    assert outcome.status == 0
    assert [loop["for"] for loop in loops[:2]] == ["rotations", "packing blocks"]
    assert [loop["for"].rpartition(" (")[0] for loop in loops[2:]] == [
        "attention of 16-bit queries",
        "attention of fp32 queries",
    ]
    process = start("warm", "--json", "-")
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0
    assert json.loads(output)["loops"] == [{**loop, "compiled": False} for loop in loops]
    assert errors.count("found on disk, in /") == 4
    assert "compiling" not in errors


def test_loops_that_cannot_be_kept_are_a_failure(oscar_x, monkeypatch):
    notice = SimpleNamespace(what="rotations", begun=True, folder=None)
    monkeypatch.setattr(cpu_ahead, "compile_ahead", lambda layout: iter([notice]))
    outcome = oscar_x("warm")
    assert outcome.status == 1
    assert "rotations: compiled, for this process alone" in outcome.output
    assert "no folder can be written to keep them in; set NUMBA_CACHE_DIR" in outcome.errors


def test_without_numba_there_is_nothing_to_compile(oscar_x, monkeypatch):
    monkeypatch.setattr(cpu_support, "find_spec", lambda name: None)
    outcome = oscar_x("warm")
    assert outcome.status == 1
    assert "numba is not installed" in outcome.errors
