"""Checks arguments and dispatches bit packing."""

from __future__ import annotations

import torch

from . import cpu, reference


def packed_bytes(n: int, bits: int) -> int:
    """Bytes that n codes of the given width take, every plane rounded up to whole bytes."""
    _check_bits(bits)
    return sum(reference.plane_bytes(n, width) for width in reference.PLANES[bits])


def pack_bits(codes: torch.Tensor, bits: int, backend: str = "auto") -> torch.Tensor:
    """Pack small integers into bytes along the last axis.

    Args:
        codes: uint8 [..., n], n >= 1, every code below 2**bits (higher bits are dropped).
        bits: 1, 2, 3, 4, 6 or 8.
        backend: "auto" takes the Triton kernel on CUDA and compiled loops on a CPU where they fit (cpu.fits),
            "triton" the former or none, "reference" plain torch.

    Returns:
        uint8 [..., packed_bytes(n, bits)].

    Raises:
        TypeError: codes is not uint8.
        ValueError: an unsupported width, or an empty last axis; backend "triton" where it cannot run.
    """
    _check_bits(bits)
    _check_bytes("codes", codes)
    if _chooses_triton("codes", codes, backend):
        from . import triton

        return triton.pack_bits(codes, bits)
    if backend == "auto" and cpu.fits(codes):
        return cpu.pack_bits(codes, bits)
    return reference.pack_bits(codes, bits)


def unpack_bits(packed: torch.Tensor, bits: int, n: int, backend: str = "auto") -> torch.Tensor:
    """The inverse of pack_bits.

    Args:
        packed: uint8 [..., packed_bytes(n, bits)].
        n: number of codes.
        backend: as in pack_bits.

    Returns:
        uint8 [..., n].

    Raises:
        TypeError: packed is not uint8.
        ValueError: an unsupported width, or a last axis that does not hold n codes; backend "triton" where it cannot
            run.
    """
    _check_bytes("packed", packed)
    if packed.shape[-1] != packed_bytes(n, bits):
        raise ValueError(
            f"packed has {packed.shape[-1]} bytes on its last axis; n={n} codes of bits={bits} "
            f"take {packed_bytes(n, bits)}"
        )
    if _chooses_triton("packed", packed, backend):
        from . import triton

        return triton.unpack_bits(packed, bits, n)
    if backend == "auto" and cpu.fits(packed):
        return cpu.unpack_bits(packed, bits, n)
    return reference.unpack_bits(packed, bits, n)


def _chooses_triton(name: str, tensor: torch.Tensor, backend: str) -> bool:
    # here, as layouts import this folder
    from ..triton_support import chooses_triton

    return chooses_triton(backend, tensor.device, lambda: _triton_refusal(name, tensor))


def _triton_refusal(name: str, tensor: torch.Tensor) -> str | None:
    from .triton import refusal_of

    return refusal_of(name, tensor)


def _check_bits(bits: int) -> None:
    if bits not in reference.PLANES:
        raise ValueError(f"bits={bits!r} is not allowed; choose one of {', '.join(map(str, reference.PLANES))}")


def _check_bytes(name: str, tensor: torch.Tensor) -> None:
    if tensor.dtype != torch.uint8:
        raise TypeError(f"{name} must be uint8, got {tensor.dtype}")
    if tensor.ndim == 0 or tensor.shape[-1] == 0:
        raise ValueError(f"{name} must have a last axis with at least one element, got shape {tuple(tensor.shape)}")
