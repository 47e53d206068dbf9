"""The rotation keeps scores, undoes itself, and flattens outlier channels."""

from __future__ import annotations

import pytest
import torch

from oscar_x.kernels.hadamard import cpu, hadamard_matrix, hadamard_transform, power_of_two_factor
from oscar_x.kernels.triton_support import has_triton

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # of Triton; tests/conftest.py switches the interpreter on
HEAD_DIMS = (64, 80, 96, 112, 128, 256)
TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 8e-3, torch.float16: 1e-3, torch.float64: 1e-14}


@pytest.mark.parametrize("head_dim", HEAD_DIMS)
@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_it_is_its_own_inverse(head_dim: int, dtype: torch.dtype) -> None:
    x = torch.randn(3, 5, head_dim).to(dtype)
    back = hadamard_transform(hadamard_transform(x))
    assert back.dtype == dtype
    assert (back - x).norm() <= TOLERANCE[dtype] * x.norm()


@pytest.mark.parametrize("head_dim", HEAD_DIMS)
def test_scores_are_unchanged(head_dim: int) -> None:
    query, key = torch.randn(4, head_dim), torch.randn(9, head_dim)
    rotated = hadamard_transform(query) @ hadamard_transform(key).T
    torch.testing.assert_close(rotated, query @ key.T, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("n", "width"), [(64, 64), (80, 16), (96, 32), (112, 16), (128, 128)])
def test_block_width(n: int, width: int) -> None:
    assert power_of_two_factor(n) == width


def test_first_row_is_the_mean_and_signs_are_sylvesters() -> None:
    matrix = hadamard_matrix(4, torch.float64, torch.device("cpu"))
    signs = [[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]
    assert torch.equal(matrix, torch.tensor(signs, dtype=torch.float64) / 2)


def test_one_large_channel_is_spread_over_all() -> None:
    x = torch.zeros(128)
    x[7] = 8.0
    torch.testing.assert_close(hadamard_transform(x).abs(), torch.full((128,), 8 / 128**0.5))


def backends(head_dim: int) -> list[str]:
    """Those that rotate this many channels; on a CPU "auto" is the compiled loops."""
    return ["reference", "auto", *(["triton"] if has_triton() and head_dim <= 256 else [])]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("head_dim", "backend"), [(n, name) for n in (1, 2, 12, 16, 24, 40, *HEAD_DIMS, 512) for name in backends(n)]
)
def test_every_backend_gives_the_product(head_dim: int, backend: str, dtype: torch.dtype, monkeypatch) -> None:
    monkeypatch.setattr(cpu, "LEAST_ELEMENTS", 1)
    monkeypatch.setattr(cpu, "ROWS", 2)
    for x in (torch.randn(3, 7, head_dim).to(dtype), torch.randn(head_dim, 5).to(dtype).T, torch.randn(head_dim)):
        assert cpu.fits(x)
        given = x.contiguous().to(DEVICE) if backend == "triton" else x
        got, expected = hadamard_transform(given, backend=backend).cpu(), hadamard_transform(x.double())
        assert got.dtype == x.dtype
        assert got.shape == x.shape
        assert (got - expected).norm() <= TOLERANCE[x.dtype] * x.norm()


def test_any_number_of_threads_gives_the_same(monkeypatch) -> None:
    x = torch.randn(100, 64)
    expected = cpu.hadamard_transform(x)
    for name in ("ROWS", "THREAD_ELEMENTS"):
        monkeypatch.setattr(cpu, name, 1)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert torch.equal(cpu.hadamard_transform(x), expected)
    finally:
        torch.set_num_threads(before)


def test_gradients_and_fp64_are_left_to_the_reference() -> None:
    x = torch.randn(256, 64, requires_grad=True)
    assert not cpu.fits(x)
    hadamard_transform(x).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, hadamard_transform(torch.ones_like(x)))
    assert cpu.fits(x.detach())
    assert not cpu.fits(x.detach().double())
    assert not cpu.fits(x.detach()[:1])


def test_bad_arguments_are_named() -> None:
    with pytest.raises(TypeError, match="floating point"):
        hadamard_transform(torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ValueError, match="scalar"):
        hadamard_transform(torch.tensor(1.0))
