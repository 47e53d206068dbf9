"""The byte formula against what a cache allocates, and the largest sizes that it gives."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from oscar_x.cache import OscarCache
from oscar_x.config import PRESETS
from oscar_x.evals.bench.capacity import capacities, decoding_bytes, full_bytes, prompt_bytes
from oscar_x.evals.bench.shapes import SHAPES
from oscar_x.evals.phases import fill


def _filled(shape, settings, context, batch, dtype) -> OscarCache:
    states = [torch.randn(batch, shape.key_value_heads, context, shape.head_dim).to(dtype) for _ in range(2)]
    cache = OscarCache(shape.config(), settings)
    return fill(cache, {layer: tuple(states) for layer in range(shape.layers)})


def _allocated(cache: OscarCache) -> int:
    storages = {}
    for layer in cache.packed_layers:
        table = layer.table()
        for tensor in (layer.pool.records, layer.exact.keys, layer.exact.values, table.ids, table.lengths, table.used):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    return sum(storages.values())


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(("context", "batch"), [(1, 1), (195, 2), (196, 2), (1000, 3)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_formula_is_what_a_prompt_allocates(small, preset, context, batch, dtype) -> None:
    settings = PRESETS[preset]
    allocated = _allocated(_filled(small, settings, context, batch, dtype))
    assert prompt_bytes(small, settings, context, batch, dtype) == pytest.approx(allocated, rel=0.01)


def test_the_formula_bounds_what_decoding_allocates(small) -> None:
    settings = replace(PRESETS["balanced"], residual_length=8)
    bound = decoding_bytes(small, settings, 1000, 2, torch.float32)
    cache = _filled(small, settings, 1000, 2, torch.float32)
    for _ in range(settings.block_size):
        for layer in cache.packed_layers:
            new = torch.randn(2, small.key_value_heads, 1, small.head_dim)
            layer.pack_due()
            layer.append(new, new, None)
    assert cache.memory().peak <= bound
    assert _allocated(cache) > prompt_bytes(small, settings, 1000, 2, torch.float32)


def test_the_largest_sizes_fit_and_one_more_does_not() -> None:
    shape, dtype, room = SHAPES["Llama-3.1-8B"], torch.bfloat16, 40 * 2**30
    rows = capacities(shape, [32768], [2], room, dtype=dtype)
    free = room - 2 * shape.parameters
    sizes = {f"oscar-{name}": settings for name, settings in PRESETS.items()}
    for row in rows:
        step = (0, 1) if row.op == "max_batch" else (1, 0)
        more = row.context + step[0], row.batch + step[1]
        if row.backend == "full":
            size = full_bytes(shape, *more, dtype)
        else:
            size = decoding_bytes(shape, sizes[row.backend], *more, dtype)
        assert row.cache_bytes <= free < size
        assert row.weights_bytes == 2 * shape.parameters
    best = {row.op: row.ratio_to_full for row in rows if row.backend == "oscar-balanced"}
    assert best["max_batch"] >= 5
    assert best["max_context"] >= 5


def test_where_nothing_fits_in_full_there_is_no_ratio() -> None:
    shape = SHAPES["Llama-3.1-8B"]
    rows = capacities(shape, [2**20], [], 2 * shape.parameters + 60 * 2**30)
    assert [row.batch for row in rows] == [0, 2, 2, 3]
    assert {row.ratio_to_full for row in rows} == {None}


def test_a_memory_that_does_not_hold_the_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="does not hold the weights of Llama"):
        capacities(SHAPES["Llama-3.1-8B"], [1024], [], 2**30)
