"""The emulator of compiled kernels: what instructions compute, and that it notices what must not be done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

# %r2 is the thread's own word of shared memory, %r4 its neighbour's
STORE, LOAD, OTHER = "st.shared.b32 [%r2], %r0;", "ld.shared.b32 %r5, [%r4];", "xor.b32 %r4, %r2, 128;"
COPY = "cp.async.ca.shared.global [%r2], [%d0], 4;"
Run = Callable[..., Any]


def bits(number: float) -> int:
    return int(np.array(number, np.float32).view(np.int32))


COMPUTED: tuple[tuple[str, int], ...] = (
    ("prmt.b32 %r9, 0x33221100, 0x77665544, 0x7610;", 0x77661100),
    ("prmt.b32 %r9, 0x332211F0, 0, 0x1980;", 0x1100FFF0),
    ("bfe.s32 %r9, 0xF0, 4, 4;", -1),
    ("bfe.u32 %r9, 0xF0, 4, 3;", 7),
    ("bfi.b32 %r9, 0xFFFF, 0, 24, 4;", 0x0F000000),
    ("shf.l.wrap.b32 %r9, 0x80000000, 1, 1;", 3),
    ("shr.s32 %r9, -8, 40;", -1),
    ("shl.b32 %r9, 1, 32;", 0),
    ("div.s32 %r9, -7, 2;", -3),
    ("mul.hi.u32 %r9, 0x80000000, 6;", 3),
    ("mul.hi.s32 %r9, -7, 0x55555556;", -3),
    ("mov.b16 %h1, -2; mul.hi.u16 %h2, %h1, 1639; cvt.u32.u16 %r9, %h2;", 65534 * 1639 >> 16),
    ("mad.lo.cc.u32 %r8, 0xFFFFFFFF, 1, 1; madc.hi.u32 %r9, 0, 0, 5;", 6),
    ("lop3.b32 %r9, 12, 10, 6, 0x96;", 12 ^ 10 ^ 6),
    ("cvt.rzi.s32.f32 %r9, 0fC0200000;", -2),
    ("cvt.rni.s32.f32 %r9, 0f40200000;", 2),
    ("cvt.rzi.s32.f32 %r9, 0f7F800000;", 2**31 - 1),
    ("cvt.rzi.s32.f32 %r9, 0fFFFFFFFF;", 0),
    ("max.f32 %r9, 0f7FC00000, 0f3F800000;", bits(1.0)),
    ("abs.ftz.f32 %r9, 0f80000001;", 0),
    ("fma.rn.f32 %r9, 0f3F800001, 0f3F800001, 0fBF800002;", 0x28800000),  # 2**-46, lost by rounding the product
    ("cvt.rn.f16x2.f32 %r9, 0f3F800000, 0f40000000;", 0x3C004000),
    ("cvt.rn.bf16x2.f32 %r9, 0f3F808000, 0f3F818000;", 0x3F803F82),
    ("mul.f16x2 %r9, 0x3C004000, 0x40004000;", 0x40004400),
    ("mov.b16 %h1, 0x4000; fma.rn.f16 %h2, %h1, %h1, %h1; cvt.u32.u16 %r9, %h2;", 0x4600),
    ("mov.b32 {%h1, %h2}, 0x00010002; mov.b32 %r9, {%h2, %h1};", 0x00020001),
    ("setp.ne.f32 %p1, 0f7FC00000, 0f3F800000; selp.b32 %r9, 1, 2, %p1;", 2),
    ("setp.neu.f32 %p1, 0f7FC00000, 0f3F800000; selp.b32 %r9, 1, 2, %p1;", 1),
    ("setp.lt.u32 %p1|%p2, 1, -1; selp.b32 %r9, 1, 2, %p2;", 2),
    ("mov.b32 %r9, 4; setp.eq.s32 %p1, 0, 1; @%p1 mov.b32 %r9, 5;", 4),
    ("mov.b32 %r9, 4; setp.eq.s32 %p1, 0, 1; @!%p1 mov.b32 %r9, 5;", 5),
    ("mul.wide.s32 %d3, -2, 3; cvt.u32.u64 %r9, %d3;", -6),
)


@pytest.mark.parametrize(("code", "expected"), COMPUTED)
def test_what_instructions_compute(run_ptx: Run, code: str, expected: int) -> None:
    out, _ = run_ptx(f"{code} st.global.b32 [%d1], %r9;")
    assert (out & 0xFFFFFFFF == expected & 0xFFFFFFFF).all(), hex(int(out[0]) & 0xFFFFFFFF)


@pytest.mark.parametrize(
    ("shuffle", "expected"),
    [
        ("shfl.sync.bfly.b32 %r9|%p1, %r0, 3, 31, -1;", lambda lane: lane ^ 3),
        ("shfl.sync.up.b32 %r9|%p1, %r0, 4, 0, -1;", lambda lane: lane - 4 if lane >= 4 else lane),
        ("shfl.sync.down.b32 %r9|%p1, %r0, 1, 0x1807, -1;", lambda lane: lane + 1 if lane % 8 < 7 else lane),
        ("shfl.sync.idx.b32 %r9|%p1, %r0, 9, 31, -1;", lambda lane: 9),
        ("redux.sync.max.s32 %r9, %r0, 0xffffffff;", lambda lane: 31),
    ],
)
def test_what_lanes_exchange(run_ptx: Run, shuffle: str, expected: Callable[[int], int]) -> None:
    shuffle = shuffle.replace("0xffffffff", "%r7")
    out, _ = run_ptx(f"mov.b32 %r7, -1; {shuffle} st.global.b32 [%d1], %r9;")
    assert out.tolist() == [expected(lane) for lane in range(32)]


PRODUCT = """ld.global.b32 %r5, [%d0];
st.shared.b32 [%r2], %r5;
bar.sync 0;
and.b32 %r6, %r0, 15; shr.u32 %r7, %r0, 4; shl.b32 %r7, %r7, 4; shl.b32 %r8, %r6, 5;
add.s32 %r8, %r8, %r7; add.s32 %r8, %r8, %r1;
ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r10, %r11, %r12, %r13}, [%r8];
shl.b32 %r9, %r6, 4; add.s32 %r9, %r9, %r1; add.s32 %r9, %r9, 512;
ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%r14, %r15}, [%r9];
mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%r20, %r21, %r22, %r23}, {%r10, %r11, %r12, %r13}, {%r14, %r15},
  {0f3F800000, 0f3F800000, 0f3F800000, 0f3F800000};
