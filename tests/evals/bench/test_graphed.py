"""Steps of fixed shapes, on a CPU uncaptured."""

from __future__ import annotations

import torch
from transformers import DynamicCache

from oscar_x.evals.bench import graph_check
from oscar_x.evals.bench.end_to_end import bench_tokens, random_model
from oscar_x.evals.bench.graphed import fixed_cache, graphed_step

CPU = torch.device("cpu")


def test_a_fixed_full_cache_gives_an_ordinary_step(small) -> None:
    model = random_model(small, torch.float32, CPU)
    fixed = fixed_cache((2, small.key_value_heads, 50, small.head_dim), small.layers, torch.float32, CPU)
    ordinary = DynamicCache(config=model.config)
    for index, layer in enumerate(fixed.layers):
        ordinary.update(layer.keys[:, :, :-1].clone(), layer.values[:, :, :-1].clone(), index)
    step = graphed_step(model, fixed, 2, 3)
    with torch.no_grad():
        expected = model(torch.zeros(2, 1, dtype=torch.int64), past_key_values=ordinary).logits[:, -1]
        for _ in range(3):  # each writes the same token again
            torch.testing.assert_close(step(), expected, rtol=1e-4, atol=1e-5)


def test_captured_steps_are_compared_with_one_another(small) -> None:
    model = random_model(small, torch.float32, CPU)
    rows, left = bench_tokens(model, small, [300], [1], presets=("max",), quanto=False, graphs=True, steps=2)
    assert not left
    held = {row.backend: row for row in rows}
    assert list(held) == ["full", "oscar-max, auto", "full, graph", "oscar-max, auto, graph"]
    for name in ("full, graph", "oscar-max, auto, graph"):
        assert held[name].ratio_to_full == held[name].tokens_per_s / held["full, graph"].tokens_per_s
    assert held["oscar-max, auto"].ratio_to_full == held["oscar-max, auto"].tokens_per_s / held["full"].tokens_per_s


def test_the_check_of_captured_steps_finds_what_is_right_and_what_is_wrong(monkeypatch) -> None:
    found = graph_check.check_graph(CPU, prompt=310, steps=20)
    assert found["holds"]
    assert found["packed_on_the_way"] == 2 * 128
    assert found["relative_error"] <= 1e-3
    monkeypatch.setattr(graph_check, "BOUND", -1.0)
    assert not graph_check.check_graph(CPU, prompt=310, steps=20)["holds"]
