"""Loops on several threads: every item once, errors handed on, forked processes, threads only where they pay."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from threading import Barrier, Thread

import numpy as np
import pytest

from oscar_x.kernels import cpu_threads as threads
from oscar_x.kernels.cpu_threads import Pace, run_together

ITEMS = 40


@pytest.fixture(autouse=True, params=["team", "pool"])
def _threads_of(request, monkeypatch) -> Iterator[None]:
    """torch's threads and the pool in turn, each with no call timed before."""
    if request.param == "pool":
        monkeypatch.setattr(threads, "_team", lambda: None)
    elif threads._team() is None:
        pytest.skip("torch's OpenMP runtime has another interface")
    threads._pace.cache_clear()
    yield
    threads._pace.cache_clear()


def take(items: Iterator[int], taken: list[int]) -> None:
    for item in items:
        taken.append(item)  # noqa: PERF402


def share_out(count: int) -> list[int]:
    items, taken = iter(range(ITEMS)), []
    run_together(take, [(items, taken)] * count)
    return sorted(taken)


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_every_item_is_taken_once(count: int) -> None:
    for _ in range(20):
        assert share_out(count) == list(range(ITEMS))


@pytest.mark.parametrize("count", [1, 2, 8])
def test_a_c_function_is_called_without_python(count: int) -> None:
    body = _taking_body()
    for _ in range(20):
        taken = np.zeros(1 + ITEMS, np.int64)  # the next item, then how often each was taken
        run_together(body, [(taken.ctypes.data,)] * count)
        assert taken[1:].tolist() == [1] * ITEMS


@lru_cache(maxsize=1)
def _taking_body() -> threads.Body:
    cpu_compile = pytest.importorskip("oscar_x.kernels.cpu_compile", reason="needs numba")
    from oscar_x.kernels.decode_attention.cpu_reads import array_at
    from oscar_x.kernels.decode_attention.cpu_vectors import next_item

    def make(files):
        def take_items(address):
            numbers = array_at(address, (1 + ITEMS,), np.int64)
            item = next_item(numbers, 0) if files else ITEMS
            while item < ITEMS:
                numbers[1 + item] += 1
                item = next_item(numbers, 0)

        return take_items

    return cpu_compile.kept_body("a test", 1, make)


def test_calls_run_beside_one_another() -> None:
    met = Barrier(3)
    run_together(lambda: met.wait(timeout=20), [()] * 3)


def test_threads_of_the_caller_do_not_mix() -> None:
    found: list[list[int]] = []
    callers = [Thread(target=lambda: found.extend(share_out(2) for _ in range(20))) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert found == [list(range(ITEMS))] * 60


def test_errors_are_handed_on_and_the_next_call_runs() -> None:
    def fail() -> None:
        raise ArithmeticError("of a thread")

    with pytest.raises(ArithmeticError, match="of a thread"):
        run_together(fail, [()] * 2)
    assert share_out(2) == list(range(ITEMS))


@pytest.mark.skipif(sys.platform != "linux", reason="forks are unsafe elsewhere")
def test_a_forked_process_goes_on_alone() -> None:
    share_out(2)
    child = multiprocessing.get_context("fork").Process(
        target=lambda: os._exit(0 if share_out(2) == list(range(ITEMS)) else 1)
    )
    child.start()
    child.join(20)
    if child.is_alive():
        child.kill()
    assert child.exitcode == 0


def drive(pace: Pace, calls: int, together: float, alone: float) -> list[bool]:
    """The ways taken by calls that take these seconds."""
    ways = []
    for _ in range(calls):
        ways.append(pace.together())
        pace.took(ways[-1], together if ways[-1] else alone)
    return ways


@pytest.mark.parametrize("slow", [False, True])
def test_the_faster_way_is_kept_and_the_other_seldom_tried(slow: bool) -> None:
    ways = drive(Pace(), 1000, together=3.0 if slow else 1.0, alone=2.0)
    wrong = [i for i, together in enumerate(ways) if together == slow]
    assert Pace.RECENT <= len(wrong) < 40
    gaps = [after - before for before, after in pairwise(wrong) if after - before > 1]
    assert gaps == sorted(gaps)


def test_a_change_of_the_machine_is_noticed() -> None:
    pace = Pace()
    assert drive(pace, 200, together=1.0, alone=2.0)[-1]
    assert not drive(pace, 12, together=9.0, alone=2.0)[-1]  # as soon as its own calls are slow
    assert drive(pace, 2 * Pace.LOOKS[0], together=1.0, alone=2.0)[-1]  # at the next look


def test_one_slow_call_changes_nothing() -> None:
    pace = Pace()
    drive(pace, 20, together=1.0, alone=2.0)
    pace.took(True, 50.0)
    assert all(drive(pace, 5, together=1.0, alone=2.0))
