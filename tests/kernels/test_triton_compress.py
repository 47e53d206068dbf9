"""Triton's compression against plain torch: on the GPU if there is one, else in Triton's interpreter."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from oscar_x.compressor import block_layout
from oscar_x.config import PRESETS, OscarConfig, resolve_config
from oscar_x.kernels.compress import compress_blocks, decompress_blocks
from oscar_x.kernels.hadamard import hadamard_transform
from oscar_x.kernels.layout import BlockLayout
from oscar_x.kernels.triton_support import layout_numbers

pytest.importorskip("triton", reason="needs Triton, which has wheels for Linux")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # tests/conftest.py switches the interpreter on
SMALL = {"block_size": 32, "value_scale_rows": 16}
# A number that falls between two codes to within fp32 rounding may get either: at most this share of elements, each
# off by one step. A nested range that is rounded the other way turns more bytes and moves elements by hundredths of it.
TIES, BYTES = 1e-3, 2e-2


def states(layout: BlockLayout, blocks: int = 2, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    shape = (blocks, layout.num_key_value_heads, layout.block_size, layout.head_dim)
    spread = torch.exp(torch.rand(*shape[:3], 1) * 4 - 2)
    return (torch.randn(shape) * spread).to(DEVICE, dtype), torch.randn(shape).to(DEVICE, dtype)


def steps(records: torch.Tensor, layout: BlockLayout) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest step of each head's keys and values, in units of what decompress_blocks returns unrotated."""
    keys, values = decompress_blocks(records, replace(layout, rotate_keys=False, rotate_values=False))
    ranges = (states.flatten(2).aminmax(dim=-1) for states in (keys, values))
    widths = [(most - least) for least, most in ranges]
    return widths[0] / (2**layout.key_bits - 1), widths[1] / (2**layout.value_bits - 1)


def check(config: OscarConfig, head_dim: int = 64, heads: int = 2, dtype: torch.dtype = torch.float32) -> None:
    layout = block_layout(config, heads, head_dim)
    given = states(layout, dtype=dtype)
    expected = compress_blocks(*given, layout, backend="reference")
    got = compress_blocks(*given, layout, backend="triton")
    for name in ("key_codes", "value_codes", "key_scales", "value_scales"):
        mine, theirs = layout.view(got, name), layout.view(expected, name)
        if theirs.dtype == torch.uint8:
            assert (mine != theirs).float().mean() <= BYTES, name
        else:  # the last bit of fp16, or of a norm in fp16
            torch.testing.assert_close(mine, theirs, rtol=2**-9, atol=1e-4)
    unrotated = replace(layout, rotate_keys=False, rotate_values=False)
    pairs = zip(decompress_blocks(got, unrotated), decompress_blocks(expected, unrotated), strict=True)
    for (mine, theirs), step in zip(pairs, steps(expected, layout), strict=True):
        distance = (mine - theirs).abs() / step[..., None, None]
        assert distance.max() <= 1.01
        assert (distance > 0.1).float().mean() <= TIES
    for mine, theirs, exact in zip(*(decompress_blocks(r, layout) for r in (got, expected)), given, strict=True):
        errors = [(restored - exact.float()).norm() for restored in (mine, theirs)]
        assert abs(errors[0] - errors[1]) <= 1e-3 * errors[1] + 1e-6 * exact.float().norm()


