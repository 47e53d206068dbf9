"""Whole decoding steps from caches of random states."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers.utils import is_optimum_quanto_available

from oscar_x.evals.bench import end_to_end, llama_cpp, trained
from oscar_x.evals.bench.end_to_end import bench_tokens, random_model

CPU = torch.device("cpu")


@pytest.fixture
def shape(small):
    """head_dim 64: quanto's groups have 64 elements."""
    return replace(small, head_dim=64)


@pytest.fixture
def model(shape):
    return random_model(shape, torch.float32, CPU)


def test_every_cache_decodes_from_the_context(shape, model) -> None:
    seen = {}
    rows, left = bench_tokens(
        model, shape, [300], [2], presets=("balanced",), steps=2, progress=lambda *step: seen.setdefault(step[2], step)
    )
    names = ["full", *(["quanto-2"] if is_optimum_quanto_available() else []), "oscar-balanced, auto"]
    assert [row.backend for row in rows] == names
    assert len(left) == 3 - len(names)
    assert len(seen) == len(names)
    full = rows[0]
    for row in rows:
        assert (row.context, row.batch, row.weights, row.shape) == (300, 2, "random", "small")
        assert row.tokens_per_s == pytest.approx(2000 / row.ms)
        assert row.ratio_to_full == pytest.approx(full.ms / row.ms)
        assert row.ms <= row.slowest_ms
    steps = end_to_end.WARM_UPS + 2
    assert full.cache_bytes == 2 * shape.full_bytes(2 * (300 + steps), 4)
    assert rows[-1].cache_bytes < full.cache_bytes


def test_packed_tokens_are_read(shape, model, monkeypatch) -> None:
    reads = []
    held = end_to_end._held

    def spy(cache):
        reads.append(getattr(cache, "packed_reads", 0))
        return held(cache)

    monkeypatch.setattr(end_to_end, "_held", spy)
    bench_tokens(model, shape, [500], [1], presets=("max",), quanto=False, steps=1)
    assert reads[0] == 0 < reads[1]


def test_a_memory_is_filled_with_each_caches_largest_batch(shape, model) -> None:
    memory = 12 * shape.full_bytes(1000, 4)
    rows, left = bench_tokens(model, shape, [1000], [], presets=("max",), quanto=False, steps=1, memory_bytes=memory)
    assert not left
    assert [row.backend for row in rows] == ["full", "oscar-max, auto"]
    assert rows[0].batch == 4  # two layers, and one twice while it grows
    assert rows[1].batch > 2 * rows[0].batch
    assert rows[1].ratio_to_full == pytest.approx(rows[1].tokens_per_s / rows[0].tokens_per_s)


def test_what_lacks_memory_is_left_out(shape, model, monkeypatch) -> None:
    monkeypatch.setattr("oscar_x.evals.bench.room.free_bytes", lambda device: 3 * shape.full_bytes(2000, 4))
    rows, left = bench_tokens(model, shape, [2000], [1], presets=("max",), quanto=False, steps=1)
    assert [one.backend for one in left] == ["full"]
    assert [(row.backend, row.ratio_to_full) for row in rows] == [("oscar-max, auto", None)]
    monkeypatch.setattr("oscar_x.evals.bench.room.free_bytes", lambda device: 1000)
    with pytest.raises(MemoryError, match="random weights of small"):
        random_model(replace(shape, parameters=10_000), torch.float32, CPU)


def test_trained_weights_are_timed_on_text(tiny, monkeypatch) -> None:
    import oscar_x

    monkeypatch.setattr(trained, "has_llama_cpp", lambda: False)
    subject = oscar_x.load(tiny("llama"), device="cpu")
    rows, left = trained.bench_trained(subject, "folder", "tiny", [200], [1, 2], ["max"], 1)
    assert {row.backend for row in rows} - {"quanto-2"} == {"full", "oscar-max"}
    assert {(row.context, row.batch, row.weights, row.shape) for row in rows} == {
        (200, 1, "trained", "tiny"),
        (200, 2, "trained", "tiny"),
    }
    assert "llama.cpp" in {one.backend for one in left}


def test_llama_cpp_is_given_the_context_and_each_type_of_cache(monkeypatch) -> None:
    made = []

    class Llama:
        def __init__(self, **options):
            self.options, self.evaluated = options, []
            made.append(self)

        def eval(self, tokens):
            self.evaluated += tokens
            assert len(self.evaluated) < self.options["n_ctx"]

        def close(self):
            pass

    monkeypatch.setattr(llama_cpp, "import_module", lambda name: type("library", (), {"Llama": Llama}))
    rows = llama_cpp.time_llama_cpp("model.gguf", "tiny", [5, 6, 7], 2)
    assert [row.backend for row in rows] == ["llama.cpp f16", "llama.cpp q4_0", "llama.cpp q8_0"]
    assert [(one.options["type_k"], one.options["type_v"]) for one in made] == [(1, 1), (2, 2), (8, 8)]
    assert {tuple(one.evaluated) for one in made} == {(5, 6, 7) + (7,) * (llama_cpp.WARM_UPS + 2)}
    assert rows[0].ratio_to_full == 1
    assert rows[2].ratio_to_full == pytest.approx(rows[0].ms / rows[2].ms)
