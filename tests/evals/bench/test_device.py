"""The plan for a GPU, run on the CPU at small sizes, and what it says where there is none."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from oscar_x.evals.bench import bandwidth, clock, device
from oscar_x.evals.bench.shapes import SHAPES

PLAN = device.Plan(
    shape="small",
    contexts=(300, 500),
    batches=(1,),
    checked=500,
    prompt=300,
    decoded=(300,),
    memory_bytes=2**20,
    repeats=1,
    steps=1,
    graph_check={"prompt": 310, "steps": 20},
    generate_check={"prompt": 310, "steps": 20, "layers": 2},
)


@pytest.fixture(autouse=True)
def _small_sizes(monkeypatch, small) -> None:
    monkeypatch.setitem(SHAPES, "small", small)
    monkeypatch.setitem(clock.FLUSHED_BYTES, "cpu", 64)
    monkeypatch.setitem(bandwidth.COPIED_BYTES, "cpu", 2**16)
    monkeypatch.setitem(bandwidth.MATRIX, "cpu", 64)


def test_every_section_is_in_the_results() -> None:
    said: list[str] = []
    results, holds = device.run(PLAN, torch.device("cpu"), 1000, said.append)
    assert holds
    ops = [row["op"] for row in results.rows]
    checks = {"spot_check", "graph_check", "generate_check"}
    assert set(ops) == checks | {"decode_attention", "compress_prompt", "decode_step"}
    assert ops.count("spot_check") == 18
    assert {row["batch"] for row in results.rows if row["op"] == "decode_step"} > {1}
    text = "\n".join(results.text)
    assert "x best dense" in text
    assert "of prefill" in text
    assert "the first 20 agree: holds" in text
    assert said.count("attention, context 300, batch 1") == 1


def test_a_failed_check_is_told(monkeypatch) -> None:
    monkeypatch.setattr(device, "spot_check", lambda *arguments: float("nan"))
    for section in ("_attention", "_graphs", "_generate"):
        monkeypatch.setattr(device, section, lambda *arguments: None)
    results, holds = device.run(PLAN, torch.device("cpu"), 0, lambda what: None)
    assert not holds
    assert sum("FAILS" in line for line in results.text) == 18


def test_a_section_that_fails_does_not_cost_the_others_their_turn(monkeypatch) -> None:
    def fails(*arguments, **sizes):
        raise RuntimeError("no kernel image")

    monkeypatch.setattr(device, "check_backends", fails)
    monkeypatch.setattr(device, "check_generate", fails)
    monkeypatch.setattr(device, "_attention", lambda *arguments: None)
    said: list[str] = []
    results, holds = device.run(PLAN, torch.device("cpu"), 0, said.append)
    assert not holds
    for section in ("checks", "generate"):
        assert f"FAILED: {section}: RuntimeError: no kernel image" in results.text
    assert any("Traceback" in what for what in said)
    assert [row["op"] for row in results.rows] == ["graph_check"]


def test_sections_without_time_are_left_out(monkeypatch) -> None:
    for section in ("_graphs", "_generate"):
        monkeypatch.setattr(device, section, lambda *arguments: None)
    results, _ = device.run(replace(PLAN, contexts=(300,)), torch.device("cpu"), 0, lambda what: None)
    assert {row["op"] for row in results.rows} == {"spot_check", "decode_attention"}
    assert [line.split(",")[0] for line in results.text[-2:]] == ["left out: compress", "left out: tokens"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_cuda_it_says_so(capsys) -> None:
    assert device.main([]) == 2
    assert "no CUDA device" in capsys.readouterr().err
