"""What is particular to the compiled CPU loops; test_parity.py compares every instruction set with other backends."""

from __future__ import annotations

import logging
from collections import defaultdict
from types import ModuleType

import pytest
import torch

from oscar_x.config import PRESETS, OscarConfig, resolve_config
from oscar_x.kernels import cpu_support
from oscar_x.kernels.decode_attention import backends, biased, cpu, packed_attention
from oscar_x.kernels.decode_attention.cpu_features import (
    IN_FP32,
    SETS,
    available_sets,
    best_set,
    instruction_set,
    reads,
)
from oscar_x.kernels.key_bias import KeyBias

HEADS = 2
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@pytest.fixture
def attention(support) -> ModuleType:
    return support("attention_case")


def make(attention: ModuleType, config: OscarConfig, head_dim: int = 64):
    """A layout, five records of one sequence, their numbers, and the keys and values that they stand for."""
    layout, records, *states = attention.make(config, head_dim, blocks=5)
    return layout, records, torch.arange(5)[None], states


@pytest.mark.parametrize("name", available_sets())
def test_what_is_added_to_scores(attention, name: str) -> None:
    layout, records, table, states = make(attention, PRESETS["max"])
    query, added = torch.randn(1, HEADS, 3, 64), torch.randn(1, HEADS, 3, 5 * 128)
    lengths = torch.full((1, 5), 128)
    found = cpu.packed_attention(query, records, table, lengths, layout, 0.2, added=added, instructions=name)
    attention.check(found, attention.dense(query, *states, torch.ones(1, dtype=torch.bool), added=added))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axes", [None, (0, 1, 2, 0, 1, 2, 0, 1)])
@pytest.mark.parametrize("most", [1, 2**20])
def test_key_bias_gives_the_reference(
    attention, dtype: torch.dtype, axes: tuple[int, ...] | None, most: int, monkeypatch
) -> None:
    """One block at a time and all at once, channels that do not turn and scaled rotations included."""
    torch.manual_seed(0)
    monkeypatch.setattr(biased, "MOST_ELEMENTS", most)
    layout, records, _, _ = make(attention, PRESETS["balanced"])
    turns = None if axes is None else torch.tensor(axes)
    bias = KeyBias(5 * torch.randn(HEADS, 64), 100.0 ** (-torch.arange(8) / 8), attention_scaling=0.8, axes=turns)
    table, lengths = torch.tensor([[4, 0, 2], [1, 3, 3]]), torch.tensor([[128, 128, 77], [128, 1, 0]])
    first = torch.tensor([[4, 132, 260], [1000, 5000, 5128]])
    several = first[..., None] + torch.arange(3)[:, None, None, None] * torch.arange(128)
    visible = torch.rand(2, 1, 4, 3 * 128) > 0.2
    query = torch.randn(2, HEADS, 4, 64).to(dtype)
    call = query, records, table, lengths, layout, 0.2, visible, bias, first if axes is None else several
    output, lse = packed_attention(*call)
    expected = packed_attention(*call, backend="reference")
    attention.check((output, lse), [part.double() for part in expected], dtype)


