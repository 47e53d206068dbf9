"""Decode attention of one layer: what is timed is right, and the figures follow from it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from oscar_x.config import PRESETS
from oscar_x.evals.bench import attention_bench, clock, dense, packed
from oscar_x.evals.bench.attention_bench import bench_attention
from oscar_x.evals.bench.packed import least_context, packed_bytes, packed_case, spot_check
from oscar_x.evals.bench.shapes import find_shape
from oscar_x.kernels.compress import decompress_blocks

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _small_flush(monkeypatch) -> None:
    monkeypatch.setitem(clock.FLUSHED_BYTES, "cpu", 64)


def test_figures_follow_from_times(small, peaks) -> None:
    rows, left = bench_attention(
        small,
        [512, 300],
        [1, 2],
        dtype=torch.bfloat16,
        device=CPU,
        peaks=peaks,
        presets=("balanced",),
        backends=("auto", "reference"),
        repeats=1,
    )
    assert {(row.context, row.batch) for row in rows} == {(512, 1), (300, 1), (512, 2), (300, 2)}
    for context, batch in ((512, 1), (300, 2)):
        here = [row for row in rows if (row.context, row.batch) == (context, batch)]
        dense_rows = [row for row in here if not row.ours]
        assert {"sdpa-math-gqa bf16", "sdpa-math-rows fp32"} <= {row.backend for row in dense_rows}
        assert [row.backend for row in here if row.ours] == ["oscar-balanced, auto", "oscar-balanced, reference"]
        best = min(row.ms for row in dense_rows)
        for row in here:
            assert row.layers == 8
            assert row.ratio_to_best_dense == best / row.ms
            assert row.gb_per_s == pytest.approx(row.bytes / row.ms / 1e6)
            assert row.share_of_copy == pytest.approx(row.gb_per_s)
            assert row.operations == 4 * batch * 4 * context * 32
            assert row.bound_ms == pytest.approx(1e3 * max(row.bytes, row.operations) / 1e9)
        full = {row.dtype: row.bytes for row in dense_rows}
        assert full["bfloat16"] == batch * 2 * (2 * 2 * 32 * context + 2 * 4 * 32)
        assert full["float32"] == 2 * full["bfloat16"]
    assert {one.backend.split()[0] for one in left} <= {f"sdpa-{n}-{f}" for n in dense.SDPA for f in dense.FORMS}


@pytest.mark.parametrize("preset", PRESETS)
def test_packed_and_dense_see_the_same_attention(small, preset) -> None:
    """What is timed as ours is attention over the tokens that its records hold."""
    case = packed_case(small, PRESETS[preset], 1000, 2, torch.float32, CPU)
    packed_states = decompress_blocks(case.records, case.layout)
    tokens = [states.unflatten(0, (2, -1)).transpose(1, 2).flatten(2, 3) for states in packed_states]
    whole = [torch.cat(pair, 2) for pair in zip(tokens, (case.keys, case.values), strict=True)]
    assert whole[0].shape == (2, 2, 1000, 32)
    expected = torch.nn.functional.scaled_dot_product_attention(case.query, *whole)
    for backend in ("auto", "reference"):
        torch.testing.assert_close(case.attend(backend), expected, atol=2e-5, rtol=1e-4)


def test_the_size_of_a_case_is_known_before_it_is_built(small) -> None:
    case = packed_case(small, PRESETS["balanced"], 700, 3, torch.bfloat16, CPU)
    held = sum(tensor.nbytes for tensor in (case.records, case.table, case.lengths, case.keys, case.values))
    assert packed_bytes(small, PRESETS["balanced"], 700, 3, torch.bfloat16) == held
    assert case.read_bytes - held == case.query.nbytes + 4 * case.query.numel()


def test_where_memory_lacks_no_dense_cache_is_built(small, peaks, monkeypatch) -> None:
    monkeypatch.setattr("oscar_x.evals.bench.room.free_bytes", lambda device: 200_000)
    monkeypatch.setattr(attention_bench, "free_bytes", lambda device: 200_000)
    rows, left = bench_attention(
        small, [2048], [1], dtype=torch.bfloat16, device=CPU, peaks=peaks, presets=("max",), repeats=1
    )
    assert [row.backend for row in rows] == ["oscar-max, auto"]
    assert rows[0].ratio_to_best_dense is None
    assert [one.backend for one in left] == ["dense bf16", "dense fp32"]
    assert "GiB are free" in left[0].reason


def test_peers_without_a_chance_are_left_out(small, monkeypatch) -> None:
    assert dense._hopeless({"fast": 0.5, "fair": 4.9, "slow": 5.1}) == ["slow"]
    assert dense._hopeless({"fast": 0.001, "slow": 0.9}) == []
    seconds = {"sdpa-flash-rows": 0.1}
    monkeypatch.setattr(dense, "FLASH_MODULES", ())
    names = iter([f"sdpa-{name}-{form}" for form in dense.FORMS for name in dense.SDPA])
    monkeypatch.setattr(dense, "_first_call", lambda call, device: seconds.get(next(names), 2.0))
    found, left = dense.dense_contenders(small, 64, 1, torch.float32, CPU)
    assert list(found) == ["sdpa-flash-rows fp32"]
    assert len(left) == 7
    assert "10 times the fastest" in left[0].reason


def test_a_context_without_a_packed_block_is_left_out(small, peaks) -> None:
    settings = PRESETS["balanced"]
    short = least_context(settings) - 1
    rows, left = bench_attention(
        small, [short], [1], dtype=torch.float32, device=CPU, peaks=peaks, presets=("balanced",), repeats=1
    )
    assert not any(row.ours for row in rows)
    assert f"the least context is {short + 1}" in next(o.reason for o in left if o.backend.startswith("oscar"))
    with pytest.raises(ValueError, match="fills no block"):
        packed_case(small, settings, short, 1, torch.float32, CPU)
    assert packed_case(small, settings, short + 1, 1, torch.float32, CPU).table.shape == (1, 1)


def test_a_backend_that_cannot_run_is_left_out_with_its_reason(small, peaks, monkeypatch) -> None:
    def refuse(*arguments, **options):
        raise ValueError("backend='triton' cannot be used here: no device")

    monkeypatch.setattr(packed, "joint_attention", refuse)
    rows, left = bench_attention(
        small, [300], [1], dtype=torch.float32, device=CPU, peaks=peaks, backends=("triton",), repeats=1
    )
    assert not any(row.ours for row in rows)
    assert sum("cannot be used here" in one.reason for one in left) == len(PRESETS)


def test_a_key_bias_is_put_back_into_the_scores(small) -> None:
    case = packed_case(small, PRESETS["balanced"], 500, 2, torch.float32, CPU, with_bias=True)
    assert case.positions.tolist() == [[4 + 128 * block for block in range(3)]] * 2
    without = replace(case, key_bias=None, positions=None)
    assert not torch.allclose(case.attend("auto"), without.attend("auto"), atol=1e-2)
    assert spot_check(small, PRESETS["balanced"], 500, torch.float32, CPU, "auto", with_bias=True) < 1e-5


@pytest.mark.parametrize("preset", PRESETS)
def test_the_spot_check_holds_and_sees_a_wrong_backend(small, preset, monkeypatch) -> None:
    assert spot_check(small, PRESETS[preset], 1000, torch.float32, CPU, "auto") < 1e-5
    attend = packed.joint_attention

    def wrong(*arguments, backend, **options):
        output, lse = attend(*arguments, backend=backend, **options)
        return output * (1.05 if backend == "auto" else 1), lse

    monkeypatch.setattr(packed, "joint_attention", wrong)
    assert spot_check(small, PRESETS[preset], 1000, torch.float32, CPU, "auto") == pytest.approx(0.05, rel=0.01)


def test_layers_have_data_of_their_own(small) -> None:
    found, _ = dense.dense_contenders(small, 64, 1, torch.float32, CPU, layers=3)
    for name, contender in found.items():
        outputs = [call() for call in contender.calls]
        assert len(outputs) == 3, name
        assert not torch.equal(outputs[0], outputs[1])
    entries, _ = attention_bench._packed(small, 512, 1, torch.float32, CPU, [("max", "auto")], False, 3)
    cases = [call.func.__self__ for call in entries["oscar-max, auto"].contender.calls]
    assert len({case.records.data_ptr() for case in cases}) == 3


def test_as_many_layers_as_memory_allows(monkeypatch) -> None:
    monkeypatch.setattr(attention_bench, "free_bytes", lambda device: 2**34)
    shape, bf16 = find_shape("Qwen3-8B"), torch.bfloat16
    counted = {context: attention_bench.layers_in_turn(shape, context, 1, bf16, CPU) for context in (2**13, 2**15)}
    assert counted == {2**13: 8, 2**15: 4}
    assert attention_bench.layers_in_turn(shape, 2**20, 4, bf16, CPU) == 1
    assert attention_bench.layers_in_turn(shape, 2**13, 1, bf16, torch.device("cuda")) == 1
    monkeypatch.setattr(attention_bench, "free_bytes", lambda device: 2**29)
    assert attention_bench.layers_in_turn(shape, 2**13, 1, bf16, CPU) == 4


def test_fp32_is_no_peer_of_a_gpu() -> None:
    assert attention_bench.dense_dtypes(torch.device("cuda"), torch.bfloat16) == (torch.bfloat16,)
    assert attention_bench.dense_dtypes(CPU, torch.bfloat16) == (torch.bfloat16, torch.float32)
    assert attention_bench.dense_dtypes(CPU, torch.float32) == (torch.float32,)
