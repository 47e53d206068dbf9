"""Tokens a second of a whole decoder of a named shape, with each cache, from a cache that is full of random states.

The weights are random: a decoding step takes as long as with trained ones, its text means nothing, and rows say so.
Trained weights are timed by evals/decode_speed.py on real text; end_to_end.trained_rows puts its figures in these rows.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from transformers import AutoModelForCausalLM, Cache, DynamicCache, PreTrainedModel, QuantizedCache
from transformers.utils import is_optimum_quanto_available

from ...attention import register
from ...cache import ATTENTION_NAME, OscarCache
from ...config import PRESETS, resolve_config
from ..decode_speed import DecodeRow
from ..phases import fill
from .bandwidth import dtype_name
from .capacity import capacities, decoding_bytes, full_bytes
from .clock import Progress, wait
from .graphed import fixed_cache, graphed_step
from .room import LeftOut, lacks_room
from .shapes import Shape

OP = "decode_step"
FULL, QUANTO = "full", "quanto-2"
GRAPHED = ", graph"  # of names: steps captured as a CUDA graph, which leaves the host's share out
WARM_UPS = 3


@dataclass(frozen=True)
class TokensRow:
    """Decoding with one cache.

    Attributes:
        op, backend, device, dtype, shape, context, batch: what was timed; context is the tokens before the first step.
        weights: "random" or "trained".
        ms, slowest_ms: median and slowest step of the whole model.
        tokens_per_s: new tokens a second, over the batch.
        cache_bytes: bytes that the cache holds after the last step; None where it does not say.
        ratio_to_full: this cache's tokens a second over the full cache's in the same setting (the same batch, or the
            largest that fits for each), both captured or neither; None where that full cache was not run.
    """

    op: str
    backend: str
    device: str
    dtype: str
    shape: str
    context: int
    batch: int
    weights: str
    ms: float
    slowest_ms: float
    tokens_per_s: float
    cache_bytes: int | None
    ratio_to_full: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


def random_model(shape: Shape, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """A decoder of this shape with random weights; its attention reads packed caches, and others with sdpa.

    Raises:
        MemoryError: the weights do not fit.
    """
    reason = lacks_room(shape.parameters * dtype.itemsize, device)
    if reason is not None:
        raise MemoryError(f"random weights of {shape.name}: {reason}")
    register()
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(shape.config(), dtype=dtype, attn_implementation=ATTENTION_NAME)
    return model.eval()


@torch.inference_mode()
def bench_tokens(
    model: PreTrainedModel,
    shape: Shape,
    contexts: Sequence[int],
    batches: Sequence[int],
    *,
    presets: Iterable[str] = tuple(PRESETS),
    backends: Iterable[str] = ("auto",),
    memory_bytes: int | None = None,
    quanto: bool = True,
    graphs: bool | None = None,
    steps: int = 20,
    progress: Progress = lambda done, total, what: None,
) -> tuple[list[TokensRow], list[LeftOut]]:
    """Time decoding steps with each cache, one cache at a time: several would not fit beside one another.

    Args:
        model: from random_model, of this shape.
        batches: sequences decoded together.
        memory_bytes: if given, each cache also runs at the largest batch that capacity.capacities gives it there.
        quanto: also transformers' QuantizedCache (quanto, 2 bits).
        graphs: also steps captured as CUDA graphs, of the full and the packed caches; by default on CUDA.
        steps: timed steps.

    Returns:
        Rows, and what was left out.
    """
    presets = tuple(presets)
    rows: list[TokensRow] = []
    left: list[LeftOut] = []
    if quanto and not is_optimum_quanto_available():
        left += [
            LeftOut(OP, QUANTO, context, batch, "the package optimum-quanto is not installed")
            for context in contexts
            for batch in batches
        ]
    makers = _makers(model, presets, backends, quanto and is_optimum_quanto_available())
    if model.device.type == "cuda" if graphs is None else graphs:
        makers |= {f"{name}{GRAPHED}": make for name, make in makers.items() if name != QUANTO}
    settings: list[tuple[int, dict[str, int]]] = [
        (context, dict.fromkeys(makers, batch)) for context in contexts for batch in batches
    ]
    if memory_bytes is not None:
        settings += [(context, _largest_batches(shape, context, memory_bytes, model, makers)) for context in contexts]
    for index, (context, sizes) in enumerate(settings):
        setting: list[TokensRow] = []
        for done, (name, batch) in enumerate(sizes.items()):
            progress(index * len(sizes) + done, len(settings) * len(sizes), f"{name}, context {context}, batch {batch}")
            row = _time_cache(model, shape, name, makers[name], context, batch, steps)
            if isinstance(row, TokensRow):
                setting.append(row)
            else:
                left.append(row)
        rows += _with_ratios(setting)
    return rows, left


def _makers(
    model: PreTrainedModel, presets: Iterable[str], backends: Iterable[str], quanto: bool
) -> dict[str, Callable[[], Cache]]:
    makers: dict[str, Callable[[], Cache]] = {FULL: lambda: DynamicCache(config=model.config)}
    if quanto:
        makers[QUANTO] = lambda: QuantizedCache("quanto", model.config, nbits=2)
    for preset in presets:
        for backend in backends:
            config = resolve_config(preset, backend=backend)
            makers[f"oscar-{preset}, {backend}"] = lambda config=config: OscarCache(model.config, config)  # type: ignore[misc]
    return makers


def _largest_batches(
    shape: Shape, context: int, memory_bytes: int, model: PreTrainedModel, makers: Iterable[str]
) -> dict[str, int]:
    rows = capacities(shape, [context], [], memory_bytes, dtype=model.dtype)
    most = {row.backend: row.batch for row in rows}
    found = {name: most.get(name.split(",")[0], 0) for name in makers}
    return {name: batch for name, batch in found.items() if batch}


def _time_cache(
    model: PreTrainedModel,
    shape: Shape,
    name: str,
    make: Callable[[], Cache],
    context: int,
    batch: int,
    steps: int,
) -> TokensRow | LeftOut:
    device, dtype = model.device, model.dtype
    reason = lacks_room(_needed(shape, name, context, batch, dtype), device)
    if reason is not None:
        return LeftOut(OP, name, context, batch, reason)
    cache: Cache | None = None
    try:
        if name == FULL + GRAPHED:
            sizes = batch, shape.key_value_heads, context, shape.head_dim
            cache = fixed_cache(sizes, shape.layers, dtype, device)
        else:
            cache = make()
            _fill(cache, shape, context, batch, dtype, device)
        times, held = _decode(model, cache, batch, steps, name.endswith(GRAPHED)), _held(cache)
    except (torch.OutOfMemoryError, ValueError) as error:
        return LeftOut(OP, name, context, batch, str(error).strip().splitlines()[0])
    finally:
        cache = None
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    ms = statistics.median(times)
    return TokensRow(
        op=OP,
        backend=name,
        device=device.type,
        dtype=dtype_name(dtype),
        shape=shape.name,
        context=context,
        batch=batch,
        weights="random",
        ms=ms,
        slowest_ms=max(times),
        tokens_per_s=1e3 * batch / ms,
        cache_bytes=held,
        ratio_to_full=None,
    )


def _needed(shape: Shape, name: str, context: int, batch: int, dtype: torch.dtype) -> int:
    layer = batch * shape.full_bytes(context, dtype.itemsize)
    if name.startswith("oscar"):
        preset = name.removeprefix("oscar-").split(",")[0]
        return decoding_bytes(shape, resolve_config(preset), context, batch, dtype) + 2 * layer
    if name == QUANTO:
        return shape.layers * layer // 4 + 4 * layer  # a layer is dequantized whole, and joined to what is new
    return full_bytes(shape, context, batch, dtype) + layer


def _fill(cache: Cache, shape: Shape, context: int, batch: int, dtype: torch.dtype, device: torch.device) -> None:
    """The same random states for every layer: what is stored is a copy of them, or codes."""
    sizes = batch, shape.key_value_heads, context, shape.head_dim
    keys, values = (torch.randn(sizes, dtype=dtype, device=device) for _ in range(2))
    for layer in range(shape.layers):
        fill(cache, {layer: (keys, values)})


def _decode(model: PreTrainedModel, cache: Cache, batch: int, steps: int, graphed: bool) -> list[float]:
    """Milliseconds of each step."""
    token = torch.zeros(batch, 1, dtype=torch.int64, device=model.device)
    step = (
        graphed_step(model, cache, batch, WARM_UPS + steps)
        if graphed
        else lambda: model(token, past_key_values=cache).logits
    )
    times = []
    for _ in range(WARM_UPS + steps):
        wait(model.device)
        start = time.perf_counter()
        step()
        wait(model.device)
        times.append(1e3 * (time.perf_counter() - start))
    return times[WARM_UPS:]


def _held(cache: Cache) -> int | None:
    if isinstance(cache, OscarCache):
        return cache.memory().total
    if isinstance(cache, QuantizedCache):
        return None
    return sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)


def _with_ratios(rows: list[TokensRow]) -> list[TokensRow]:
    full = {row.backend: row.tokens_per_s for row in rows if row.backend in (FULL, FULL + GRAPHED)}
    found = []
    for row in rows:
        peer = full.get(FULL + GRAPHED if row.backend.endswith(GRAPHED) else FULL)
        found.append(row if peer is None else replace(row, ratio_to_full=row.tokens_per_s / peer))
    return found


def trained_rows(rows: Sequence[DecodeRow], name: str) -> list[TokensRow]:
    """Rows of evals/decode_speed.py in this form.

    Args:
        name: of the model.
    """
    return [
        TokensRow(
            op=OP,
            backend=row.backend,
            device=row.device,
            dtype=row.dtype,
            shape=name,
            context=row.context,
            batch=row.batch,
            weights="trained",
            ms=row.ms,
            slowest_ms=row.slowest_ms,
            tokens_per_s=1e3 * row.batch / row.ms,
            cache_bytes=row.cache_bytes,
            ratio_to_full=row.speedup_over_full,
        )
        for row in rows
    ]