@pytest.mark.parametrize("name", available_sets())
def test_records_that_lie_apart_and_a_batch(attention, name: str) -> None:
    layout, records, _, states = make(attention, PRESETS["balanced"])
    apart = torch.full((5, records.shape[1] + 64), 255, dtype=torch.uint8)
    apart[:, 16 : 16 + records.shape[1]] = records
    table, lengths = torch.tensor([[3, 1], [4, 4]]), torch.tensor([[128, 77], [128, 0]])
    query = torch.randn(2, HEADS, 4, 64)
    where = apart[:, 16 : 16 + records.shape[1]]
    output, lse = cpu.packed_attention(query, where, table, lengths, layout, 0.2, instructions=name)
    for row, picked in enumerate(([3, 1], [4])):
        kept = [torch.cat([part[:, :, block * 128 :][:, :, :128] for block in picked], 2) for part in states]
        seen = torch.arange(len(picked) * 128) < int(lengths[row].sum())
        expected = attention.dense(query[row : row + 1], *kept, seen)
        attention.check((output[row : row + 1], lse[row : row + 1]), expected)


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_any_number_of_threads_gives_the_reference(attention, threads: int, monkeypatch) -> None:
    layout, records, table, _ = make(attention, PRESETS["balanced"])
    lengths = torch.tensor([[17, 128, 128, 0, 128]])
    query = torch.randn(1, HEADS, 3, 64)
    monkeypatch.setattr(cpu, "LEAST_BYTES", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        output, lse = packed_attention(query, records, table, lengths, layout, 0.2)
    finally:
        torch.set_num_threads(before)
    expected, expected_lse = packed_attention(query, records, table, lengths, layout, 0.2, backend="reference")
    assert (output - expected).norm() <= 1e-3 * expected.norm()
    torch.testing.assert_close(lse, expected_lse, rtol=1e-3, atol=2e-3)


def test_scratch_is_written_before_it_is_read(attention, monkeypatch) -> None:
    import numpy as np

    from oscar_x.kernels.decode_attention import cpu_scratch

    def poisoned(shape, dtype):
        return np.full(shape, np.nan if np.dtype(dtype).kind == "f" else 77, dtype)

    monkeypatch.setattr(cpu_scratch.np, "empty", poisoned)
    monkeypatch.setattr(cpu_scratch, "_unused", defaultdict(list))
    for config in (PRESETS["balanced"], PRESETS["paper"], resolve_config(value_grouping="per_channel", key_bits=3)):
        call = attention.prepare(attention.Case(config, head_dim=80))
        for name in available_sets():
            if reads(name, call.case.layout):
                attention.check(attention.answer(call, name), call.expected)


def test_a_row_without_tokens_gives_zeros(attention) -> None:
    layout, records, table, _ = make(attention, PRESETS["paper"])
    output, lse = packed_attention(torch.randn(1, HEADS, 1, 64), records, table, 0 * table, layout, 0.2)
    assert (output == 0).all()
    assert lse.isneginf().all()


def test_which_sets_read_which_layouts(attention) -> None:
    layout = make(attention, PRESETS["balanced"])[0]
    assert available_sets()[-1] == "portable"
    assert best_set(layout, torch.bfloat16) == available_sets()[0]
    in_fp32 = next(name for name in available_sets() if name in IN_FP32)
    assert best_set(layout, torch.float32) == in_fp32
    assert all(reads(name, layout) for name in SETS)
    eight = make(attention, resolve_config(key_bits=8))[0]
    assert not reads("avx2", eight)
    assert reads("avx512", eight)
    odd = make(attention, PRESETS["balanced"], head_dim=40)[0]
    assert best_set(odd, torch.bfloat16) == in_fp32
    with pytest.raises(ValueError, match="instructions='sse' is not available"):
        instruction_set("sse")


@pytest.mark.parametrize("name", available_sets())
def test_loops_are_found_on_disk_by_another_process(attention, name: str) -> None:
    """numba looks them up by what a function closes over; a compiled function in there has another name every time."""
    from oscar_x.kernels.decode_attention.cpu_blocks import attend_blocks

    closed_over = [cell.cell_contents for cell in attend_blocks(name, False).compiled._pyfunc.__closure__]
    assert instruction_set(name) in closed_over
    assert not any(hasattr(value, "py_func") for value in closed_over)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_points_past_the_pool_is_refused(attention, dtype: torch.dtype) -> None:
    layout, records, table, _ = make(attention, PRESETS["balanced"])
    query, lengths = torch.randn(1, HEADS, 3, 64, dtype=dtype), torch.full((1, 5), 128)
    for name, place, value in (("table", table, 5), ("table", table, -1), ("lengths", lengths, 129)):
        before, place[0, 3] = int(place[0, 3]), value
        with pytest.raises(ValueError, match=f"{name} holds {value}"):
            cpu.packed_attention(query, records, table, lengths, layout, 0.2)
        place[0, 3] = before
    assert cpu.packed_attention(query, records, table, lengths, layout, 0.2)[0].isfinite().all()


def test_double_queries_are_read_as_single(attention) -> None:
    layout, records, table, _ = make(attention, PRESETS["balanced"])
    query, lengths = torch.randn(1, HEADS, 3, 64), torch.full((1, 5), 128)
    found, expected = (packed_attention(q, records, table, lengths, layout, 0.2)[0] for q in (query.double(), query))
    assert torch.equal(found, expected)


def test_what_it_leaves_to_the_reference() -> None:
    assert cpu.fits(torch.randn(1, 2, 3, 64))
    assert not cpu.fits(torch.randn(1, 2, cpu.MOST_ROWS + 1, 64))


def test_without_numba_the_reference_runs_and_says_so_once(attention, monkeypatch, caplog) -> None:
    layout, records, table, _ = make(attention, PRESETS["balanced"])
    query, lengths = torch.randn(1, HEADS, 3, 64), torch.full((1, 5), 128)
    expected, _ = packed_attention(query, records, table, lengths, layout, 0.2, backend="reference")
    cpu_support.compiled_loops.cache_clear()
    monkeypatch.setattr(cpu_support, "find_spec", lambda name: None)
    try:
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                output, _ = packed_attention(query, records, table, lengths, layout, 0.2)
    finally:
        cpu_support.compiled_loops.cache_clear()
    assert torch.equal(output, expected)
    assert sum("numba is not installed" in record.message for record in caplog.records) == 1


def test_the_choice_can_be_asked_for() -> None:
    assert backends()["cpu"].startswith("compiled loops")
    assert backends()["cuda"] == "Triton kernels"
