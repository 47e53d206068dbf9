"""What is said when loops are compiled: once, with the folder that keeps them, and nothing where they are found."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

numba = pytest.importorskip("numba")

from oscar_x.kernels import cpu_compile  # noqa: E402 - imports numba
from oscar_x.kernels.cpu_notice import notice_of  # noqa: E402
from oscar_x.kernels.decode_attention.cpu_reads import array_at  # noqa: E402


@pytest.fixture
def _folder(tmp_path, monkeypatch, caplog) -> None:
    """numba keeps code in a folder of the test's own."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    caplog.set_level(logging.WARNING, "oscar_x")


def doubling(files):
    def double(numbers):
        for i in range(numbers.shape[0] if files else 0):
            numbers[i] *= 2

    return double


def writing(files):
    def write(address):
        array_at(address, (1,), np.int64)[0] = 7 if files else 0

    return write


def call_body() -> None:
    number = np.zeros(1, np.int64)
    cpu_compile.kept_body("a C function", 30, writing)(number.ctypes.data)
    assert number.tolist() == [7]


def call_dispatcher() -> None:
    double, numbers = cpu_compile.kept("a loop", 20)(doubling), np.arange(3.0)
    for _ in range(2):
        double(numbers)
    assert numbers.tolist() == [0, 4, 8]


@pytest.mark.usefixtures("_folder")
@pytest.mark.parametrize(
    ("call", "what"), [(call_dispatcher, "a loop, about 20 s"), (call_body, "a C function, about 30 s")]
)
def test_compiling_is_announced_once_and_found_code_is_not(call, what, tmp_path, caplog) -> None:
    call()
    (said,) = caplog.messages
    assert said.startswith(f"compiling the CPU loops for {what}")
    assert f"once: they are kept in {tmp_path}" in said
    call()  # made anew, as by another process: numba finds the code on disk
    assert caplog.messages == [said]


@pytest.mark.usefixtures("_folder")
def test_it_is_said_when_compiling_begins(caplog, monkeypatch) -> None:
    said: list[int] = []
    double = cpu_compile.kept("a loop", 20)(doubling)
    real = double._compiler.compile
    monkeypatch.setattr(double._compiler, "compile", lambda *a: said.append(len(caplog.messages)) or real(*a))
    assert caplog.messages == []  # making it compiles nothing
    double(np.arange(3.0))
    assert said == [1]


@pytest.mark.usefixtures("_folder")
def test_another_type_of_arguments_is_not_announced_again(caplog) -> None:
    double = cpu_compile.kept("a loop", 20)(doubling)
    double(np.arange(3.0))
    double(np.arange(3))
    assert len(caplog.messages) == 1
    assert notice_of(double).begun


@pytest.mark.usefixtures("_folder")
def test_where_nothing_can_be_kept_every_process_compiles_and_knows(caplog) -> None:
    names: dict[str, Any] = {}
    # numba looks for a folder by the file of the function, and this one has none
    exec("def make(files):\n    def add(x):\n        return x + bool(files)\n    return add", names)
    add = cpu_compile.kept("a loop", 20)(names["make"])
    assert notice_of(add).folder is None
    assert [add(1), add(2)] == [2, 3]
    (said,) = caplog.messages
    assert said.startswith("compiling the CPU loops for a loop, about 20 s, in every process, since no folder")
    assert "NUMBA_CACHE_DIR" in said


@pytest.mark.usefixtures("_folder")
def test_what_compiles_at_once_and_what_is_not_ours_go_unmentioned(caplog) -> None:
    double, numbers = cpu_compile.kept("a loop", 1)(doubling), np.arange(3.0)
    numba.njit(doubling(1))(numbers)
    assert not notice_of(double).begun
    double(numbers)
    assert notice_of(double).begun
    assert caplog.messages == []


def test_every_loop_says_what_it_is_for() -> None:
    from oscar_x.kernels.compress.cpu_loops import compress_items
    from oscar_x.kernels.decode_attention.cpu_blocks import attend_blocks
    from oscar_x.kernels.hadamard.cpu_loops import rotate_rows
    from oscar_x.kernels.pack.cpu_loops import pack_every_row, unpack_every_row

    loops = [rotate_rows, pack_every_row, unpack_every_row, compress_items, attend_blocks("portable", True).compiled]
    expected = ["rotations", "packing bits", "unpacking bits", "packing blocks", "attention of fp32 queries (portable)"]
    assert [notice_of(loop).what for loop in loops] == expected
