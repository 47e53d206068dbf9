"""Checks arguments and dispatches the Hadamard transform."""

from __future__ import annotations

import torch

from ..triton_support import chooses_triton
from . import cpu, reference


def hadamard_transform(x: torch.Tensor, backend: str = "auto") -> torch.Tensor:
    """Rotate the last axis by the normalized Walsh-Hadamard matrix (paper, Canalized Rotation).

    Where the last axis is no power of two, blocks of its largest power-of-two factor are rotated
    (head_dim 80: 5 blocks of 16; 96: 3 of 32; 112: 7 of 16). The transform is its own inverse.

    Args:
        x: floating point, [..., head_dim].
        backend: "auto" takes the Triton kernel on CUDA and compiled loops on a CPU where they fit (cpu.fits),
            "triton" the former or none, "reference" plain torch.

    Returns:
        Tensor of the same shape and dtype; 16-bit inputs are rotated in fp32 and rounded once.

    Raises:
        TypeError: x is not floating point.
        ValueError: x has no axis; backend "triton" where it cannot run.
    """
    if not x.is_floating_point():
        raise TypeError(f"x must be floating point, got {x.dtype}")
    if x.ndim == 0:
        raise ValueError("x must have at least one axis, got a scalar")
    if chooses_triton(backend, x.device, lambda: _triton_refusal(x)):
        from . import triton

        return triton.hadamard_transform(x)
    if backend == "auto" and cpu.fits(x):
        return cpu.hadamard_transform(x)
    return reference.hadamard_transform(x)


def _triton_refusal(x: torch.Tensor) -> str | None:
    from .triton import refusal_of

    return refusal_of(x)
