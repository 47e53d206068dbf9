"""Compressing a prompt: what a layer then holds, and the figures."""

from __future__ import annotations

import pytest
import torch

from oscar_x.config import PRESETS
from oscar_x.evals.bench import clock, compress_bench
from oscar_x.evals.bench.capacity import prompt_bytes
from oscar_x.evals.bench.compress_bench import bench_compress, compress

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _small_flush(monkeypatch) -> None:
    monkeypatch.setitem(clock.FLUSHED_BYTES, "cpu", 64)


def test_a_prompt_is_packed_whole(small) -> None:
    states = torch.randn(2, 2, 700, 32)
    held = compress(PRESETS["balanced"], states, states)
    table = small.layers * 2 * 4 * 16  # two rows of four blocks
    assert small.layers * held + table == prompt_bytes(small, PRESETS["balanced"], 700, 2, torch.float32)


def test_figures_follow_from_times(small, peaks) -> None:
    rows, left = bench_compress(
        small, [300, 500], [2], dtype=torch.bfloat16, device=CPU, peaks=peaks, prefill=True, repeats=1
    )
    assert not left
    assert [(row.context, row.batch) for row in rows] == [(300, 2)] * 3 + [(500, 2)] * 3
    for row in rows:
        assert row.tokens_per_s == pytest.approx(1e3 * 2 * row.context / row.ms / small.layers)
        assert row.bytes > 2 * 2 * 2 * row.context * 32 * 2  # what is read
        assert row.share_of_copy == pytest.approx(row.bound_ms / row.ms)
        assert row.share_of_prefill == row.ms / row.prefill_ms
    assert rows[0].prefill_ms > 0


def test_without_a_model_there_is_no_share_of_its_prefill(small, peaks) -> None:
    rows, _ = bench_compress(
        small, [300], [1], dtype=torch.bfloat16, device=CPU, peaks=peaks, presets=("max",), repeats=1
    )
    assert [(row.backend, row.prefill_ms, row.share_of_prefill) for row in rows] == [("oscar-max, auto", None, None)]


def test_what_lacks_memory_or_a_backend_is_left_out(small, peaks, monkeypatch) -> None:
    sizes = {"dtype": torch.bfloat16, "device": CPU, "peaks": peaks, "presets": ("max",), "repeats": 1}

    def refuse(*arguments):
        raise ValueError("backend='triton' cannot be used here: no device")

    with monkeypatch.context() as patched:
        patched.setattr(compress_bench, "compress", refuse)
        rows, left = bench_compress(small, [300], [1], backends=("triton",), **sizes)
    assert (rows, [one.backend for one in left]) == ([], ["oscar-max, triton"])
    monkeypatch.setattr("oscar_x.evals.bench.room.free_bytes", lambda device: 1000)
    rows, left = bench_compress(small, [300], [1], **sizes)
    assert rows == []
    assert "GiB are free" in left[0].reason
