"""Bit packing: every width, odd sizes, and the layout that docs/format.md states."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oscar_x.kernels.pack import cpu, pack_bits, packed_bytes, reference, unpack_bits
from oscar_x.kernels.pack.reference import PLANES, pack_rows, plane_bytes, unpack_rows
from oscar_x.kernels.triton_support import has_triton

WIDTHS = (1, 2, 3, 4, 6, 8)
# what n codes end on: a place, a byte, a word, a tile of Triton's or none of them
SHAPES = (
    (1,),
    (7,),
    (3, 8),
    (5, 1, 9),
    (2, 3, 64),
    (0, 8),
    (4, 93),
    (3, 97),
    (40, 96),
    (33, 72),
    (5, 128),
    (2, 1025),
    (4104,),
)
BACKENDS = ("reference", "auto", *(["triton"] if has_triton() else []))
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # of Triton; tests/conftest.py switches the interpreter on


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bits", WIDTHS)
def test_every_backend_packs_and_unpacks_alike(bits: int, shape: tuple[int, ...], backend: str, monkeypatch) -> None:
    monkeypatch.setattr(cpu, "LEAST_ELEMENTS", 1)
    device = DEVICE if backend == "triton" else "cpu"
    if backend == "triton" and 0 in shape:
        with pytest.raises(ValueError, match="codes is empty"):
            pack_bits(torch.zeros(shape, dtype=torch.uint8, device=device), bits, backend=backend)
        return
    codes = torch.randint(0, 256, shape, dtype=torch.uint8)  # bits above the width are dropped
    expected = one_by_one(codes, bits)
    packed = pack_bits(codes.to(device), bits, backend=backend)
    assert torch.equal(packed.cpu(), expected)
    unpacked = unpack_bits(expected.to(device), bits, shape[-1], backend=backend)
    assert torch.equal(unpacked.cpu(), codes & (2**bits - 1))


def one_by_one(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """The layout of docs/format.md, code by code."""
    rows, n = codes.reshape(-1, codes.shape[-1]).tolist(), codes.shape[-1]
    packed = [[0] * packed_bytes(n, bits) for _ in rows]
    start = shift = 0
    for width in PLANES[bits]:
        length = plane_bytes(n, width)
        for row, out in zip(rows, packed, strict=True):
            for i, code in enumerate(row):
                out[start + i % length] |= ((code >> shift) % 2**width) << (i // length * width)
        start, shift = start + length, shift + width
    return torch.tensor(packed, dtype=torch.uint8).reshape(*codes.shape[:-1], packed_bytes(n, bits))


@pytest.mark.parametrize("bits", WIDTHS)
def test_compiled_loops_take_what_is_not_contiguous_and_any_number_of_threads(bits: int, monkeypatch) -> None:
    codes = torch.randint(0, 2**bits, (96, 50), dtype=torch.uint8)
    expected = reference.pack_bits(codes, bits)
    for name in ("LEAST_ELEMENTS", "SHARE", "THREAD_ELEMENTS"):
        monkeypatch.setattr(cpu, name, 1)
    turned = codes.T.contiguous().T
    assert cpu.fits(turned)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert torch.equal(pack_bits(turned, bits), expected)
        assert torch.equal(unpack_bits(expected.T.contiguous().T, bits, 50), codes)
    finally:
        torch.set_num_threads(before)


def test_small_tensors_are_left_to_the_reference() -> None:
    codes = torch.zeros(cpu.LEAST_ELEMENTS, dtype=torch.uint8)
    assert cpu.fits(codes)
    assert not cpu.fits(codes[1:])
    assert not cpu.fits(codes.to("meta"))


@pytest.mark.skipif(not has_triton(), reason="needs Triton, which has wheels for Linux")
@pytest.mark.parametrize("bits", WIDTHS)
def test_the_operators_are_ones_for_torch_compile(bits: int) -> None:
    from oscar_x.kernels.pack import triton

    codes, tests = (
        torch.randint(0, 2**bits, (3, 13), dtype=torch.uint8, device=DEVICE),
        ("test_schema", "test_faketensor"),
    )
    torch.library.opcheck(triton.pack_bits, (codes, bits), test_utils=tests)
    torch.library.opcheck(triton.unpack_bits, (triton.pack_bits(codes, bits), bits, 13), test_utils=tests)
    with pytest.raises(ValueError, match="codes is not contiguous"):
        pack_bits(codes.T.contiguous().T, bits, backend="triton")


@given(bits=st.sampled_from(WIDTHS), n=st.integers(1, 300), rows=st.integers(1, 3), seed=st.integers(0, 99))
@settings(max_examples=120, deadline=None)
def test_unpacking_gives_the_codes_back(bits: int, n: int, rows: int, seed: int) -> None:
    codes = torch.randint(0, 2**bits, (2, rows, n), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    packed = pack_bits(codes, bits)
    assert packed.shape == (2, rows, packed_bytes(n, bits))
    assert torch.equal(unpack_bits(packed, bits, n), codes)


@pytest.mark.parametrize(("bits", "n", "expected"), [(1, 9, 2), (2, 128, 32), (3, 128, 48), (3, 5, 3), (6, 8, 6)])
def test_packed_size(bits: int, n: int, expected: int) -> None:
    assert packed_bytes(n, bits) == expected


def test_two_bit_bytes_hold_codes_a_quarter_apart() -> None:
    # bytes 0 and 1 of 8 codes hold codes 0,2,4,6 and 1,3,5,7, lowest bits first
    codes = torch.tensor([3, 0, 2, 1, 1, 2, 0, 3], dtype=torch.uint8)
    assert pack_bits(codes, 2).tolist() == [3 | 2 << 2 | 1 << 4 | 0 << 6, 0 | 1 << 2 | 2 << 4 | 3 << 6]


def test_three_bits_are_a_two_bit_plane_then_a_one_bit_plane() -> None:
    codes = torch.tensor([0, 1, 2, 3, 4, 5, 6, 7], dtype=torch.uint8)
    two = [0 | 2 << 2 | 0 << 4 | 2 << 6, 1 | 3 << 2 | 1 << 4 | 3 << 6]
    assert pack_bits(codes, 3).tolist() == [*two, 0b11110000]


def test_one_byte_holds_scale_and_minimum() -> None:
    # what the nested format relies on: 4-bit codes of scales, then of minimums, share their bytes
    scales, minimums = torch.tensor([1, 2, 3], dtype=torch.uint8), torch.tensor([9, 10, 11], dtype=torch.uint8)
    assert pack_bits(torch.cat([scales, minimums]), 4).tolist() == [1 | 9 << 4, 2 | 10 << 4, 3 | 11 << 4]


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize(("rows", "cols"), [(128, 64), (80, 128), (7, 24), (5, 9)])
def test_rows_are_packed_as_the_last_axis_is(bits: int, rows: int, cols: int) -> None:
    codes = torch.randint(0, 2**bits, (3, rows, cols), dtype=torch.uint8)
    packed = pack_rows(codes, bits)
    assert torch.equal(packed, pack_bits(codes.transpose(-1, -2).contiguous(), bits).transpose(-1, -2))
    assert torch.equal(unpack_rows(packed.contiguous(), bits, rows), codes)
    odd = torch.empty(3, packed.shape[1], cols + 1, dtype=torch.uint8)[..., 1:]
    odd.copy_(packed)  # starts off a word boundary: unpacked byte by byte
    assert torch.equal(unpack_rows(odd, bits, rows), codes)


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize(("rows", "cols"), [(128, 64), (80, 128), (12, 24), (7, 24), (5, 9), (1, 3)])
def test_compiled_loops_pack_rows_alike(bits: int, rows: int, cols: int) -> None:
    from oscar_x.kernels.pack.cpu_loops import pack_codes

    codes = torch.randint(0, 2**bits, (rows, cols), dtype=torch.uint8)
    low, high = (*PLANES[bits], 0)[:2]
    low_length, high_length = plane_bytes(rows, low) * cols, plane_bytes(rows, high) * cols
    out = torch.full((low_length + high_length + 1,), 255, dtype=torch.uint8)
    pack_codes(codes.flatten().numpy(), rows * cols, low, low_length, high, high_length, out.numpy())
    assert torch.equal(out[:-1].view(-1, cols), pack_rows(codes, bits))
    assert out[-1] == 255


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="bits=5"):
        pack_bits(torch.zeros(4, dtype=torch.uint8), 5)
    with pytest.raises(TypeError, match="uint8"):
        pack_bits(torch.zeros(4), 2)
    with pytest.raises(ValueError, match="at least one element"):
        pack_bits(torch.zeros(0, dtype=torch.uint8), 2)
    with pytest.raises(ValueError, match="take 2"):
        unpack_bits(torch.zeros(3, dtype=torch.uint8), 2, 8)
