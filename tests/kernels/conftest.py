"""Fixtures that several files of these tests share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

# %r2 is the thread's own word of shared memory, %r4 its neighbour's
HEAD = """.extern .shared .align 16 .b8 smem[];
.visible .entry k(.param .u64 .ptr .global .align 1 given, .param .u64 .ptr .global .align 1 out)
{
.reg .pred %p<9>; .reg .b16 %h<9>; .reg .b32 %r<60>; .reg .b64 %d<9>;
mov.u32 %r0, %tid.x;
mov.b32 %r1, smem;
ld.param.b64 %d0, [given];
ld.param.b64 %d1, [out];
mul.wide.u32 %d2, %r0, 4;
add.s64 %d0, %d0, %d2;
add.s64 %d1, %d1, %d2;
shl.b32 %r3, %r0, 2;
add.s32 %r2, %r1, %r3;
xor.b32 %r4, %r2, 4;
"""
Run = Callable[..., Any]


@pytest.fixture
def run_ptx(support) -> Run:
    """run_ptx(body, given, warps=1): what a kernel stores, int32 [words of each thread x threads], and its counts."""
    ptx = support("ptx/__init__")

    def launch(body: str, given: torch.Tensor | None = None, warps: int = 1, shared: int = 512, words: int = 1):
        given = torch.zeros(32 * warps, dtype=torch.int32) if given is None else given
        out = torch.zeros(32 * warps * words, dtype=torch.int32)
        program = ptx.parse(HEAD + body + "\nret;\n}\n")
        memory = ptx.Global([given, out], program.constants)
        machine = ptx.Machine(program, memory, shared, 1, warps, counting=True)
        addresses = {"given": memory.address(given), "out": memory.address(out)}
        counts = machine.run((1, 1, 1), {name: np.array([at]).view(np.uint8) for name, at in addresses.items()})
        memory.give_back()
        return out, counts

    return launch


@pytest.fixture
def ptx_fails(run_ptx, support) -> Callable[..., None]:
    def check(words: str, body: str, **options: Any) -> None:
        with pytest.raises(support("ptx/__init__").EmulationError, match=words):
            run_ptx(body, **options)

    return check
