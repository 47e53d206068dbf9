"""Timing in turn, and bounds."""

from __future__ import annotations

import time

import pytest
import torch

from oscar_x.evals.bench import clock
from oscar_x.evals.bench.bandwidth import Peaks, copy_bandwidth, matmul_peak
from oscar_x.evals.bench.clock import Contender, time_in_turn

CPU = torch.device("cpu")


def test_each_round_calls_every_contender_once(monkeypatch) -> None:
    monkeypatch.setitem(clock.FLUSHED_BYTES, "cpu", 64)
    calls: list[str] = []
    contenders = {
        "slow": Contender([lambda: (calls.append("slow"), time.sleep(0.02))]),
        "fast": Contender([lambda: calls.append("fast")]),
    }
    timings = time_in_turn(contenders, CPU, 4)
    assert calls[2 * clock.WARM_UPS :] == ["slow", "fast"] * 4
    assert calls[: 2 * clock.WARM_UPS] == ["slow"] * clock.WARM_UPS + ["fast"] * clock.WARM_UPS
    assert timings["slow"].ms >= 20 > timings["fast"].ms
    for timing in timings.values():
        assert timing.fastest_ms <= timing.ms <= timing.slowest_ms
        assert (timing.repeats, timing.launch) == (4, "eager")


def test_layers_are_called_one_after_another_and_each_finds_the_caches_cold(monkeypatch) -> None:
    monkeypatch.setitem(clock.FLUSHED_BYTES, "cpu", 64)
    calls: list[str] = []
    monkeypatch.setattr(clock, "_time", lambda call, flushed, device: (calls.append("flush"), call())[1])

    def layer(name: str, ms: float) -> clock.Call:
        return lambda: (calls.append(name), ms)[1]

    contenders = {"a": Contender([layer("a0", 1.0), layer("a1", 3.0)]), "b": Contender([layer("b0", 5.0)])}
    timings = time_in_turn(contenders, CPU, 3)
    assert calls[3 * clock.WARM_UPS :] == ["flush", "a0", "flush", "a1", "flush", "b0"] * 3
    assert (timings["a"].ms, timings["b"].ms) == (2.0, 5.0)
    assert (timings["a"].fastest_ms, timings["a"].slowest_ms, timings["a"].repeats) == (2.0, 2.0, 3)


def test_no_new_round_starts_after_the_time_is_up(monkeypatch) -> None:
    monkeypatch.setitem(clock.FLUSHED_BYTES, "cpu", 64)
    timing = time_in_turn({"one": Contender([lambda: time.sleep(0.001)])}, CPU, 50, seconds=0)["one"]
    assert timing.repeats == clock.LEAST_REPEATS


def test_a_bound_is_the_longer_of_bytes_and_operations() -> None:
    peaks = Peaks(copy=100.0, operations={"float32": 10.0})
    assert peaks.bound_ms(200, 1, torch.float32) == pytest.approx(2000)
    assert peaks.bound_ms(200, 50, torch.float32) == pytest.approx(5000)


def test_peaks_are_measured() -> None:
    assert 1e8 < copy_bandwidth(CPU, 2**22) < 1e13
    assert 1e7 < matmul_peak(CPU, torch.float32, 128) < 1e15


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_call_is_replayed_as_a_graph_unless_it_synchronizes() -> None:
    device = torch.device("cuda")
    numbers = torch.ones(2**20, device=device)
    contenders = {
        "captured": Contender([lambda: numbers.mul(2)]),
        "synchronizes": Contender([lambda: bool(numbers.sum() > 0)]),
        "not to capture": Contender([lambda: numbers.mul(2)], capturable=False),
    }
    timings = time_in_turn(contenders, device, 3)
    assert [timing.launch for timing in timings.values()] == ["graph", "eager", "eager"]
    assert all(timing.ms > 0 for timing in timings.values())
