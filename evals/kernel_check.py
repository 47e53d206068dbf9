"""Whether the Triton kernels are right on this machine's GPU, and how fast: ``python -m oscar_x.evals.kernel_check``.

Right: against fp64 attention over the states read back from the same records, and captured decoding steps of a small
model against ordinary ones. Fast: one decode step of one layer against bf16 attention by torch, both replayed from a
CUDA graph over more buffers than the L2 cache holds. What fails is told, and the rest goes on; the table comes last.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from oscar_x.compressor import block_layout
from oscar_x.config import resolve_config
from oscar_x.kernels.compress import compress_blocks, decompress_blocks
from oscar_x.kernels.decode_attention import joint_attention

HEADS, GROUP, HEAD_DIM, EXACT = 8, 4, 128, 132  # the shape of the 7B-8B models; sinks and half-full window
BOUNDS = {torch.float32: 1e-3, torch.bfloat16: 1e-2, torch.float16: 1e-2}
CONTEXTS, BATCHES = (8192, 32768, 131072), (1, 8)
DENSE = (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH)
SETTINGS: dict[str, dict[str, Any]] = {
    **{preset: {"preset": preset} for preset in ("paper", "balanced", "max")},
    **{f"{bits} bits": {"kv_bits": bits} for bits in (1, 3, 4, 8)},
    "groups of 8": {"key_group_size": 8, "value_group_size": 8},
    "groups of 64": {"key_group_size": 64, "value_group_size": 64},
    "per channel": {"value_grouping": "per_channel"},
    "scales of 3 bits": {"scale_bits": 3},
}


def error(settings: dict[str, Any], head_dim: int, rows: int, dtype: torch.dtype, device: torch.device) -> float:
    """Relative error of attention over packed and exact tokens; records are written by the kernels too."""
    layout = block_layout(resolve_config(**settings), 2, head_dim)
    keys, values = (torch.randn(6, 2, layout.block_size, head_dim, device=device) for _ in range(2))
    records = compress_blocks(keys, values, layout, backend="triton")
    states = [s.unflatten(0, (2, 3)).transpose(1, 2).flatten(2, 3) for s in decompress_blocks(records, layout)]
    exact = torch.randn(2, 2, 2, 37, head_dim, device=device).to(dtype)
    query = torch.randn(2, 2, rows, head_dim, device=device).to(dtype)
    lengths = torch.full((2, 3), layout.block_size, device=device)
    lengths[0, 2], lengths[1, 1] = 1, layout.block_size - 1
    table = torch.arange(6, device=device).reshape(2, 3)
    got, _ = joint_attention(query, records, table, lengths, layout, 0.2, exact[0], exact[1], backend="triton")
    seen = (torch.arange(layout.block_size, device=device) < lengths[..., None]).flatten(1)[:, None, None]
    seen = torch.cat([seen, seen.new_ones(2, 1, 1, 37)], -1)
    whole_keys, whole_values = (torch.cat([s, e.float()], 2).double() for s, e in zip(states, exact, strict=True))
    scores = (query.double() @ whole_keys.transpose(-1, -2) * 0.2).masked_fill(~seen, float("-inf"))
    expected = scores.softmax(-1) @ whole_values
    return float((got - expected).norm() / expected.norm())


def cases() -> Iterator[tuple[str, int, int, torch.dtype]]:
    """Setting, head_dim, query rows, dtype: each is compiled for seconds, so not every combination."""
    wide, narrow = torch.float32, torch.bfloat16
    yield from (("balanced", head_dim, 1, dtype) for head_dim in (64, 80, 96, 128, 256) for dtype in (wide, narrow))
    yield from (("balanced", 128, rows, dtype) for rows in (16, 70, 300) for dtype in (wide, narrow))
    yield "balanced", 128, 1, torch.float16
    yield from ((name, *rest) for name in SETTINGS for rest in ((128, 4, narrow), (80, 4, wide)))


def check(device: torch.device) -> int:
    """Prints one line a case; returns how many are wrong."""
    wrong = 0
    for name, head_dim, rows, dtype in cases():
        torch.manual_seed(0)
        try:
            found = error(SETTINGS[name], head_dim, rows, dtype, device)
        except Exception as failure:  # one that does not compile must not hide the others
            print(f"{name} head_dim {head_dim} rows {rows}: {type(failure).__name__}: {str(failure)[:300]}", flush=True)
            found = float("nan")
        bad = not found <= BOUNDS[dtype]
        wrong += bad
        print(
            f"{'WRONG' if bad else 'ok':5} {name:16} head_dim {head_dim:3} rows {rows:3} {dtype} {found:.1e}",
            flush=True,
        )
    return wrong


def check_captured(device: torch.device) -> int:
    """Prints a line; returns 1 if captured steps are wrong or do not run."""
    from oscar_x.evals.bench.graph_check import check_graph

    try:
        found = check_graph(device)
    except Exception as failure:
        print(f"WRONG captured steps: {type(failure).__name__}: {str(failure)[:300]}", flush=True)
        return 1
    print(f"{'ok' if found['holds'] else 'WRONG':5} captured steps {found}", flush=True)
    return int(not found["holds"])


def milliseconds(step: Callable[[int], Any], buffers: int) -> float:
    """Median time of a step replayed from a CUDA graph that runs it on each of its buffers in turn."""
    for index in range(buffers):
        step(index)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for index in range(buffers):
            step(index)
    times = []
    for _ in range(20):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        stop.record()
        stop.synchronize()
        times.append(start.elapsed_time(stop) / buffers)
    return statistics.median(times)


def dense_times(batch: int, context: int, device: torch.device, buffers: int) -> dict[str, float]:
    """bf16 attention of one query a head by every backend of torch that runs, each head's queries as rows too."""
    query = torch.randn(batch, HEADS * GROUP, 1, HEAD_DIM, device=device, dtype=torch.bfloat16)
    shape = (buffers, 2, batch, HEADS, context, HEAD_DIM)
    states = torch.randn(shape, device=device, dtype=torch.bfloat16)
    times = {}
    for backend, rows in product(DENSE, (False, True)):
        q = query.view(batch, HEADS, GROUP, HEAD_DIM) if rows else query

        def step(index: int, q: torch.Tensor = q, rows: bool = rows) -> torch.Tensor:
            return scaled_dot_product_attention(q, states[index, 0], states[index, 1], enable_gqa=not rows)

        try:
            with sdpa_kernel(backend):
                times[f"{backend.name.lower()}{' rows' if rows else ''}"] = milliseconds(step, buffers)
        except RuntimeError as refusal:
            print(f"{backend.name} rows={rows}: {str(refusal).splitlines()[0]}")
    return times