""".replace(",\n ", ",")


def test_matrices_are_loaded_multiplied_and_stored(run_ptx: Run) -> None:
    """A [16, 16] and B [16, 8], rows in shared memory; the product plus one goes back as fp16 rows."""
    torch.manual_seed(0)
    a, b = torch.randn(16, 16).half(), torch.randn(16, 8).half()
    given = torch.cat([a.flatten(), b.flatten()]).view(torch.int32)
    rows = torch.zeros(192, dtype=torch.int32)
    rows[:192] = given
    store = """cvt.rn.f16x2.f32 %r30, %r21, %r20; cvt.rn.f16x2.f32 %r31, %r23, %r22;
    setp.lt.u32 %p1, %r0, 32;
    bar.sync 0;
    @!%p1 bra END;
    and.b32 %r40, %r0, 15; shl.b32 %r40, %r40, 4; add.s32 %r40, %r40, %r1;
    stmatrix.sync.aligned.m8n8.x2.shared.b16 [%r40], {%r30, %r31};
    bar.warp.sync -1;
    ld.shared.v2.b32 {%r50, %r51}, [%r52];
    st.global.b32 [%d1], %r50;
    st.global.b32 [%d1+128], %r51;
    END:
    """
    load = "shl.b32 %r52, %r0, 3; add.s32 %r52, %r52, %r1;"
    out, _ = run_ptx(PRODUCT + load + store, rows, warps=6, shared=768)
    found = torch.stack([out[:32], out[32:64]], 1).flatten().view(torch.float16).view(16, 8)
    torch.testing.assert_close(found.float(), a.float() @ b.float() + 1, rtol=2e-3, atol=2e-3)


def test_ways_that_part_meet_again(run_ptx: Run) -> None:
    """A loop of another length in each lane, in code that lies behind what follows it."""
    body = """and.b32 %r9, %r0, 3; mov.b32 %r10, 0;
    setp.ne.s32 %p1, %r9, 0;
    @%p1 bra AWAY;
    BACK: shfl.sync.bfly.b32 %r11, %r10, 1, 31, -1; bar.sync 0;
    st.global.b32 [%d1], %r11; ret;
    AWAY: add.s32 %r10, %r10, 2; sub.s32 %r9, %r9, 1; setp.gt.s32 %p1, %r9, 0; @%p1 bra AWAY; bra.uni BACK;"""
    out, _ = run_ptx(body)
    assert out.tolist() == [2 * ((lane ^ 1) & 3) for lane in range(32)]


@pytest.mark.parametrize(
    ("body", "warps"),
    [
        (f"{STORE} bar.warp.sync -1; {LOAD} bar.warp.sync -1; {STORE}", 1),
        (f"{OTHER} {STORE} bar.sync 0; {LOAD} bar.sync 0; {STORE}", 2),
        (
            f"{COPY} cp.async.commit_group; cp.async.wait_group 0; bar.sync 0; {LOAD}",
            2,
        ),
        ("st.shared.b32 [%r1], %r1; st.shared.b32 [%r1], %r1;", 2),  # the same number: no race
    ],
)
def test_what_barriers_order_is_no_race(run_ptx: Run, body: str, warps: int) -> None:
    run_ptx(f"{body} mov.b32 %r9, 1;", warps=warps)


@pytest.mark.parametrize(
    ("words", "body", "warps"),
    [
        ("another lane has written", f"{STORE} {LOAD}", 1),
        ("another lane has read", f"{STORE} bar.warp.sync -1; {LOAD} {STORE}", 1),
        ("another warp has written", f"{OTHER} {STORE} bar.warp.sync -1; {LOAD}", 2),
        ("another warp has read", f"{OTHER} {STORE} bar.sync 0; {LOAD} bar.warp.sync -1; {STORE}", 2),
        ("another warp has read", "ld.shared.b32 %r5, [%r1]; st.shared.b32 [%r1], 1;", 2),
        ("write different numbers", "st.shared.b32 [%r1], %r0;", 1),
        ("before cp.async.wait_group", f"{COPY} cp.async.commit_group; ld.shared.b32 %r5, [%r2];", 1),
        (
            "before cp.async.wait_group",
            f"{COPY} cp.async.commit_group; cp.async.wait_group 1; ld.shared.b32 %r5, [%r2];",
            1,
        ),
        ("before cp.async.wait_group", f"{COPY} cp.async.wait_group 0; ld.shared.b32 %r5, [%r2];", 1),
        ("has written", f"{COPY} cp.async.commit_group; cp.async.wait_group 0; {LOAD}", 1),
        ("misaligned shared access of 8", "ld.shared.b64 %d5, [%r2];", 1),
        ("misaligned global access of 8", "ld.global.b64 %d5, [%d0];", 1),
        ("shared access of 4 bytes out of bounds", "st.shared.b32 [%r2+512], %r0;", 1),
        ("misaligned shared access", "ld.shared.b32 %r5, [%r33];", 1),  # never written
        ("shared access of 4 bytes out of bounds", "ld.shared.b32 %r5, [%r1+-4];", 1),
        ("global access of 4 bytes out of bounds", "ld.global.b32 %r5, [%d0+4];", 1),
        ("different numbers to the same global", "ld.param.b64 %d1, [out]; st.global.b32 [%d1], %r0;", 1),
        ("read that another thread", "st.global.b32 [%d1], 1; xor.b64 %d3, %d1, 4; ld.global.b32 %r5, [%d3];", 1),
        ("divergence: 16 of 32", "setp.lt.u32 %p1, %r0, 16; @%p1 bra L; bar.sync 0; L:", 1),
        ("divergence: 1 of 32", "setp.eq.u32 %p1, %r0, 0; @%p1 shfl.sync.idx.b32 %r5, %r0, 0, 31, -1;", 1),
        ("not emulated: frob.b32", "frob.b32 %r5, %r0;", 1),
        ("not emulated: mul.sat.f32", "mul.sat.f32 %r5, %r0, %r0;", 1),
        ("no end after", "L: bra.uni L;", 1),
    ],
)  # fmt: skip
def test_what_must_not_be_done_is_noticed(ptx_fails, words: str, body: str, warps: int, monkeypatch, support) -> None:
    machine = __import__("sys").modules[support("ptx/__init__").Machine.__module__]
    monkeypatch.setattr(machine, "MOST_STEPS", 1000)
    ptx_fails(words, body, warps=warps)


def test_a_barrier_that_a_warp_never_reaches(ptx_fails) -> None:
    ptx_fails("not all threads", "setp.lt.u32 %p1, %r0, 32; @%p1 bra L; bar.sync 0; L:", warps=2)


def test_what_was_never_written_is_poison(run_ptx: Run) -> None:
    out, _ = run_ptx("ld.shared.b32 %r5, [%r2]; and.b32 %r5, %r5, %r50; st.global.b32 [%d1], %r5;")
    assert (out == -1).all()


@pytest.mark.parametrize(("stride", "ways"), [(4, 1), (8, 2), (128, 32), (0, 1), (132, 1)])
def test_bank_conflicts_are_counted(run_ptx: Run, stride: int, ways: int) -> None:
    _, counts = run_ptx(f"mad.lo.s32 %r5, %r0, {stride}, %r1; ld.shared.b32 %r6, [%r5];", shared=8192)
    assert counts.wavefronts == {"ld.shared.b32": ways}
    assert counts.least_wavefronts == {"ld.shared.b32": 1}


def test_instructions_and_sectors_are_counted(run_ptx: Run) -> None:
    _, counts = run_ptx(
        "ld.global.b32 %r5, [%d0]; setp.lt.u32 %p1, %r0, 32; @%p1 bra L; add.u32 %r5, %r5, 1; L:", warps=2
    )
    assert (counts.instructions["add.u32"], counts.instructions["ld.global.b32"]) == (1, 2)
    assert counts.sectors == counts.least_sectors == {"ld.global.b32": 8}
