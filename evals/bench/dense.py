"""Dense attention of one decoding step: torch's sdpa by each of its backends, and flash-attn's decode."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from .clock import Contender, wait
from .room import LeftOut, lacks_room
from .shapes import Shape

OP = "decode_attention"
HOPELESS, HOPELESS_SECONDS = 10, 1.0
SDPA = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
# "gqa" hands query heads over as they are; "rows" makes those of a KV head rows of one query, which reads it once
SHORT = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}
FORMS = ("gqa", "rows")
FLASH_MODULES = ("flash_attn_interface", "flash_attn")  # of version 3, of version 2


def dense_contenders(
    shape: Shape, context: int, batch: int, dtype: torch.dtype, device: torch.device, layers: int = 1
) -> tuple[dict[str, Contender], list[LeftOut]]:
    """Every dense peer that runs, by name, over the same random keys and values; and those that do not, with why.

    Nothing is allocated where keys and values would not fit.

    Args:
        layers: each with keys and values of its own; a contender has one call for each.
    """
    label = SHORT[dtype]
    needed = layers * batch * shape.full_bytes(context, dtype.itemsize)
    reason = lacks_room(needed, device)
    if reason is not None:
        return {}, [LeftOut(OP, f"dense {label}", context, batch, reason)]
    sizes = batch, shape.key_value_heads, context, shape.head_dim
    peers: dict[str, tuple[list[Callable[[], torch.Tensor]], int]] = {}
    for _ in range(layers):
        keys, values = (torch.randn(sizes, dtype=dtype, device=device) for _ in range(2))
        query = torch.randn(batch, shape.query_heads, 1, shape.head_dim, dtype=dtype, device=device)
        for name, call, scratch in _calls(query, keys, values):
            peers.setdefault(f"{name} {label}", ([], scratch))[0].append(call)
    found: dict[str, Contender] = {}
    left, first = [], {}
    for name, (calls, scratch) in peers.items():
        refused = lacks_room(scratch, device)
        took = _first_call(calls[0], device) if refused is None else refused
        if isinstance(took, str):
            left.append(LeftOut(OP, name, context, batch, took))
        else:
            found[name], first[name] = Contender(calls), took
    for name in _hopeless(first):
        del found[name]
        reason = f"its first call took more than {HOPELESS_SECONDS:g} s and {HOPELESS} times the fastest's"
        left.append(LeftOut(OP, name, context, batch, reason))
    return found, left


def _hopeless(seconds: dict[str, float]) -> list[str]:
    """Who need not be timed: math on long contexts would take most of a run."""
    limit = max(HOPELESS_SECONDS, HOPELESS * min(seconds.values(), default=0.0))
    return [name for name, took in seconds.items() if took > limit]


def _calls(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
) -> list[tuple[str, Callable[[], torch.Tensor], int]]:
    """Name, call and bytes of scratch of each peer."""
    calls = []
    rows = query.view(*keys.shape[:2], -1, query.shape[-1])
    group = rows.shape[2]
    for form in FORMS:
        for name in SDPA:
            # math repeats the KV heads and works on fp32 copies
            repeats = (group if form == "gqa" else 1) if name == "math" else 0
            call = _sdpa(name, rows if form == "rows" else query, keys, values, form == "gqa" and group > 1)
            calls.append((f"sdpa-{name}-{form}", call, repeats * 2 * keys.numel() * 4))
    installed = [module for module in FLASH_MODULES if find_spec(module) is not None]
    calls += [(module.replace("_", "-"), _flash_attn(module, query, keys, values), 0) for module in installed]
    return calls


def _sdpa(
    name: str, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, enable_gqa: bool
) -> Callable[[], torch.Tensor]:
    def call() -> torch.Tensor:
        with sdpa_kernel(SDPA[name]):
            return scaled_dot_product_attention(query, keys, values, enable_gqa=enable_gqa)

    return call


def _flash_attn(
    module: str, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
) -> Callable[[], torch.Tensor]:
    # it takes [batch, tokens, heads, head_dim] with any strides
    swapped = [states.transpose(1, 2) for states in (query, keys, values)]
    return lambda: import_module(module).flash_attn_with_kvcache(*swapped)


def _first_call(call: Callable[[], torch.Tensor], device: torch.device) -> float | str:
    """Seconds of a peer's first call, or why it does not run."""
    start = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # sdpa warns once for each of its backends that refuses
            call()
        wait(device)
    except (RuntimeError, TypeError, ImportError) as error:
        return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return time.perf_counter() - start
