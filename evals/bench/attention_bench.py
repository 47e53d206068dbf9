"""Decode attention of one layer: every preset and backend against dense attention, in turn in the same run."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch

from ...config import PRESETS, resolve_config
from .bandwidth import Peaks, dtype_name
from .clock import Contender, Progress, Timing, time_in_turn
from .dense import OP, dense_contenders
from .packed import PackedCase, least_context, packed_bytes, packed_case
from .room import LeftOut, free_bytes, lacks_room
from .shapes import Shape

OURS = "oscar"
# of one kind's layers together on a CPU: a step of a model goes through layer after layer, each with its own cache
LAYERS_BYTES, MOST_LAYERS = 2**30, 8


@dataclass(frozen=True)
class AttentionRow:
    """One contender at one size.

    Attributes:
        op, backend, device, dtype, shape, context, batch: what was timed. Ours take states in `dtype`.
        layers: how many layers with data of their own a round goes through; every figure is of one.
        ms, fastest_ms, slowest_ms, repeats, launch: see clock.Timing.
        bytes: what a step must read and write.
        gb_per_s: bytes over the median time, 1e9 bytes a second.
        share_of_copy: the same over the measured copy bandwidth.
        operations: multiplications and additions of scores and of weighted values; unpacking is not counted.
        bound_ms: the larger of bytes over copy bandwidth and operations over the peak of a matrix product.
        ratio_to_best_dense: the fastest dense contender's median over this one's; None where no dense one fits.
    """

    op: str
    backend: str
    device: str
    dtype: str
    shape: str
    context: int
    batch: int
    layers: int
    ms: float
    fastest_ms: float
    slowest_ms: float
    repeats: int
    launch: str
    bytes: int
    gb_per_s: float
    share_of_copy: float
    operations: int
    bound_ms: float
    ratio_to_best_dense: float | None

    @property
    def ours(self) -> bool:
        """Whether it reads a packed cache."""
        return self.backend.startswith(OURS)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class _Entry:
    contender: Contender
    nbytes: int
    dtype: torch.dtype
    computed: torch.dtype  # what its operations are counted against


def dense_dtypes(device: torch.device, dtype: torch.dtype) -> tuple[torch.dtype, ...]:
    """What dense peers run in: on a CPU fp32 too, which may be the faster one there."""
    return (dtype,) if device.type == "cuda" or dtype == torch.float32 else (dtype, torch.float32)


def layers_in_turn(shape: Shape, context: int, batch: int, dtype: torch.dtype, device: torch.device) -> int:
    """How many layers a round goes through: on a CPU as many as a dense peer holds in LAYERS_BYTES or half the memory.

    On CUDA one: its calls are replayed as graphs, which have no host's caches to find warm or cold.
    """
    if device.type == "cuda":
        return 1
    largest = max(used.itemsize for used in dense_dtypes(device, dtype))
    room = min(LAYERS_BYTES, free_bytes(device) // 2)
    return max(1, min(MOST_LAYERS, room // (batch * shape.full_bytes(context, largest))))


@torch.inference_mode()
def bench_attention(
    shape: Shape,
    contexts: Sequence[int],
    batches: Sequence[int],
    *,
    dtype: torch.dtype,
    device: torch.device,
    peaks: Peaks,
    presets: Iterable[str] = tuple(PRESETS),
    backends: Iterable[str] = ("auto",),
    with_bias: bool = False,
    repeats: int = 20,
    seconds: float = float("inf"),
    progress: Progress = lambda done, total, what: None,
) -> tuple[list[AttentionRow], list[LeftOut]]:
    """Time one decoding step of one layer at every context and batch size.

    Args:
        shape: the model whose layer it is.
        dtype: of queries, of exact tokens and of dense keys and values; see dense_dtypes.
        peaks: of the device, for float32 and for `dtype`.
        presets, backends: ours.
        with_bias: ours as in layers whose large key bias is kept apart from the keys.
        repeats, seconds: rounds at each size, and the time after which no new one starts.
        progress: called with rounds done, rounds in all and what is timed.

    Returns:
        Rows, dense ones first at each size, and what was left out.
    """
    rows: list[AttentionRow] = []
    left: list[LeftOut] = []
    settings = [(preset, backend) for preset in presets for backend in backends]
    sizes = [(context, batch) for batch in batches for context in contexts]
    for index, (context, batch) in enumerate(sizes):
        layers = layers_in_turn(shape, context, batch, dtype, device)
        entries, missing = _dense(shape, context, batch, dtype, device, layers)
        ours, refused = _packed(shape, context, batch, dtype, device, settings, with_bias, layers)
        entries |= ours
        left += missing + refused
        done = partial(_of_all, progress, index, len(sizes), f"context {context}, batch {batch}: ")
        contenders = {name: entry.contender for name, entry in entries.items()}
        timings = time_in_turn(contenders, device, repeats, seconds, done) if contenders else {}
        rows += _rows(shape, context, batch, device, entries, timings, peaks)
        # entries refer to one another through their closures: their memory is wanted now
        del entries, ours, contenders
        _release(device)
    return rows, left


def _of_all(progress: Progress, index: int, sizes: int, size: str, done: int, total: int, what: str) -> None:
    progress(index * total + done, sizes * total, size + what)


def _release(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _dense(
    shape: Shape, context: int, batch: int, dtype: torch.dtype, device: torch.device, layers: int
) -> tuple[dict[str, _Entry], list[LeftOut]]:
    entries: dict[str, _Entry] = {}
    left: list[LeftOut] = []
    for used in dense_dtypes(device, dtype):
        found, missing = dense_contenders(shape, context, batch, used, device, layers)
        left += missing
        query = batch * shape.query_heads * shape.head_dim * used.itemsize
        nbytes = batch * shape.full_bytes(context, used.itemsize) + 2 * query
        entries |= {name: _Entry(contender, nbytes, used, used) for name, contender in found.items()}
    return entries, left


def _packed(
    shape: Shape,
    context: int,
    batch: int,
    dtype: torch.dtype,
    device: torch.device,
    settings: list[tuple[str, str]],
    with_bias: bool,
    layers: int,
) -> tuple[dict[str, _Entry], list[LeftOut]]:
    entries: dict[str, _Entry] = {}
    left: list[LeftOut] = []
    cases: dict[str, list[PackedCase]] = {}
    for preset, backend in settings:
        name, config = f"{OURS}-{preset}, {backend}", resolve_config(preset)
        reason = None
        if context < least_context(config):
            reason = f"fills no block; the least context is {least_context(config)}"
        elif preset not in cases:
            reason = lacks_room(layers * packed_bytes(shape, config, context, batch, dtype), device)
        if reason is None:
            if preset not in cases:
                sizes = shape, config, context, batch, dtype, device, with_bias
                cases[preset] = [packed_case(*sizes) for _ in range(layers)]
            reason = _refusal(cases[preset][0], backend)
        if reason is not None:
            left.append(LeftOut(OP, name, context, batch, reason))
            continue
        # on a CPU ours multiply in fp32, whatever the states are in; the reference waits for the device
        computed = dtype if device.type == "cuda" else torch.float32
        calls = [partial(case.attend, backend) for case in cases[preset]]
        contender = Contender(calls, capturable=backend != "reference")
        entries[name] = _Entry(contender, cases[preset][0].read_bytes, dtype, computed)
    return entries, left


def _refusal(case: PackedCase, backend: str) -> str | None:
    try:
        case.attend(backend)
    except ValueError as error:
        return str(error)
    except torch.OutOfMemoryError as error:
        return str(error).strip().splitlines()[0]
    return None


def _rows(
    shape: Shape,
    context: int,
    batch: int,
    device: torch.device,
    entries: dict[str, _Entry],
    timings: dict[str, Timing],
    peaks: Peaks,
) -> list[AttentionRow]:
    dense = [timing.ms for name, timing in timings.items() if not name.startswith(OURS)]
    operations = 4 * batch * shape.query_heads * context * shape.head_dim
    rows = []
    for name, timing in timings.items():
        entry = entries[name]
        rate = entry.nbytes / (1e-3 * timing.ms)
        rows.append(
            AttentionRow(
                op=OP,
                backend=name,
                device=device.type,
                dtype=dtype_name(entry.dtype),
                shape=shape.name,
                context=context,
                batch=batch,
                layers=len(entry.contender.calls),
                **asdict(timing),
                bytes=entry.nbytes,
                gb_per_s=rate / 1e9,
                share_of_copy=rate / peaks.copy,
                operations=operations,
                bound_ms=peaks.bound_ms(entry.nbytes, operations, entry.computed),
                ratio_to_best_dense=min(dense) / timing.ms if dense else None,
            )
        )
    return rows
