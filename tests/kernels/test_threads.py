"""Loops on several threads: every item once, errors handed on, forked processes."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator
from threading import Barrier, Thread

import pytest

from oscar_x.kernels.decode_attention.threads import run_together

ITEMS = 40


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
