"""The Hadamard transform on a CPU by loops that numba compiles: sums and differences, not a matrix product."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..cpu_support import compiled_loops
from .reference import power_of_two_factor

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# below this the call costs more than the product that it saves (docs/performance.md)
LEAST_ELEMENTS = 2**14
# elements that pay for waking another thread, and rows that a thread takes at a time
THREAD_ELEMENTS, ROWS = 2**18, 256


def fits(x: torch.Tensor) -> bool:
    """Whether these loops take a tensor; the reference takes every one, and is differentiable."""
    return (
        x.device.type == "cpu"
        and x.dtype in DTYPES
        and x.numel() >= LEAST_ELEMENTS
        and not (x.requires_grad and torch.is_grad_enabled())
        and not torch.compiler.is_compiling()
        and compiled_loops()
    )


def hadamard_transform(x: torch.Tensor) -> torch.Tensor:
    """What op.hadamard_transform says."""
    # here, as attention imports reference.py of this folder
    from ..cpu_threads import run_together
    from .cpu_loops import rotate_rows

    out = torch.empty(x.shape, dtype=torch.float32)
    out.copy_(x.detach())
    rows, counter = out.view(-1, x.shape[-1]).numpy(), np.zeros(1, np.int64)
    threads = min(torch.get_num_threads(), 1 + x.numel() // THREAD_ELEMENTS)
    calls: list[tuple[Any, ...]] = [(rows, ROWS, power_of_two_factor(x.shape[-1]), counter)] * threads
    run_together(rotate_rows, calls, out.nbytes)
    return out.to(x.dtype)
