"""The sweep of launch settings, with a clock of its own."""

from __future__ import annotations

import pytest
import torch

from oscar_x.config import resolve_config
from oscar_x.evals.bench import sweep
from oscar_x.evals.bench.packed import packed_case
from oscar_x.evals.bench.shapes import find_shape
from oscar_x.kernels.decode_attention.triton_configs import SplitConfig, split_config, trial


def test_a_trial_is_what_launches_take_while_it_lasts() -> None:
    own, other = split_config(128, 8), SplitConfig(8, 1, 1, 0, 1, 1)
    with trial(other):
        assert split_config(128, 8) is other
    assert split_config(128, 8) is own
    with pytest.raises(ZeroDivisionError), trial(other):
        1 / 0  # noqa: B018
    assert split_config(128, 8) is own


def test_candidates_are_ordered_by_time_and_those_that_fail_are_named() -> None:
    shape = sweep.shape_of(find_shape("Qwen3-8B"), 64, 2)
    case = packed_case(shape, resolve_config("balanced"), 300, 1, torch.float32, torch.device("cpu"))
    assert case.query.shape == (1, shape.key_value_heads, 2, 64)
    tried = [SplitConfig(8, warps, 1, 0, 1, 1) for warps in (4, 2, 8, 16)]

    def timer(one) -> float:
        assert one is case
        config = split_config(64, 2)
        if config.num_warps == 8:
            raise RuntimeError("out of resource: shared memory")
        return float(config.num_warps)

    found, left = sweep.sweep([case], tried, timer)
    assert [config.num_warps for _, config in found] == [2, 4, 16]
    assert left == ["(8, 8, 1, 0, 1, 1): RuntimeError: out of resource: shared memory"]
    assert sweep.sweep([case], tried, timer, until=0)[1] == ["4 candidates: out of time"]


def test_the_line_to_paste_is_an_entry() -> None:
    entry = sweep.entries()[0]
    text = sweep.line(entry, 0.01234, next(sweep.candidates(entry[2].rows)), "H200")
    made = eval(text.rstrip(","), {"SplitConfig": SplitConfig})
    assert made[:2] == entry[:2]
    assert made[2].measured == "0.0123 ms, H200"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_cuda_it_says_so(capsys) -> None:
    assert sweep.main([]) == 2
    assert "no CUDA device" in capsys.readouterr().err
