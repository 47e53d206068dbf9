"""Compressing a prompt: tokens a second of the whole model, and its share of the prefill that it comes after."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from transformers import AutoModel, DynamicCache

from ...cache.layer import OscarLayer
from ...config import PRESETS, OscarConfig, resolve_config
from .bandwidth import Peaks, dtype_name
from .clock import Call, Contender, Progress, Timing, time_in_turn, wait
from .room import LeftOut, lacks_room
from .shapes import Shape

OP = "compress_prompt"
PREFILL_CHUNK = 8192
SCRATCH = 2  # times the states: what compressing holds beside them, generously (docs/performance.md)


@dataclass(frozen=True)
class CompressRow:
    """Compressing one layer's prompt with one preset.

    Attributes:
        op, backend, device, dtype, shape, context, batch: what was timed.
        ms, fastest_ms, slowest_ms, repeats, launch: of one layer; see clock.Timing.
        tokens_per_s: tokens of the prompt a second, all layers compressed.
        bytes: states read and packed storage written, of one layer.
        gb_per_s, share_of_copy, bound_ms: bytes over time, over the copy bandwidth, and time at that bandwidth.
        prefill_ms: of one layer of a model with random weights of this shape; None where it was not timed.
        share_of_prefill: ms over prefill_ms.
    """

    op: str
    backend: str
    device: str
    dtype: str
    shape: str
    context: int
    batch: int
    ms: float
    fastest_ms: float
    slowest_ms: float
    repeats: int
    launch: str
    tokens_per_s: float
    bytes: int
    gb_per_s: float
    share_of_copy: float
    bound_ms: float
    prefill_ms: float | None
    share_of_prefill: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


@torch.inference_mode()
def bench_compress(
    shape: Shape,
    contexts: Sequence[int],
    batches: Sequence[int],
    *,
    dtype: torch.dtype,
    device: torch.device,
    peaks: Peaks,
    presets: Iterable[str] = tuple(PRESETS),
    backends: Iterable[str] = ("auto",),
    prefill: bool = False,
    repeats: int = 5,
    seconds: float = float("inf"),
    progress: Progress = lambda done, total, what: None,
) -> tuple[list[CompressRow], list[LeftOut]]:
    """Time what a cache does with a prompt's keys and values: sinks taken, blocks packed, window kept.

    Args:
        prefill: also time the prefill of one layer, with random weights.
        others: as in attention_bench.bench_attention.

    Returns:
        Rows, and what was left out.
    """
    rows: list[CompressRow] = []
    left: list[LeftOut] = []
    settings = {
        f"oscar-{preset}, {backend}": resolve_config(preset, backend=backend)
        for preset in presets
        for backend in backends
    }
    for context, batch in ((context, batch) for batch in batches for context in contexts):
        needed = (1 + SCRATCH) * batch * shape.full_bytes(context, dtype.itemsize)
        reason = lacks_room(needed, device)
        if reason is not None:
            left += [LeftOut(OP, name, context, batch, reason) for name in settings]
            continue
        sizes = batch, shape.key_value_heads, context, shape.head_dim
        states = tuple(torch.randn(sizes, dtype=dtype, device=device) for _ in range(2))
        held, refused = _try(settings, states, context, batch)
        left += refused
        contenders = {name: Contender([_call(settings[name], states)], capturable=False) for name in held}
        timings = time_in_turn(contenders, device, repeats, seconds, progress)
        took = prefill_ms(shape, context, batch, dtype, device) if prefill else None
        nbytes = {name: states[0].nbytes + states[1].nbytes + size for name, size in held.items()}
        rows += [_row(shape, states[0], name, timing, nbytes[name], peaks, took) for name, timing in timings.items()]
    return rows, left


def _try(
    settings: dict[str, OscarConfig], states: tuple[torch.Tensor, ...], context: int, batch: int
) -> tuple[dict[str, int], list[LeftOut]]:
    """Bytes that a layer then holds, for each setting that runs; and those that refuse."""
    held: dict[str, int] = {}
    left = []
    for name, config in settings.items():
        found = _held_or_refusal(config, states)
        if isinstance(found, str):
            left.append(LeftOut(OP, name, context, batch, found))
        else:
            held[name] = found
    return held, left


def _held_or_refusal(settings: OscarConfig, states: tuple[torch.Tensor, ...]) -> int | str:
    try:
        return compress(settings, *states)
    except ValueError as error:
        return str(error)


def _row(
    shape: Shape, keys: torch.Tensor, name: str, timing: Timing, nbytes: int, peaks: Peaks, prefill: float | None
) -> CompressRow:
    batch, _, context, _ = keys.shape
    rate = nbytes / (1e-3 * timing.ms)
    return CompressRow(
        op=OP,
        backend=name,
        device=keys.device.type,
        dtype=dtype_name(keys.dtype),
        shape=shape.name,
        context=context,
        batch=batch,
        **asdict(timing),
        tokens_per_s=batch * context / (1e-3 * timing.ms * shape.layers),
        bytes=nbytes,
        gb_per_s=rate / 1e9,
        share_of_copy=rate / peaks.copy,
        bound_ms=1e3 * nbytes / peaks.copy,
        prefill_ms=prefill,
        share_of_prefill=None if prefill is None else timing.ms / prefill,
    )


def compress(settings: OscarConfig, key_states: torch.Tensor, value_states: torch.Tensor) -> int:
    """Give a prompt to an empty layer; bytes that it then holds."""
    layer = OscarLayer(settings)
    layer.lazy_initialization(key_states, value_states)
    layer.append(key_states, value_states, None)
    return layer.pool.records.nbytes + layer.exact.nbytes


def _call(settings: OscarConfig, states: tuple[torch.Tensor, ...]) -> Call:
    return lambda: compress(settings, *states)


def prefill_ms(shape: Shape, context: int, batch: int, dtype: torch.dtype, device: torch.device) -> float:
    """Milliseconds of one layer's prefill with random weights, median of three: a full cache, chunks of 8,192 tokens.

    The embedding is left small: looking it up costs a prefill nothing, and its size would.
    """
    small = replace(shape, vocabulary=64)
    with torch.device(device):
        model = AutoModel.from_config(small.config(num_hidden_layers=1), dtype=dtype, attn_implementation="sdpa")
    tokens = torch.randint(0, 64, (batch, context), device=device)
    times = []
    for _ in range(3):
        cache = DynamicCache(config=model.config)
        wait(device)
        start = time.perf_counter()
        for at in range(0, context, PREFILL_CHUNK):
            model(tokens[:, at : at + PREFILL_CHUNK], past_key_values=cache)
        wait(device)
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)
