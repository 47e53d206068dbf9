"""Compression by the compiled CPU loops against plain torch: the same bytes, but where sums are taken in another order.

Only rotations and norms are such sums. Without norms, and with integers in blocks of 16, 64 or 256 channels, rotations
are exact in any order, and records must be equal to the last byte.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from oscar_x.compressor import block_layout
from oscar_x.config import PRESETS, OscarConfig, resolve_config
from oscar_x.kernels import cpu_support
from oscar_x.kernels.composite import Layout, parts_of
from oscar_x.kernels.compress import compress_blocks, cpu, decompress_blocks, reference
from oscar_x.kernels.hadamard import hadamard_transform
from oscar_x.kernels.layout import BlockLayout
from oscar_x.kernels.pack.reference import unpack_rows

SMALL = {"block_size": 32, "value_scale_rows": 16}
PLAIN = {**SMALL, "token_norm": "none"}
# what the last bit of fp32 may change where sums differ: elements between two codes, and bytes of nested scales whose
# range is rounded to fp16 the other way
TIES, TABLE_BYTES = 1e-3, 2e-2


def states(layout: Layout, dtype: torch.dtype = torch.float32, blocks: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Integers below 128, exact in every dtype, on tokens whose norms differ a hundredfold."""
    torch.manual_seed(0)
    shape = blocks, layout.num_key_value_heads, layout.block_size, layout.head_dim
    spread = torch.exp2(torch.randint(-4, 3, (*shape[:3], 1)).float())
    keys, values = (torch.randint(-127, 128, shape).float() for _ in range(2))
    return (keys * spread).to(dtype), values.to(dtype)


