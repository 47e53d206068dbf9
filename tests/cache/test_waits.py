"""How often the host waits for its device in a decoding step; where there is no device, one that only shapes know."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from oscar_x.kernels.compress.finite import check_finite

pytest.importorskip("triton", reason="needs Triton, which has wheels for Linux")
NO_SLOT = not hasattr(torch._C, "_acc") or not hasattr(torch._C._acc, "register_python_privateuseone_device_guard")


@pytest.fixture(scope="module")
def waits() -> dict[str, list[list[str]]]:
    """For each kind of step, what waited in each step of that kind."""
    # a process of its own: torch's slot for another backend is taken once and for all
    script = Path(__file__).with_name("waits.py")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, list[list[str]]] = {}
    for name, _, what in (line.partition(":") for line in done.stdout.splitlines()):
        found.setdefault(name, []).append(what.split())
    return found


@pytest.mark.skipif(NO_SLOT, reason="needs a torch that takes a backend written in Python")
class TestWaits:
    @pytest.mark.parametrize("step", ["ordinary, steady", "ragged, steady", "static, steady"])
    def test_none_in_a_step_that_packs_nothing(self, waits, step: str) -> None:
        assert len(waits[step]) >= 2
        assert not any(waits[step])

    @pytest.mark.parametrize("step", ["ordinary, packing", "static, packing"])
    def test_one_a_layer_in_a_step_that_packs(self, waits, step: str) -> None:
        (layers,) = waits["layers"]
        assert waits[step] == [["_local_scalar_dense"] * int(layers[0])]

    def test_one_to_choose_tokens_and_see_whether_rows_ended(self, waits) -> None:
        assert waits["chosen"] == [["_local_scalar_dense"]]

    def test_one_for_a_mask_of_ones(self, waits) -> None:
        assert waits["mask, steady"] == [["_local_scalar_dense"]]

    def test_copies_from_pageable_memory_would_be_found(self, waits) -> None:
        assert "_to_copy" in waits["pageable, steady"][0]


class _Scalars(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function.overloadpacket.__name__ == "_local_scalar_dense"
        return function(*args, **(kwargs or {}))


def test_packing_asks_once_whether_everything_is_finite() -> None:
    states = torch.randn(2, 1, 32, 16)
    with _Scalars() as scalars:
        check_finite(states, states.bfloat16())
    assert scalars.count == 1
    for index, bad in enumerate((float("nan"), float("inf"), -float("inf"))):
        pair = [torch.randn(2, 1, 32, 16), torch.randn(2, 1, 32, 16)]
        pair[index % 2][1, 0, 5, index] = bad
        with pytest.raises(ValueError, match=rf"{('key', 'value')[index % 2]}_states .*\[1, 0, 5, {index}\]"):
            check_finite(*pair)
