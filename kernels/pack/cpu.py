"""Bit packing on a CPU by loops that numba compiles: eight codes at a time, without intermediates."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..cpu_support import compiled_loops
from .reference import PLANES, plane_bytes

# A call takes 17 us, one of the reference 20 to 160. From here on packing takes a third to a half of that one's CPU
# time and unpacking a third to four fifths, of 4 million codes 0.3 to 0.4 (2 to 4 bits, rows of 64, Xeon, one thread)
LEAST_ELEMENTS = 2**10
# codes that pay for waking another thread, and that a thread takes at a time
THREAD_ELEMENTS, SHARE = 2**20, 2**16


def fits(tensor: torch.Tensor) -> bool:
    """Whether these loops take codes or packed bytes; the reference takes all."""
    return (
        tensor.device.type == "cpu"
        and tensor.numel() >= LEAST_ELEMENTS
        and not torch.compiler.is_compiling()
        and compiled_loops()
    )


def pack_bits(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """What op.pack_bits says."""
    from .cpu_loops import pack_every_row

    codes, length = codes.contiguous(), sum(plane_bytes(codes.shape[-1], width) for width in PLANES[bits])
    out = torch.empty((*codes.shape[:-1], length), dtype=torch.uint8)
    _run(pack_every_row, codes, out, bits, codes)
    return out


def unpack_bits(packed: torch.Tensor, bits: int, n: int) -> torch.Tensor:
    """What op.unpack_bits says."""
    from .cpu_loops import unpack_every_row

    out = torch.empty((*packed.shape[:-1], n), dtype=torch.uint8)
    _run(unpack_every_row, packed.contiguous(), out, bits, out)
    return out


def _run(work: Any, given: torch.Tensor, out: torch.Tensor, bits: int, codes: torch.Tensor) -> None:
    # here, as layouts import this folder
    from ..cpu_threads import run_together

    n, (low, high) = codes.shape[-1], (*PLANES[bits], 0)[:2]
    source, target = (tensor.view(-1, tensor.shape[-1]).numpy() for tensor in (given, out))
    planes = low, plane_bytes(n, low), high, plane_bytes(n, high)
    share, counter = max(1, SHARE // n), np.zeros(1, np.int64)
    threads = min(torch.get_num_threads(), 1 + codes.numel() // THREAD_ELEMENTS)
    calls: list[tuple[Any, ...]] = [(source, target, *planes, share, counter)] * threads
    run_together(work, calls, codes.numel())
