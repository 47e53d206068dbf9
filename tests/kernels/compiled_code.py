"""Emulates what the Triton kernels compile to; run by test_compiled_code.py outside of Triton's interpreter.

Prints one line a case: its name, its error and the most that is allowed. What is not said to be for compute capability
8.0 is compiled for 9.0, where four warps multiply 64 rows with wgmma: compression, rotations, and attention of 32 rows.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from oscar_x.compressor import block_layout
from oscar_x.config import OscarConfig
from oscar_x.kernels import triton_support
from oscar_x.kernels.compress import compress_blocks, decompress_blocks
from oscar_x.kernels.decode_attention import joint_attention, packed_attention
from oscar_x.kernels.hadamard import hadamard_transform
from oscar_x.kernels.key_bias import KeyBias
from oscar_x.kernels.pack import pack_bits, unpack_bits

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")]
cases = import_module("compiled_cases")
attention, Emulated = import_module("attention_case"), import_module("ptx.launch").Emulated

SCALING = attention.SCALING


def exchange(capability: int, counting: bool = False) -> dict[str, Any]:
    """Puts emulated kernels where the wrappers launch the real ones."""
    triton_support.refusal_of_device = lambda device: None
    kernels = {"decode_attention": ("split_kernel", "merge_kernel"), "hadamard": ("rotate_kernel",)}
    kernels["compress"] = ("compress_kernel", "shared_norms_kernel")
    kernels["pack"] = ("pack_kernel", "unpack_kernel")
    emulated = {}
    for folder, names in kernels.items():
        module = import_module(f"oscar_x.kernels.{folder}.triton")
        for name in names:
            now = getattr(module, name)
            kernel = now.kernel if isinstance(now, Emulated) else now
            emulated[name] = Emulated(kernel, capability, counting)
            setattr(module, name, emulated[name])
    return emulated


def stored(case: Any) -> tuple[Any, ...]:
    """Layout, records in any order, their table, and the states that they stand for."""
    batch, blocks = len(case.lengths), len(case.lengths[0])
    layout = block_layout(case.config, case.heads, case.head_dim)
    shape = (batch * blocks, case.heads, case.config.block_size, case.head_dim)
    spread = torch.exp(torch.rand(*shape[:3], 1) * 4 - 2)
    records = compress_blocks(torch.randn(shape) * spread, torch.randn(shape), layout, backend="reference")
    keys, values = (
        states.unflatten(0, (batch, blocks)).transpose(1, 2).flatten(2, 3)
        for states in decompress_blocks(records, layout)
    )
    table = torch.randperm(batch * blocks)
    records[table] = records.clone()
    return layout, records, table.view(batch, blocks), keys, values


def with_bias(case: Any, keys: torch.Tensor) -> tuple[torch.Tensor, dict[str, Any]]:
    batch, blocks = len(case.lengths), len(case.lengths[0])
    pairs, size = 24, case.config.block_size  # fewer than half the channels: the rest does not turn
    axes = torch.arange(pairs) % 3 if case.bias == "three" else None
    bias = KeyBias(3 * torch.randn(case.heads, case.head_dim), 1e4 ** (-torch.arange(pairs) / pairs), 1.1, axes)
    if axes is None:
        positions = torch.randint(0, 200_000, (batch, blocks))
        share = bias.rotated((positions[..., None] + torch.arange(size)).flatten(1))
    else:
        positions = torch.randint(0, 200_000, (3, batch, blocks, size))
        share = bias.placed(positions.flatten(2))
    return keys + share.transpose(1, 2), {"key_bias": bias, "positions": positions}


def attention_error(case: Any) -> float:
    torch.manual_seed(0)
    emulated = exchange(case.capability)
    layout, records, table, keys, values = stored(case)
    size, batch = case.config.block_size, len(case.lengths)
    lengths = torch.tensor([[min(n % size if n < 0 else n, size) for n in row] for row in case.lengths])
    query = torch.randn(batch, case.heads, case.rows, case.head_dim).to(case.dtype)
    seen = (torch.arange(size) < lengths[..., None]).flatten(1)[:, None, None].expand(-1, 1, case.rows, -1)
    options: dict[str, Any] = {}
    if case.bias:
        keys, options = with_bias(case, keys)
    if case.masked:
        options["visible"] = torch.rand(seen.shape) > 0.3
        seen = seen & options["visible"]
    if case.used:
        options["used"] = torch.tensor(case.used)
        seen = seen & (torch.arange(seen.shape[-1]) // size < options["used"][:, None])[:, None, None]
        table[torch.arange(table.shape[1]) >= options["used"][:, None]] = 10**12
    call = query, records, table, lengths, layout, SCALING
    if not case.exact:
        found = packed_attention(*call, backend="triton", **options)
    else:
        counts = torch.tensor(case.exact)
        buffers = torch.randn(2, batch, case.heads, max(case.exact) + 5, case.head_dim).to(case.dtype)
        new = buffers[:, :, :, : max(case.exact)]
        there = (torch.arange(new.shape[3]) < counts[:, None])[:, None, None]
        new.masked_fill_(~there[:, 0, 0][None, :, None, :, None], float("nan"))
        there = there.expand(-1, 1, case.rows, -1)
        if case.masked:
            options["exact_visible"] = torch.rand(there.shape) > 0.3
            there = there & options["exact_visible"]
        found = joint_attention(*call, *new, backend="triton", exact_lengths=counts, **options)
        seen = torch.cat([seen, there], -1)
        keys, values = (torch.cat([s, e.nan_to_num()], 2) for s, e in zip((keys, values), new, strict=True))
    assert emulated["split_kernel"].launches == 1
    return difference(found, attention.dense(query, keys, values, seen))


def difference(found: tuple[torch.Tensor, ...], expected: tuple[torch.Tensor, ...]) -> float:
    """Relative error of the output; infinite where nothing was seen and the answer does not say so."""
    (output, lse), (right, right_lse) = found, expected
    nothing = right_lse.isneginf()
    if not (output.isfinite().all() and torch.equal(lse.isneginf(), nothing) and (output[nothing] == 0).all()):
        return float("inf")
    apart = (lse - right_lse)[~nothing].abs()
    if len(apart) and apart.max() > 0.2:
        return float("inf")
    return float((output - right).norm() / right.norm())


def compression_error(config: OscarConfig, head_dim: int, dtype: torch.dtype, capability: int = 90) -> float:
    """Share of elements that are off by more than rounding, and infinite where one is off by more than a code."""
    torch.manual_seed(0)
    emulated = exchange(capability)
    layout = block_layout(config, 2, head_dim)
    shape = (2, 2, config.block_size, head_dim)
    spread = torch.exp(torch.rand(*shape[:3], 1) * 4 - 2)
    given = (torch.randn(shape) * spread).to(dtype), torch.randn(shape).to(dtype)
    pool, ids = torch.full((5, layout.record_bytes), 7, dtype=torch.uint8), torch.tensor([3, 1])
    got = compress_blocks(*given, layout, pool, ids, backend="triton")
    assert emulated["compress_kernel"].launches == 1
    if not (got[[0, 2, 4]] == 7).all():
        return float("inf")
    expected = compress_blocks(*given, layout, backend="reference")
    unrotated = replace(layout, rotate_keys=False, rotate_values=False)
    worst = 0.0
    bits = layout.key_bits, layout.value_bits
    for mine, theirs, b in zip(*(decompress_blocks(r, unrotated) for r in (got[ids], expected)), bits, strict=True):
        least, most = theirs.flatten(2).aminmax(dim=-1)
        distance = (mine - theirs).abs() / ((most - least) / (2**b - 1))[..., None, None]
        worst = max(worst, float((distance > 0.1).float().mean()))
        if not distance.max() <= 1.01:
            return float("inf")
    return worst


def rotation_error(head_dim: int, dtype: torch.dtype, capability: int = 90) -> float:
    torch.manual_seed(0)
    emulated = exchange(capability)
    x = torch.randn(3, 7, head_dim).to(dtype)
    found = hadamard_transform(x, backend="triton")
    assert emulated["rotate_kernel"].launches == 1
    return float((found - hadamard_transform(x.double())).norm() / x.norm())


def packing_error(bits: int, n: int) -> float:
    """Share of bytes, or of codes read back, that are wrong."""
    torch.manual_seed(0)
    emulated = exchange(90)
    codes = torch.randint(0, 2**bits, (5, n), dtype=torch.uint8)
    packed = pack_bits(codes, bits, backend="triton")
    back = unpack_bits(packed, bits, n, backend="triton")
    assert emulated["pack_kernel"].launches == emulated["unpack_kernel"].launches == 1
    wrong = (packed != pack_bits(codes, bits, backend="reference")).float().mean()
    return float(wrong + (back != codes).float().mean())


def main(part: str, wanted: str = "") -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)  # what is not written is NaN
    torch.set_num_threads(1)
    runs: dict[str, tuple[Any, float]] = {}
    for name, case in {"decode": cases.DECODE, "wide": cases.WIDE, "more": cases.MORE}.get(part, {}).items():
        runs[name] = partial(attention_error, case), cases.BOUNDS[case.dtype]
    if part == "compress":
        for name, what in cases.COMPRESSION.items():
            runs[name] = partial(compression_error, *what), 1e-3
        for name, (bound, *what) in cases.ROTATION.items():
            runs[f"rotation {name}"] = partial(rotation_error, *what), bound
        for bits, n in ((2, 128), (3, 77), (6, 1500)):
            runs[f"packing {bits} bits"] = partial(packing_error, bits, n), 0.0
    for name, (run, bound) in runs.items():
        if wanted in name:
            started = perf_counter()
            print(f"{name} error={run():.2e} bound={bound:.0e} seconds={perf_counter() - started:.1f}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