def packed_time(preset: str, batch: int, context: int, device: torch.device) -> tuple[float, int]:
    """Milliseconds and bytes of a step at a preset; blocks hold random states, the same few over and over."""
    layout = block_layout(resolve_config(preset), HEADS, HEAD_DIM)
    blocks = context // layout.block_size
    few = torch.randn(2, 16, HEADS, layout.block_size, HEAD_DIM, device=device, dtype=torch.bfloat16)
    buffers = max(1, 2**28 // (batch * blocks * layout.record_bytes))
    records = compress_blocks(few[0], few[1], layout).repeat(-(-buffers * batch * blocks // 16), 1)
    tables = torch.randperm(len(records), device=device)[: buffers * batch * blocks].view(buffers, batch, blocks)
    lengths = torch.full((batch, blocks), layout.block_size, device=device)
    query = torch.randn(batch, HEADS, GROUP, HEAD_DIM, device=device, dtype=torch.bfloat16)
    exact = torch.randn(2, batch, HEADS, EXACT, HEAD_DIM, device=device, dtype=torch.bfloat16)

    def step(index: int) -> Any:
        return joint_attention(query, records, tables[index], lengths, layout, HEAD_DIM**-0.5, exact[0], exact[1])

    return milliseconds(step, buffers), batch * blocks * layout.record_bytes


def copy_bandwidth(device: torch.device) -> float:
    """Bytes a second, read plus written, of a copy within the device's memory."""
    source = torch.empty(2**32, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / (milliseconds(lambda _: target.copy_(source), 1) / 1000)


def measure(device: torch.device) -> None:
    """Prints the table."""
    bandwidth, lines = copy_bandwidth(device), []
    for batch, context in product(BATCHES, CONTEXTS):
        dense = dense_times(batch, context, device, max(1, 2**29 // (4 * batch * HEADS * context * HEAD_DIM)))
        best = min(dense, key=lambda name: dense[name])
        for preset in ("balanced", "max", "paper"):
            try:
                taken, size = packed_time(preset, batch, context, device)
            except Exception as failure:
                lines.append(f"{batch:5} {context:8} {preset:9} {type(failure).__name__}: {str(failure)[:200]}")
                continue
            share = size / (taken / 1000) / bandwidth
            ratio = dense[best] / taken
            lines.append(
                f"{batch:5} {context:8} {preset:9} {taken:9.4f} {dense[best]:9.4f} {best:28} {ratio:6.2f} {share:7.0%}"
            )
        torch.cuda.empty_cache()
    print(f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}, copy {bandwidth / 1e12:.2f} TB/s")
    print("batch  context preset           ms  dense ms fastest dense                 ratio  of copy")
    print("\n".join(lines))


if __name__ == "__main__":
    if not torch.cuda.is_available():
        sys.exit("no CUDA device: the kernels' tests run without one, this does not")
    mistakes = check(torch.device("cuda")) + check_captured(torch.device("cuda"))
    if "--check" not in sys.argv[1:]:
        measure(torch.device("cuda"))
    sys.exit(f"{mistakes} cases are wrong" if mistakes else 0)
