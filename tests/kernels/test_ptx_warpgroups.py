"""The emulator of compiled kernels: products of whole warpgroups, what they compute and what they need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

Run = Callable[..., Any]
FENCES, END = "fence.proxy.async.shared::cta; bar.sync 0; wgmma.fence.sync.aligned;", "wgmma.commit_group.sync.aligned;"
WAIT, REFENCE = "wgmma.wait_group.sync.aligned 0;", "wgmma.fence.sync.aligned;"
A_REGISTERS = "{%r10, %r11, %r12, %r13}"
A_BYTES, SUMS_FROM = 8192, 20  # B lies behind A in shared memory; the sums are in %r20 and on
THREADS = np.arange(128)
SMALL_PRODUCT = "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%r20, %r21, %r22, %r23},"
SMALL_PRODUCT += " {%r10, %r11, %r12, %r13}, %d3, 0, 1, 1, 0;"
# B in the first 256 bytes, which each of the first 64 threads writes a word of
SMALL = "bfe.u32 %r5, %r1, 4, 14; cvt.u64.u32 %d3, %r5; or.b64 %d3, %d3, 0x800080000; mov.b32 %r10, %r0;"
SMALL += " mov.b32 %r11, 0; mov.b32 %r12, 0; mov.b32 %r13, 0; st.shared.b32 [%r2], 0x3C003C00;"


def image(matrix: np.ndarray, layout: str) -> np.ndarray:
    """Shared memory, uint16, of a factor [rows, depth]; layouts as the PTX ISA draws them."""
    rows, depth = matrix.shape
    if layout == "none, K-major":  # 8 x 8 core matrices, those of a row of cores next to each other
        return matrix.reshape(rows // 8, 8, depth // 8, 8).swapaxes(1, 2).ravel()
    if layout == "none, MN-major":
        return matrix.T.reshape(depth // 8, 8, rows // 8, 8).swapaxes(1, 2).ravel()
    pieces = int(layout.partition(",")[0]) // 16  # of 16 bytes a line, as many as there are rows of a core, or columns
    lines = (matrix.T if "MN" in layout else matrix).reshape(-1, pieces, 8)
    assert lines.shape[0] == (depth if "MN" in layout else rows)
    return np.stack([line[np.arange(pieces) ^ i * pieces // 8 % pieces] for i, line in enumerate(lines)]).ravel()


def descriptor(layout: str, rows: int, depth: int) -> int:
    """But for the start address."""
    leading, stride = {"none, K-major": (128, depth * 16), "none, MN-major": (rows * 16, 128)}.get(layout, (0, 0))
    width = layout.partition(",")[0]
    mode = {"none": 0, "128": 1, "64": 2, "32": 3}[width]
    stride = stride or 8 * int(width)
    return leading >> 4 << 16 | stride >> 4 << 32 | mode << 62


def wgmma_code(a: str, b: str, columns: int, depth: int, kind: str) -> str:
    """Sums start with one. A's layout is "" in registers; along the depth a descriptor moves on by 32 bytes."""
    words = (A_BYTES + columns * depth * 2) // 512
    code = [f"ld.global.b32 %r5, [%d0+{512 * i}]; st.shared.b32 [%r2+{512 * i}], %r5;" for i in range(words)]
    code += [f"ld.global.b32 %r{10 + i}, [%d0+{512 * (words + i)}];" for i in range(4)] if not a else []
    sums = [f"%r{SUMS_FROM + i}" for i in range(columns // 2)]
    code += [f"mov.b32 {name}, 0f3F800000;" for name in sums]
    code += ["setp.eq.u32 %p1, 0, 0; bfe.u32 %r6, %r1, 4, 14; cvt.u64.u32 %d3, %r6;"]
    code += [f"add.s64 %d4, %d3, {descriptor(a, 64, depth)};"] if a else []
    code += [f"add.s64 %d6, %d3, {descriptor(b, columns, depth) + A_BYTES // 16};", FENCES]
    for _ in range(depth // 16):
        name = f"wgmma.mma_async.sync.aligned.m64n{columns}k16.f32.{kind}.{kind} {{{', '.join(sums)}}},"
        trans = ([str(int("MN" in a))] if a else []) + [str(int("MN" in b))]
        code += [f"{name} {'%d4' if a else A_REGISTERS}, %d6, %p1, 1, 1, {', '.join(trans)};"]
        code += ["add.s64 %d4, %d4, 2; add.s64 %d6, %d6, 2;"]
    code += [END, WAIT, *(f"st.global.b32 [%d1+{512 * i}], {name};" for i, name in enumerate(sums))]
    return "\n".join(code)


@pytest.mark.parametrize(
    ("a", "b", "columns", "depth", "kind"),
    [
        ("none, K-major", "none, K-major", 32, 16, "f16"),
        ("none, MN-major", "none, MN-major", 48, 16, "bf16"),
        ("", "none, MN-major", 16, 16, "f16"),
        ("", "128, MN-major", 64, 16, "bf16"),
        ("128, K-major", "128, K-major", 16, 64, "f16"),
        ("128, MN-major", "none, K-major", 16, 16, "f16"),
        ("", "32, MN-major", 16, 16, "f16"),
        ("128, MN-major", "64, MN-major", 32, 16, "bf16"),
    ],
)
def test_products_of_a_warpgroup(run_ptx: Run, a: str, b: str, columns: int, depth: int, kind: str) -> None:
    torch.manual_seed(0)
    dtype = torch.float16 if kind == "f16" else torch.bfloat16
    first, second = torch.randn(64, depth).to(dtype), torch.randn(columns, depth).to(dtype)
    bits_a, bits_b = (x.view(torch.int16).numpy() for x in (first, second))
    memory = np.zeros(A_BYTES // 2, np.int16)
    if a:
        memory[: bits_a.size] = image(bits_a, a)
    row, pair = THREADS // 32 * 16 + THREADS % 32 // 4, THREADS % 4 * 2
    held = []
    for i in range(4):
        at = row + 8 * (i % 2), pair + 8 * (i // 2)
        held.append(np.stack([bits_a[at], bits_a[at[0], at[1] + 1]], 1).ravel())
    given = torch.from_numpy(np.concatenate([memory, image(bits_b, b), *held]).view(np.int32))
    code = wgmma_code(a, b, columns, depth, kind)
    out, _ = run_ptx(code, given, warps=4, shared=A_BYTES + columns * depth * 2, words=columns // 2)
    found = np.zeros((64, columns), np.float32)
    for i, sums in enumerate(out.view(columns // 2, 128).numpy().view(np.float32)):
        found[row + 8 * (i // 2 % 2), 8 * (i // 4) + pair + i % 2] = sums
    np.testing.assert_allclose(found, 1 + first.float().numpy() @ second.float().numpy().T, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("words", "body"),
    [
        ("", f"{SMALL} {FENCES} {SMALL_PRODUCT} {END} {WAIT}"),
        ("", f"{SMALL} {FENCES} {SMALL_PRODUCT} {END} {WAIT} bar.sync 0; st.shared.b32 [%r2], 1;"),
        ("", f"{SMALL} {FENCES} {SMALL_PRODUCT} {SMALL_PRODUCT} {END} mov.b32 %r10, %r10; {WAIT}"),
        ("", f"{SMALL} bar.sync 0; {FENCES.replace('bar.sync 0;', '')} {SMALL_PRODUCT} {END} {WAIT}"),
        ("before wgmma.wait_group", f"{SMALL} {FENCES} {SMALL_PRODUCT} {END} bar.sync 0; st.shared.b32 [%r2], 1;"),
        ("another warp has read", f"{SMALL} {FENCES} {SMALL_PRODUCT} {END} {WAIT} st.shared.b32 [%r2], 1;"),
        ("without a barrier", f"{SMALL} {FENCES.replace('bar.sync 0;', '')} {SMALL_PRODUCT} {END} {WAIT}"),
        ("without fence.proxy", f"{SMALL} bar.sync 0; wgmma.fence.sync.aligned; {SMALL_PRODUCT}"),
        ("without fence.proxy", f"fence.proxy.async; {SMALL} bar.sync 0; wgmma.fence.sync.aligned; {SMALL_PRODUCT}"),
        ("registers of A are written", f"{SMALL} {FENCES} {SMALL_PRODUCT} {END} mov.b32 %r10, 7; {WAIT}"),
        ("accumulators are written", f"{SMALL} {FENCES} {SMALL_PRODUCT} {END} mov.b32 %r23, 7; {WAIT}"),
        ("in use by another", f"{SMALL} {FENCES} {SMALL_PRODUCT} {REFENCE} {SMALL_PRODUCT.replace('%r20', '%r19')}"),
        ("no wgmma.fence", f"{SMALL} {FENCES.partition('wgmma')[0]} {SMALL_PRODUCT} {END} {WAIT}"),
        ("%r11 is written after wgmma.fence", f"{SMALL} {FENCES} mov.b32 %r11, 0; {SMALL_PRODUCT} {END} {WAIT}"),
        ("divergence: 96 threads", f"setp.lt.u32 %p1, %r0, 32; @%p1 bra L; {WAIT} L:"),
        ("different matrix", f"{SMALL} cvt.u64.u32 %d3, %r0; {FENCES} {SMALL_PRODUCT}"),
        ("out of bounds", f"{SMALL} mov.b64 %d3, 0x4000800080; {FENCES} {SMALL_PRODUCT}"),
        ("base offset", f"{SMALL} or.b64 %d3, %d3, 0x2000000000000; {FENCES} {SMALL_PRODUCT}"),
        ("not emulated: wgmma", f"{SMALL} {FENCES} {SMALL_PRODUCT.replace('n8k16.f32.f16.f16', 'n8k8.f32.tf32.tf32')}"),
        ("not emulated: wgmma", f"{SMALL} {FENCES} {SMALL_PRODUCT.replace(', 1, 1, 0;', ', 1, 1, 2;')}"),
        ("not emulated: fence.proxy", "fence.proxy.tensormap;"),
    ],
)  # fmt: skip
def test_what_products_of_a_warpgroup_need(run_ptx: Run, ptx_fails, words: str, body: str) -> None:
    if words:
        ptx_fails(words, body, warps=4)
    else:
        run_ptx(body, warps=4)


def test_sums_are_there_when_they_were_waited_for(run_ptx: Run) -> None:
    """A is one in the upper left of every warp, B one everywhere; until then sums are poison."""
    ones = SMALL.replace("mov.b32 %r10, %r0;", "mov.b32 %r10, 0x3C003C00;")
    for wait, expected in (
        ("", -1),
        (END, -1),
        (WAIT, -1),
        (END + WAIT, int(np.float32(8).view(np.int32))),
        (END + WAIT[:-2] + "1;", -1),
    ):
        out, _ = run_ptx(f"{ones} {FENCES} {SMALL_PRODUCT} {wait} st.global.b32 [%d1], %r20;", warps=4)
        assert (out == expected).all(), wait
