"""Blocks: error bounds that the theory gives, effective bits of the presets, odd inputs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oscar_x.compressor import Compressor
from oscar_x.config import PRESETS, OscarConfig, resolve_config
from oscar_x.kernels.compress.reference import damped
from oscar_x.kernels.hadamard import hadamard_transform

BALANCED_BITS, MAX_BITS = 2.60, 2.32


@pytest.mark.parametrize(
    ("preset", "head_dim", "limit"),
    [("paper", 128, 3.02), ("balanced", 128, BALANCED_BITS), ("max", 128, MAX_BITS), ("balanced", 64, 2.63)],
)
def test_effective_bits(preset: str, head_dim: int, limit: float) -> None:
    compressor = Compressor(PRESETS[preset], 8, head_dim)
    records = compressor.compress(torch.randn(2, 8, 128, head_dim), torch.randn(2, 8, 128, head_dim))
    bits = 8 * records.untyped_storage().nbytes() / (2 * records.shape[0] * 8 * 128 * head_dim)
    assert bits == compressor.layout.bits_per_element
    assert bits <= limit
    assert sum(compressor.layout.bytes_by_part().values()) == records.shape[1]


def settings_strategy() -> st.SearchStrategy[OscarConfig]:
    group = st.sampled_from((8, 16, 32, 64, 128))
    return st.builds(
        OscarConfig,
        key_bits=st.sampled_from((1, 2, 3, 4, 8)),
        value_bits=st.sampled_from((1, 2, 3, 4, 8)),
        key_group_size=group,
        value_group_size=group,
        value_grouping=st.sampled_from(("per_token", "per_channel")),
        scale_bits=st.sampled_from((16, 8)),
        token_norm=st.sampled_from(("damped", "per_head", "shared", "none")),
        norm_bits=st.sampled_from((16, 8)),
        rotate_keys=st.booleans(),
        rotate_values=st.booleans(),
    )


def step_bound(x: torch.Tensor, group_size: int, bits: int, scale_bits: int, ranges: int) -> torch.Tensor:
    """Half a step of each group, and what rounding the scale and the minimum adds: x is [..., rows, cols]."""
    groups = x.unflatten(-1, (-1, min(group_size, x.shape[-1])))
    low, high = groups.aminmax(dim=-1)
    span = (high - low)[..., None].expand_as(groups).flatten(-2)
    reach = x.abs().amax(dim=(-1, -2), keepdim=True) * 2
    rounding = reach * (2**-10 if scale_bits == 16 else 1 / 255)
    return span / (2**bits - 1) / 2 + 2 * rounding + 1e-6


@given(config=settings_strategy(), head_dim=st.sampled_from((64, 80, 96, 128)), seed=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_errors_stay_within_the_step(config: OscarConfig, head_dim: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    shape = (1, 2, config.block_size, head_dim)
    if head_dim % config.value_group_size and config.value_grouping == "per_token":
        return  # a short last group is measured by test_quantize.py
    keys, values = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    got_keys, got_values = Compressor(config, 2, head_dim).decompress(
        Compressor(config, 2, head_dim).compress(keys, values)
    )
    if config.rotate_keys:
        keys, got_keys = hadamard_transform(keys), hadamard_transform(got_keys)
    if config.rotate_values:
        values, got_values = hadamard_transform(values), hadamard_transform(got_values)
    norms = {
        "none": torch.ones(1),
        "shared": keys.square().sum((1, 3), keepdim=True).sqrt(),
        "per_head": keys.norm(dim=-1, keepdim=True),
        "damped": damped(keys.norm(dim=-1))[..., None],
    }[config.token_norm]
    unit = (keys / norms).transpose(-1, -2)
    bound = norms * step_bound(unit, config.key_group_size, config.key_bits, config.scale_bits, 1).transpose(-1, -2)
    # an 8-bit norm is off by half a log step: every element of the token scales with it
    slack = 0.0 if config.token_norm == "none" else (0.02 if config.norm_bits == 8 else 2**-10)
    assert ((got_keys - keys).abs() <= bound * (1 + slack) + slack * keys.abs()).all()
    along_tokens = config.value_grouping == "per_channel"
    oriented = values.transpose(-1, -2) if along_tokens else values
    bound = step_bound(oriented, config.value_group_size, config.value_bits, config.scale_bits, 32)
    assert ((got_values - values).abs() <= (bound.transpose(-1, -2) if along_tokens else bound)).all()


@pytest.mark.parametrize("preset", list(PRESETS))
@pytest.mark.parametrize("factor", [0.0, 1e-42, 1e-30, 1e-3, 1e4, 1e30])
def test_any_magnitude_is_compressed_alike(preset: str, factor: float) -> None:
    keys, values = factor * torch.randn(1, 2, 128, 64), factor * torch.randn(1, 2, 128, 64)
    got_keys, got_values = Compressor(PRESETS[preset], 2, 64).decompress(
        Compressor(PRESETS[preset], 2, 64).compress(keys, values)
    )
    for got, states in ((got_keys, keys), (got_values, values)):
        assert torch.isfinite(got).all()
        if factor >= 1e-30:
            assert ((got - states) / factor).norm() <= 0.5 * (states / factor).norm()


def test_token_scaling_takes_norm_imbalance_out() -> None:
    # the publication's claim: a shared scale is spoilt by norms that differ, and is not once they are divided out
    torch.manual_seed(0)
    keys = torch.randn(4, 2, 128, 64) * torch.exp(3 * torch.rand(4, 2, 128, 1))
    errors = {}
    for token_norm in ("none", "per_head"):
        compressor = Compressor(resolve_config("max", token_norm=token_norm), 2, 64)
        got, _ = compressor.decompress(compressor.compress(keys, keys))
        errors[token_norm] = ((got - keys).norm(dim=-1) / keys.norm(dim=-1)).mean().item()
    assert errors["per_head"] < 0.5 * errors["none"]


def key_errors(keys: torch.Tensor, token_norm: str) -> torch.Tensor:
    """Of every token, in units of its norm."""
    compressor = Compressor(resolve_config(token_norm=token_norm), *keys.shape[1::2])
    got, _ = compressor.decompress(compressor.compress(keys, keys))
    return (got - keys).norm(dim=-1) / keys.norm(dim=-1)


def test_damping_stores_tokens_that_stand_out_better() -> None:
    # keys as a model has them whose few informative tokens are the long ones: a common part, norms that hardly differ
    torch.manual_seed(0)
    keys = torch.randn(8, 2, 1, 128) + 0.6 * torch.randn(8, 2, 128, 128)
    rare = torch.zeros(128, dtype=torch.bool)
    rare[5::24] = True
    keys[:, :, rare] *= 1.7
    plain, better = (key_errors(keys, token_norm) for token_norm in ("per_head", "damped"))
    assert better[..., rare].mean() < 0.6 * plain[..., rare].mean()
    assert better[..., ~rare].mean() < 1.2 * plain[..., ~rare].mean()


def test_however_long_one_token_is_its_group_loses_at_most_the_damping() -> None:
    torch.manual_seed(0)
    keys = torch.randn(4, 2, 128, 64)
    keys[:, :, 40] *= 1000
    plain, bounded, off = (key_errors(keys, token_norm)[..., 32:48] for token_norm in ("per_head", "damped", "none"))
    others = torch.arange(16) != 8
    assert bounded[..., others].mean() < 2 * plain[..., others].mean()
    assert off[..., others].mean() > 10 * plain[..., others].mean()


def test_the_rule_of_damping() -> None:
    norms = torch.ones(2, 128)
    assert torch.equal(damped(norms), norms)
    norms[:, 0] = torch.tensor([1.5, 50.0])
    knee = 1.2 * norms.mean(-1)
    torch.testing.assert_close(damped(norms)[:, 0], torch.stack([knee[0] ** 2 / 1.5, torch.tensor(25.0)]))
    assert torch.equal(damped(norms)[:, 1:], norms[:, 1:])
    assert torch.equal(damped(torch.zeros(3, 128)), torch.zeros(3, 128))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["key_states", "value_states"])
def test_what_is_not_finite_is_refused_and_nothing_written(bad: float, name: str) -> None:
    states = {"key_states": torch.randn(2, 2, 128, 64), "value_states": torch.randn(2, 2, 128, 64)}
    states[name][1, 0, 3, 5] = bad
    compressor = Compressor(PRESETS["balanced"], 2, 64)
    out = torch.full((2, compressor.layout.record_bytes), 7, dtype=torch.uint8)
    with pytest.raises(ValueError, match=rf"{name} is not finite.*\[1, 0, 3, 5\]"):
        compressor.compress(**states, out=out)
    assert (out == 7).all()


def test_bad_arguments_are_named() -> None:
    compressor = Compressor(PRESETS["balanced"], 2, 64)
    with pytest.raises(ValueError, match="expected"):
        compressor.compress(torch.randn(1, 2, 127, 64), torch.randn(1, 2, 127, 64))
    with pytest.raises(TypeError, match="floating point"):
        compressor.compress(torch.zeros(1, 2, 128, 64).int(), torch.zeros(1, 2, 128, 64))
    with pytest.raises(ValueError, match="records must be"):
        compressor.decompress(torch.zeros(1, 3, dtype=torch.uint8))
    with pytest.raises(ValueError, match="nothing to compress"):
        Compressor(resolve_config(kv_bits=16), 2, 64)
