"""``oscar-x bench attention``, ``compress``, ``capacity`` and ``tokens`` at sizes that take moments."""

from __future__ import annotations

import json

import pytest

from oscar_x.evals.bench import bandwidth, clock
from oscar_x.evals.bench.shapes import SHAPES, Shape


@pytest.fixture(autouse=True)
def _small_sizes(monkeypatch) -> None:
    monkeypatch.setitem(SHAPES, "small", Shape("small", 2, 4, 2, 64, 64, 96, 64, 0, "LlamaConfig"))
    monkeypatch.setitem(clock.FLUSHED_BYTES, "cpu", 64)
    monkeypatch.setitem(bandwidth.COPIED_BYTES, "cpu", 2**16)
    monkeypatch.setitem(bandwidth.MATRIX, "cpu", 64)


SMALL = ("--shape", "small", "--device", "cpu", "--preset", "balanced")


def test_attention_prints_ratios_and_writes_rows_and_figures(oscar_x, tmp_path) -> None:
    target, prefix = tmp_path / "rows.json", tmp_path / "curves"
    done = oscar_x(
        *("bench", "attention", *SMALL, "--context", "256,1K", "--batch", "1,2", "--repeats", 1),
        *("--backend", "auto,reference", "--json", target, "--plot", prefix),
    )
    assert done.status == 0, done.errors
    assert "x best dense" in done.output
    assert "left out: " in done.output
    results = json.loads(target.read_text())
    wanted = {"op", "backend", "device", "dtype", "shape", "context", "batch", "ms", "ratio_to_best_dense", "bytes"}
    assert wanted | {"gb_per_s", "share_of_copy", "bound_ms"} <= set(results["rows"][0])
    ours = [row for row in results["rows"] if row["backend"].startswith("oscar-")]
    assert {(row["context"], row["batch"]) for row in ours} == {(256, 1), (1024, 1), (256, 2), (1024, 2)}
    assert {row["backend"] for row in ours} == {"oscar-balanced, auto", "oscar-balanced, reference"}
    assert results["copy_bytes_per_s"] > 0
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "curves.svg").read_text()


def test_compress_gives_tokens_a_second(oscar_x, tmp_path) -> None:
    target = tmp_path / "rows.json"
    done = oscar_x("bench", "compress", *SMALL, "--context", 300, "--repeats", 1, "--prefill", "--json", target)
    assert done.status == 0, done.errors
    (row,) = json.loads(target.read_text())["rows"]
    assert row["tokens_per_s"] > 0
    assert row["share_of_prefill"] == row["ms"] / row["prefill_ms"]


def test_capacity_gives_both_limits(oscar_x) -> None:
    done = oscar_x("bench", "capacity", "--shape", "llama-3.1-8b", "--memory", 80, "--context", "32K", "--json", "-")
    assert done.status == 0, done.errors
    rows = json.loads(done.output)["rows"]
    assert [row["op"] for row in rows] == ["max_batch"] * 4 + ["max_context"] * 4
    assert rows[0]["backend"] == "full"


def test_tokens_with_random_and_with_trained_weights(oscar_x, tiny, tmp_path) -> None:
    target = tmp_path / "rows.json"
    common = ("--context", 300, "--steps", 1, "--preset", "max", "--device", "cpu", "--json", target)
    done = oscar_x("bench", "tokens", "--shape", "small", "--dtype", "float32", *common)
    assert done.status == 0, done.errors
    assert {row["weights"] for row in json.loads(target.read_text())["rows"]} == {"random"}
    assert "random weights" in done.output
    done = oscar_x("bench", "tokens", "--model", tiny("llama"), *common)
    assert done.status == 0, done.errors
    assert {row["weights"] for row in json.loads(target.read_text())["rows"]} == {"trained"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--context", "8k,x"), "--context 8k,x: 'x' is not a whole number"),
        (("--batch", "0"), "--batch 0: '0' is not a whole number"),
        (("--backend", "cuda"), "'cuda' is unknown; choose auto, triton, reference"),
        (("--preset", "best"), "'best' is unknown; choose paper, balanced, max"),
        (("--dtype", "int8"), "'int8' is unknown; choose bfloat16, float16, float32"),
        (("--shape", "GPT"), "shape 'GPT' is unknown; choose one of Qwen2.5-VL-7B"),
        (("--plot", "no/such/folder/x"), "folder no/such/folder does not exist"),
    ],
)
def test_a_wrong_option_is_told_in_one_line(oscar_x, arguments, told) -> None:
    done = oscar_x("bench", "attention", *arguments)
    assert done.status == 2
    assert told in done.errors
    assert len(done.errors.splitlines()) == 1


@pytest.mark.parametrize("option", [("--memory", "8"), ("--backend", "reference")])
def test_options_for_random_weights_are_refused_with_a_model(oscar_x, option) -> None:
    done = oscar_x("bench", "tokens", *option)
    assert done.status == 2
    assert "needs --shape" in done.errors