def both(layout: Layout, *given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Records of the loops, written over NaN, and the reference's."""
    records = torch.full((len(given[0]) + 1, layout.record_bytes), 255, dtype=torch.uint8)
    ids = torch.arange(len(given[0]), 0, -1)
    assert all(cpu.fits(*given, part.layout, records) for part in parts_of(layout))
    compress_blocks(*given, layout, records, ids)
    assert (records[0] == 255).all()
    return records[ids], compress_blocks(*given, layout, backend="reference")


def check_equal(config: OscarConfig, head_dim: int = 64, dtype: torch.dtype = torch.float32) -> None:
    layout = block_layout(config, 2, head_dim)
    assert torch.equal(*both(layout, *states(layout, dtype)))


def check_close(config: OscarConfig, head_dim: int = 64, heads: int = 2, dtype: torch.dtype = torch.float32) -> None:
    layout = block_layout(config, heads, head_dim)
    assert isinstance(layout, BlockLayout)
    given = states(layout, dtype)
    got, expected = both(layout, *given)
    for name in (*layout.shared_fields, *layout.head_fields):
        mine, theirs = layout.view(got, name), layout.view(expected, name)
        if theirs.dtype == torch.uint8:
            assert (mine != theirs).float().mean() <= (TABLE_BYTES if "scales" in name else TIES), name
        else:  # fp32: what sums leave; fp16: its last bit
            loose = theirs.dtype == torch.float16
            torch.testing.assert_close(mine, theirs, rtol=2**-10 if loose else 2e-6, atol=2e-7)
    check_nearest(got, layout, *given)
    for mine, theirs, exact in zip(*(decompress_blocks(r, layout) for r in (got, expected)), given, strict=True):
        errors = [(restored - exact.float()).norm() for restored in (mine, theirs)]
        assert abs(errors[0] - errors[1]) <= 2e-3 * errors[1] + 1e-6 * exact.float().norm()


def check_nearest(records: torch.Tensor, layout: BlockLayout, keys: torch.Tensor, values: torch.Tensor) -> None:
    """Every code is the nearest to its element in fp64, or the element is within 2e-6 of the amplitude of a tie."""
    keys = hadamard_transform(keys.double()) if layout.rotate_keys else keys.double()
    values = hadamard_transform(values.double()) if layout.rotate_values else values.double()
    keys = keys / reference.load_norms(layout, records).double()[..., None]
    amplitudes = layout.view(records, "amplitude").double()
    for place, (x, matrix) in enumerate(((keys, layout.keys), (values, layout.values))):
        x = (x if matrix.along_tokens else x.transpose(-1, -2)) / amplitudes[..., place, None, None]
        table = (part.double() for part in reference._load_table(records, layout, matrix))
        scale, minimum = (part.repeat_interleave(matrix.width, -2)[..., : matrix.rows, :] for part in table)
        scale = torch.where(scale > 0, scale, 1.0)
        codes = unpack_rows(layout.view(records, f"{matrix.name}_codes"), matrix.bits, matrix.rows).double()
        exact = ((x - minimum) / scale).clamp(0, 2**matrix.bits - 1)
        assert ((exact - codes).abs() <= 0.5 + 2e-6 / scale).all()


@pytest.mark.parametrize("value_bits", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("key_bits", [1, 2, 3, 4, 8])
def test_bits(key_bits: int, value_bits: int) -> None:
    check_equal(resolve_config(key_bits=key_bits, value_bits=value_bits, **PLAIN))


@pytest.mark.parametrize("scale_bits", [16, 8, 6, 4, 3, 2])
@pytest.mark.parametrize("group_size", [8, 16, 32])
@pytest.mark.parametrize("value_grouping", ["per_token", "per_channel"])
def test_groups_and_scales(group_size: int, scale_bits: int, value_grouping: str) -> None:
    groups = {"key_group_size": group_size, "value_group_size": group_size, "value_grouping": value_grouping}
    check_equal(resolve_config(scale_bits=scale_bits, **groups, **PLAIN), head_dim=80)


@pytest.mark.parametrize("group_size", [64, 128, 256])
@pytest.mark.parametrize("head_dim", [80, 256])
def test_large_groups(group_size: int, head_dim: int) -> None:
    groups = {"key_group_size": group_size, "value_group_size": group_size}
    check_equal(resolve_config(block_size=group_size, token_norm="none", **groups), head_dim)


@pytest.mark.parametrize("head_dim", [4, 12, 20, 40, 64, 80, 96, 112, 128, 256])
@pytest.mark.parametrize("changes", [{}, {"value_grouping": "per_channel"}, {"block_size": 24, "key_group_size": 8}])
def test_what_is_not_rotated_is_equal_for_any_head_dim(head_dim: int, changes: dict) -> None:
    sizes = {"value_scale_rows": 8, "block_size": 32, "value_group_size": 8, **changes}
    check_equal(resolve_config(token_norm="none", rotate_keys=False, rotate_values=False, **sizes), head_dim)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("head_dim", [64, 80, 96, 128, 256])
@pytest.mark.parametrize("preset", list(PRESETS))
def test_presets(preset: str, head_dim: int, dtype: torch.dtype) -> None:
    check_close(PRESETS[preset], head_dim, dtype=dtype)


@pytest.mark.parametrize(
    "changes",
    [
        {"value_grouping": "per_channel"},
        {"token_norm": "per_head"},
        {"token_norm": "shared", "norm_bits": 8},
        {"token_norm": "shared", "norm_bits": 16},
        {"norm_bits": 16},
        {"rotate_keys": False},
        {"rotate_values": False},
        {"block_size": 16},
        {"block_size": 48, "key_group_size": 8},
        {"block_size": 256},
    ],
)
@pytest.mark.parametrize("head_dim", [40, 128])
def test_variants(changes: dict, head_dim: int) -> None:
    check_close(resolve_config(**{**SMALL, **changes}), head_dim, heads=3)


def test_every_half_precision_number_is_read_and_rounded_as_torch_does() -> None:
    """As states, and as what fp32 between any two of them is rounded to in a table of 16 bits."""
    layout = block_layout(resolve_config(scale_bits=16, rotate_keys=False, rotate_values=False, **PLAIN), 1, 64)
    every = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(torch.float16)
    every = every[every.isfinite()]
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        numbers = every.float() * torch.tensor([1.0, 1 + 2**-11, 1 + 2**-11 + 2**-20])[:, None]
        numbers = torch.nn.functional.pad(numbers.to(dtype).flatten().nan_to_num(posinf=0, neginf=0), (0, 1024))
        numbers = numbers[: len(numbers) // 2048 * 2048].view(-1, 1, 32, 64)
        assert torch.equal(*both(layout, numbers, numbers.flip(0)))


@pytest.mark.parametrize("preset", list(PRESETS))
@pytest.mark.parametrize("factor", [0.0, 1e-42, 1e-30, 1e-3, 1e4, 1e30])
def test_any_magnitude(preset: str, factor: float) -> None:
    layout = block_layout(replace(PRESETS[preset], **SMALL), 2, 64)
    given = tuple(factor * x for x in states(layout))
    for got, exact in zip(decompress_blocks(both(layout, *given)[0], layout), given, strict=True):
        assert torch.isfinite(got).all()
        if factor >= 1e-30:
            assert ((got - exact) / factor).norm() <= 0.5 * (exact / factor).norm()


def test_strides_of_a_projection_and_of_turned_states() -> None:
    layout = block_layout(resolve_config(**SMALL), 2, 64)
    keys, values = states(layout, torch.bfloat16)
    expected = compress_blocks(keys, values, layout)
    beside = keys.transpose(1, 2).contiguous().transpose(1, 2)  # heads beside one another, as a projection leaves them
    turned = values.transpose(-1, -2).contiguous().transpose(-1, -2)
    cut = torch.stack([keys, values], -2)[..., 0, :]
    for given in ((beside, turned), (cut, values)):
        assert not given[0].is_contiguous()
        assert torch.equal(compress_blocks(*given, layout), expected)
    one = keys[:1].expand(2, -1, -1, -1)
    assert torch.equal(compress_blocks(one, one, layout)[0], compress_blocks(keys, keys, layout)[0])


def test_dtypes_may_differ() -> None:
    """Keys without their projection's bias are fp32, whatever the model's values are."""
    layout = block_layout(resolve_config(**PLAIN), 2, 64)
    keys, values = states(layout)
    assert torch.equal(*both(layout, keys + 0.5, values.bfloat16()))


def test_heads_stored_in_several_ways() -> None:
    groups = [{"heads": (1, 3), "key_bits": 4, "scale_bits": 16}, {"heads": (2,), "value_grouping": "per_channel"}]
    layout = block_layout(resolve_config(head_groups=groups, **PLAIN), 4, 64)
    assert torch.equal(*both(layout, *states(layout)))


@pytest.mark.parametrize("token_norm", ["damped", "per_head", "shared"])
@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_any_number_of_threads_gives_the_same(token_norm: str, threads: int, monkeypatch) -> None:
    layout = block_layout(resolve_config(token_norm=token_norm, **SMALL), 2, 64)
    given = states(layout, blocks=7)
    expected = compress_blocks(*given, layout)
    monkeypatch.setattr(cpu, "LEAST_ELEMENTS", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert torch.equal(compress_blocks(*given, layout), expected)
    finally:
        torch.set_num_threads(before)


def test_scratch_is_written_before_it_is_read(monkeypatch) -> None:
    import numpy as np

    def poisoned(shape, dtype):
        return np.full(shape, np.nan if np.dtype(dtype).kind == "f" else 77, dtype)

    monkeypatch.setattr(cpu.np, "empty", poisoned)
    check_equal(resolve_config(**PLAIN), 80)
    check_close(resolve_config(block_size=24, value_scale_rows=8, key_group_size=8), 40)


def test_what_it_leaves_to_the_reference(monkeypatch) -> None:
    layout = block_layout(resolve_config(**SMALL), 2, 64)
    keys, values = states(layout)
    out = torch.zeros(2, layout.record_bytes, dtype=torch.uint8)
    assert isinstance(layout, BlockLayout)
    assert not cpu.fits(keys.double(), values, layout, out)
    assert not cpu.fits(keys, values, replace(layout, token_norm="another"), out)
    expected = compress_blocks(keys, values, layout, backend="reference")
    assert torch.equal(compress_blocks(keys.double(), values, layout), expected)
    monkeypatch.setattr(cpu_support, "find_spec", lambda name: None)
    cpu_support.compiled_loops.cache_clear()
    try:
        assert torch.equal(compress_blocks(keys, values, layout), expected)
    finally:
        cpu_support.compiled_loops.cache_clear()


def test_no_block_and_states_that_ask_for_gradients() -> None:
    layout = block_layout(resolve_config(**SMALL), 2, 64)
    keys, values = states(layout)
    assert compress_blocks(keys[:0], values[:0], layout).shape == (0, layout.record_bytes)
    expected = compress_blocks(keys, values, layout)
    assert torch.equal(compress_blocks(keys.requires_grad_(), values, layout), expected)


def test_nothing_is_written_where_a_state_is_not_finite() -> None:
    layout = block_layout(resolve_config(**SMALL), 2, 64)
    keys, values = states(layout, torch.bfloat16)
    values[1, 0, 3, 4] = torch.nan
    out = torch.full((2, layout.record_bytes), 7, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"value_states .*\[1, 0, 3, 4\]"):
        compress_blocks(keys, values, layout, out)
    assert (out == 7).all()
