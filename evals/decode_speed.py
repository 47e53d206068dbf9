"""Time of a decoding step with different caches of the same context, all in one run, step by step in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from transformers import Cache, DynamicCache, PreTrainedModel, QuantizedCache

from ..attention import register
from ..cache import ATTENTION_NAME, OscarCache
from ..config import PRESETS, resolve_config
from ..key_bias import KeyBias
from .phases import States, fill

PREFILL_CHUNK = 512
PEER = "quanto-2"
SHORT = 128  # tokens after which a step takes what a model takes whatever its cache
WARM_UPS = 3  # not timed: allocations, what is compiled at its first use, and whether threads pay is tried out


@dataclass(frozen=True)
class DecodeRow:
    """One cache's decoding steps.

    Attributes:
        op, backend, device, dtype, context, batch: what was timed.
        ms: median milliseconds of a step of the whole model.
        slowest_ms: the slowest step.
        cache_bytes: bytes that the cache holds after the last step; None where it does not say.
        speedup_over_full: the full cache's median over this one's.
        speedup_over_quanto: that of transformers' quantized cache (quanto, 2 bits) over this one's; None without it.
        short_ms: median milliseconds of a step after SHORT tokens with a full cache: what is left of a step when its
            cache costs nothing.
    """

    op: str
    backend: str
    device: str
    dtype: str
    context: int
    batch: int
    ms: float
    slowest_ms: float
    cache_bytes: int | None
    speedup_over_full: float
    speedup_over_quanto: float | None
    short_ms: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


def caches(model: PreTrainedModel, key_biases: dict[int, KeyBias] | None = None) -> dict[str, Callable[[], Cache]]:
    """Makers of an empty cache, by the name that the table shows."""

    def oscar(preset: str, backend: str = "auto") -> Callable[[], Cache]:
        settings = resolve_config(preset, backend=backend)
        return lambda: OscarCache(model.config, settings, key_biases=key_biases)

    return {
        "full": lambda: DynamicCache(config=model.config),
        PEER: lambda: QuantizedCache("quanto", model.config, nbits=2),
        **{f"oscar-{preset}": oscar(preset) for preset in PRESETS},
        "oscar-balanced, torch": oscar("balanced", backend="reference"),
    }


@torch.inference_mode()
def time_decoding(
    model: PreTrainedModel,
    tokens: torch.Tensor,
    makers: dict[str, Callable[[], Cache]],
    steps: int,
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
    copies: int = 1,
) -> list[DecodeRow]:
    """Time `steps` decoding steps after a context, every cache in turn at each step.

    Args:
        model: a decoder; its attention is switched to "oscar", which reads other caches with sdpa.
        tokens: int64 [batch, context], prefilled once with a full cache; every cache is given the same states.
        makers: empty caches by name; "full" must be among them.
        steps: timed steps; more than the block size, so that packing a block is among them.
        progress: called with steps done, steps in all and what is going on.
        copies: sequences that are decoded for each one of tokens, with bytes of their own in every cache: a context
            need not be read once for each sequence of a large batch.
    """
    register()
    model.set_attn_implementation(ATTENTION_NAME)
    states, token = _prefill(model, tokens, lambda done, total: progress(done, total, "prefill"))
    states = {index: (_copied(keys, copies), _copied(values, copies)) for index, (keys, values) in states.items()}
    token = _copied(token, copies)
    filled = {name: fill(make(), states) for name, make in makers.items()}
    short = fill(
        DynamicCache(config=model.config), {i: (k[:, :, :SHORT], v[:, :, :SHORT]) for i, (k, v) in states.items()}
    )
    del states
    short_ms = statistics.median([_step(model, token, short) for _ in range(WARM_UPS + steps)][WARM_UPS:])
    for cache in filled.values():
        for _ in range(WARM_UPS):
            _step(model, token, cache)
    times: dict[str, list[float]] = {name: [] for name in filled}
    for step in range(steps):
        for name, cache in filled.items():
            times[name].append(_step(model, token, cache))
            progress(step, steps, name)
    medians = {name: statistics.median(seen) for name, seen in times.items()}
    sizes = tokens.shape[1], len(token)
    return [_row(model, sizes, name, times[name], filled[name], medians, short_ms) for name in filled]


def _copied(tensor: torch.Tensor, copies: int) -> torch.Tensor:
    return tensor.repeat_interleave(copies, dim=0) if copies > 1 else tensor


def _prefill(
    model: PreTrainedModel, tokens: torch.Tensor, progress: Callable[[int, int], None]
) -> tuple[States, torch.Tensor]:
    cache = DynamicCache(config=model.config)
    for start in range(0, tokens.shape[1], PREFILL_CHUNK):
        progress(start, tokens.shape[1])
        logits = model(tokens[:, start : start + PREFILL_CHUNK], past_key_values=cache, logits_to_keep=1).logits
    states = {index: (layer.keys, layer.values) for index, layer in enumerate(cache.layers)}
    return states, logits[:, -1:].argmax(-1)


def _step(model: PreTrainedModel, token: torch.Tensor, cache: Cache) -> float:
    _wait(token.device)
    start = time.perf_counter()
    model(token, past_key_values=cache)
    _wait(token.device)
    return 1e3 * (time.perf_counter() - start)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _row(
    model: PreTrainedModel,
    sizes: tuple[int, int],
    name: str,
    times: list[float],
    cache: Cache,
    medians: dict[str, float],
    short_ms: float,
) -> DecodeRow:
    memory = cache.memory().total if isinstance(cache, OscarCache) else None
    if isinstance(cache, DynamicCache):
        memory = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    return DecodeRow(
        op="decode_step",
        backend=name,
        device=str(model.device),
        dtype=str(model.dtype).removeprefix("torch."),
        context=sizes[0],
        batch=sizes[1],
        ms=medians[name],
        slowest_ms=max(times),
        cache_bytes=memory,
        speedup_over_full=medians["full"] / medians[name],
        speedup_over_quanto=medians[PEER] / medians[name] if PEER in medians else None,
        short_ms=short_ms,
    )