@pytest.mark.parametrize("value_bits", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("key_bits", [1, 2, 3, 4, 8])
def test_bits(key_bits: int, value_bits: int) -> None:
    check(resolve_config(key_bits=key_bits, value_bits=value_bits, **SMALL))


@pytest.mark.parametrize("scale_bits", [16, 8, 6, 4, 3, 2])
@pytest.mark.parametrize("group_size", [8, 16, 32])
def test_groups_and_scales(group_size: int, scale_bits: int) -> None:
    groups = {"key_group_size": group_size, "value_group_size": group_size}
    check(resolve_config(scale_bits=scale_bits, **groups, **SMALL), head_dim=80)


@pytest.mark.parametrize("group_size", [64, 128, 256])
@pytest.mark.parametrize("head_dim", [80, 128])
def test_large_groups(group_size: int, head_dim: int) -> None:
    groups = {"key_group_size": group_size, "value_group_size": group_size}
    check(resolve_config(block_size=group_size, **groups), head_dim=head_dim, heads=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("head_dim", [64, 80, 96, 128, 256])
@pytest.mark.parametrize("preset", list(PRESETS))
def test_presets(preset: str, head_dim: int, dtype: torch.dtype) -> None:
    check(PRESETS[preset], head_dim=head_dim, heads=2, dtype=dtype)


@pytest.mark.parametrize(
    "changes",
    [
        {"value_grouping": "per_channel"},
        {"value_grouping": "per_channel", "value_bits": 3, "scale_bits": 16},
        {"token_norm": "none"},
        {"token_norm": "per_head"},
        {"token_norm": "shared", "norm_bits": 8},
        {"norm_bits": 16},
        {"norm_bits": 16, "token_norm": "per_head"},
        {"rotate_keys": False},
        {"rotate_values": False},
        {"block_size": 16},
        {"block_size": 256},
    ],
)
def test_variants(changes: dict) -> None:
    check(resolve_config(**{**SMALL, **changes}), heads=3)


@pytest.mark.parametrize("token_norm", ["shared", "damped"])
def test_records_of_a_pool_are_written_in_place(token_norm: str) -> None:
    layout = block_layout(resolve_config(token_norm=token_norm, **SMALL), 2, 64)
    keys, values = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in states(layout))  # strides of a projection
    pool = torch.full((5, layout.record_bytes), 7, dtype=torch.uint8, device=DEVICE)
    ids = torch.tensor([3, 1], device=DEVICE)
    assert compress_blocks(keys, values, layout, pool, ids, backend="triton") is pool
    alone = compress_blocks(keys, values, layout, backend="triton")
    for name in (*layout.shared_fields, *layout.head_fields):
        assert torch.equal(layout.view(pool[ids], name), layout.view(alone, name)), name
    assert (pool[[0, 2, 4]] == 7).all()
    by_torch = compress_blocks(keys, values, layout, torch.zeros_like(pool), ids, backend="reference")
    assert torch.equal(by_torch[ids], compress_blocks(keys, values, layout, backend="reference"))


@pytest.mark.parametrize("preset", list(PRESETS))
@pytest.mark.parametrize("factor", [0.0, 1e-42, 1e-30, 1e-3, 1e4, 1e30])
def test_any_magnitude_is_compressed_alike(preset: str, factor: float) -> None:
    layout = block_layout(replace(PRESETS[preset], **SMALL), 2, 64)
    given = tuple(factor * x for x in states(layout, blocks=1))
    for got, exact in zip(
        decompress_blocks(compress_blocks(*given, layout, backend="triton"), layout), given, strict=True
    ):
        assert torch.isfinite(got).all()
        if factor >= 1e-30:
            assert ((got - exact) / factor).norm() <= 0.5 * (exact / factor).norm()


def test_bad_arguments_are_named() -> None:
    layout = block_layout(resolve_config(**SMALL), 2, 64)
    keys, values = states(layout)
    ids = torch.tensor([1, 0], device=DEVICE)
    pool = torch.zeros(3, layout.record_bytes, dtype=torch.uint8, device=DEVICE)
    with pytest.raises(ValueError, match="ids must be int64"):
        compress_blocks(keys, values, layout, pool, ids.int(), backend="triton")
    with pytest.raises(ValueError, match="out must be"):
        compress_blocks(keys, values, layout, pool, backend="triton")
    turned = keys.transpose(-1, -2).contiguous().transpose(-1, -2)
    with pytest.raises(ValueError, match="key_states is not contiguous along head_dim"):
        compress_blocks(turned, values, layout, backend="triton")
    with pytest.raises(ValueError, match="float64"):
        compress_blocks(keys, values.double(), layout, backend="triton")
    with pytest.raises(ValueError, match="x is not contiguous"):
        hadamard_transform(turned, backend="triton")


def test_the_operator_is_one_for_torch_compile() -> None:
    from oscar_x.kernels.compress.triton import compress_blocks_op

    layout = block_layout(resolve_config(**SMALL), 2, 64)
    pool = torch.zeros(2, layout.record_bytes, dtype=torch.uint8, device=DEVICE)
    arguments = (*states(layout), pool, torch.arange(2, device=DEVICE), layout_numbers(layout), True)
    tests = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(compress_blocks_op, arguments, test_utils=tests)
