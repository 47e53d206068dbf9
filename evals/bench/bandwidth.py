"""What a device can do at most, measured: bytes copied and multiply-adds of a matrix product, each a second."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from .clock import Call, wait

COPIED_BYTES = {"cuda": 2**31, "cpu": 2**28}
MATRIX = {"cuda": 8192, "cpu": 1024}
REPEATS = 10


@dataclass(frozen=True)
class Peaks:
    """A device's bounds.

    Attributes:
        copy: bytes a second, read and written both counted.
        operations: multiplications and additions a second of a matrix product, by dtype's name.
    """

    copy: float
    operations: dict[str, float]

    def bound_ms(self, nbytes: int, operations: int, dtype: torch.dtype) -> float:
        """Least milliseconds for this many bytes and operations, whichever takes longer."""
        return 1e3 * max(nbytes / self.copy, operations / self.operations[dtype_name(dtype)])


def dtype_name(dtype: torch.dtype) -> str:
    """torch.bfloat16 as "bfloat16"."""
    return str(dtype).removeprefix("torch.")


def measure_peaks(device: torch.device, dtypes: tuple[torch.dtype, ...]) -> Peaks:
    """Both bounds of a device, the fastest of ten runs each."""
    return Peaks(copy_bandwidth(device), {dtype_name(dtype): matmul_peak(device, dtype) for dtype in dtypes})


def copy_bandwidth(device: torch.device, nbytes: int | None = None) -> float:
    """Bytes a second of copying a tensor, read and written both counted.

    Args:
        nbytes: size of the tensor; by default several times the last-level cache.
    """
    size = nbytes or COPIED_BYTES.get(device.type, COPIED_BYTES["cpu"])
    source = torch.ones(size // 4, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _fastest(lambda: target.copy_(source), device)


def matmul_peak(device: torch.device, dtype: torch.dtype, size: int | None = None) -> float:
    """Operations a second of a square matrix product; a multiply-add counts as two."""
    size = size or MATRIX.get(device.type, MATRIX["cpu"])
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    target = torch.empty_like(left)
    return 2 * size**3 / _fastest(lambda: torch.matmul(left, right, out=target), device)


def _fastest(call: Call, device: torch.device) -> float:
    call()
    times = []
    for _ in range(REPEATS):
        wait(device)
        start = time.perf_counter()
        call()
        wait(device)
        times.append(time.perf_counter() - start)
    return min(times)
