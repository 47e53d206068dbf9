from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from oscar_x.evals.baselines.base import BaselineCache
from oscar_x.evals.baselines.kivi import Kivi
from oscar_x.evals.baselines.lloyd_max import sphere_codebook
from oscar_x.evals.baselines.ott import OutlierTokensTracing
from oscar_x.evals.baselines.per_channel import PerChannel
from oscar_x.evals.baselines.per_token import PerToken
from oscar_x.evals.baselines.quarot import QuaRot, clip_groups
from oscar_x.evals.baselines.rotary import Rotary
from oscar_x.evals.baselines.rotatekv import RotateKV
from oscar_x.evals.baselines.turboquant import TurboQuant
from oscar_x.evals.method import held_bytes, held_tensors

METHODS = [PerToken, PerChannel, Kivi, QuaRot, RotateKV, OutlierTokensTracing, TurboQuant]
SHAPES = [(1, 2, 1, 64), (2, 2, 33, 64), (1, 3, 65, 64), (1, 2, 100, 80)]
States = tuple[torch.Tensor, torch.Tensor]


@pytest.fixture
def cache_of(support: Callable[[str], Any]) -> Callable[..., BaselineCache]:
    """``cache_of(method, heads, head_dim)``: an empty cache for a random model of that shape."""
    tiny = support("tiny")

    def make(method: Any, heads: int = 2, head_dim: int = 64) -> BaselineCache:
        model = tiny.tiny_model(
            "llama", hidden_size=64 * heads, num_attention_heads=heads, num_key_value_heads=heads, head_dim=head_dim
        )
        return BaselineCache(method, model)

    return make


def packed(cache: BaselineCache, keys: torch.Tensor, values: torch.Tensor) -> States:
    """What the cache gives back for states that it has packed."""
    cache.update(keys, values, 0)
    cache.flush()
    read_keys, read_values = cache.update(keys[:, :, :1], values[:, :, :1], 0)
    return read_keys[:, :, :-1], read_values[:, :, :-1]


def relative_error(approximate: torch.Tensor, exact: torch.Tensor) -> float:
    return float((approximate - exact).norm() / exact.norm())


@pytest.mark.parametrize("kind", METHODS)
@pytest.mark.parametrize("shape", SHAPES)
def test_round_trip_on_odd_shapes(cache_of: Callable[..., BaselineCache], kind: Any, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    keys, values = torch.randn(shape), torch.randn(shape)
    read_keys, read_values = packed(cache_of(kind(), shape[1], shape[3]), keys, values)
    assert read_keys.shape == keys.shape
    assert read_values.shape == values.shape
    # two bits of a Gaussian: about 0.35 in squared-error terms below one half
    assert relative_error(read_keys, keys) < 0.6
    assert relative_error(read_values, values) < 0.6


@pytest.mark.parametrize("kind", [PerToken, PerChannel, Kivi, RotateKV, OutlierTokensTracing])
def test_eight_bits_are_nearly_exact(cache_of: Callable[..., BaselineCache], kind: Any, outlier_states: Any) -> None:
    keys, values = outlier_states(tokens=70)
    read_keys, read_values = packed(cache_of(kind(bits=8)), keys, values)
    assert relative_error(read_keys, keys) < 0.01
    assert relative_error(read_values, values) < 0.01


@pytest.mark.parametrize("kind", METHODS)
def test_bits_are_those_of_the_tensors_held(cache_of: Callable[..., BaselineCache], kind: Any) -> None:
    cache = cache_of(kind())
    states = torch.randn(1, 2, 96, 64)
    cache.update(states, states, 0)
    cache.flush()
    segment = cache.layers[0].segments[0]
    tensors = list(held_tensors(segment.packed))
    footprint = cache.footprint()
    assert footprint.packed_bytes == sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    assert footprint.packed_elements == 2 * states.numel()
    assert footprint.exact_bytes == held_bytes(segment.exact)
    assert footprint.full_bytes == 2 * 2 * states.numel()
    assert cache.layers[0].keys.untyped_storage().nbytes() == 0, "the exact states are still held"


def test_kivi_bits_as_the_paper_counts_them(cache_of: Callable[..., BaselineCache]) -> None:
    cache = cache_of(Kivi())
    states = torch.randn(1, 2, 128, 64)
    cache.update(states, states, 0)
    cache.flush()
    # 2 bits, and an fp16 scale and minimum for 32 elements
    assert cache.footprint().bits_per_element == 2 + 32 / 32


@pytest.mark.parametrize(("rate", "bits"), [(2.5, 2.5), (3.5, 3.5)])
def test_turboquant_bits(cache_of: Callable[..., BaselineCache], rate: float, bits: float) -> None:
    cache = cache_of(TurboQuant(rate=rate))
    states = torch.randn(1, 2, 128, 64)
    cache.update(states, states, 0)
    cache.flush()
    # two fp16 norms for 64 channels, and the int16 order of the channels once for 128 tokens
    assert cache.footprint().bits_per_element == bits + 32 / 64 + 16 / 128


def test_quality_order_on_keys_with_outliers(cache_of: Callable[..., BaselineCache], outlier_states: Any) -> None:
    keys, values = outlier_states()
    errors = {kind: relative_error(packed(cache_of(kind()), keys, values)[0], keys) for kind in METHODS}
    assert errors[OutlierTokensTracing] < errors[Kivi] < errors[PerToken]
    assert errors[TurboQuant] < errors[QuaRot]
    assert errors[Kivi] == errors[PerChannel]


def test_outlier_tokens_are_exact(cache_of: Callable[..., BaselineCache], outlier_states: Any) -> None:
    keys, values = outlier_states()
    read_keys, read_values = packed(cache_of(OutlierTokensTracing()), keys, values)
    assert torch.equal(read_keys[:, :, 0], keys[:, :, 0].half().float())
    assert torch.equal(read_values[:, :, 0], values[:, :, 0].half().float())


def test_outlier_tokens_leave_the_statistics(cache_of: Callable[..., BaselineCache]) -> None:
    keys = torch.randn(1, 2, 64, 64) + 10
    keys[:, :, [5, 40, 41]] = 0.0
    cache = cache_of(OutlierTokensTracing())
    cache.update(keys, keys, 0)
    cache.flush()
    packed_keys, _ = cache.layers[0].segments[0].packed
    assert packed_keys.minimum.min() > 5


def test_sinks_of_rotatekv_are_exact(cache_of: Callable[..., BaselineCache], outlier_states: Any) -> None:
    keys, values = outlier_states()
    read_keys, _ = packed(cache_of(RotateKV()), keys, values)
    assert torch.equal(read_keys[:, :, :4], keys[:, :, :4].half().float())


def test_rotary_is_undone_exactly(support: Callable[[str], Any]) -> None:
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    model = support("tiny").tiny_model("llama")
    keys = torch.randn(1, 2, 50, 64)
    cos, sin = model.model.rotary_emb(keys, torch.arange(7, 57)[None])
    rotated = apply_rotary_pos_emb(keys, keys, cos, sin)[1]
    rotary = Rotary(model)
    torch.testing.assert_close(rotary.undo(rotated, layer=0, first=7), keys)
    torch.testing.assert_close(rotary.redo(keys, layer=0, first=7), rotated)


def test_clipping_takes_each_end_of_a_group() -> None:
    x = torch.tensor([-10.0, 1.0, 20.0, 5.0, -4.0])
    torch.testing.assert_close(clip_groups(x, 3, 0.5), torch.tensor([-5.0, 1.0, 10.0, 2.5, -2.0]))


def test_codebook_is_the_gaussian_one_in_high_dimensions() -> None:
    # Max (1960), table for 4 levels: 0.4528 and 1.510 standard deviations
    levels = sphere_codebook(1024, 2) * 1024**0.5
    torch.testing.assert_close(levels, torch.tensor([-1.510, -0.4528, 0.4528, 1.510]), atol=0.01, rtol=0)


def test_product_variant_is_unbiased_on_inner_products() -> None:
    torch.manual_seed(0)
    keys, query = torch.randn(1, 1, 4096, 64), torch.randn(64)
    exact = keys @ query
    slopes = {}
    for product in (False, True):
        methods = [TurboQuant(rate=2.5, product=product, seed=2 * draw) for draw in range(20)]
        read = sum(method.restore_keys(method.compress_keys(keys)) @ query for method in methods) / len(methods)
        slopes[product] = float((read * exact).sum() / exact.square().sum())
    # unbiased over the random projection, hence the mean over draws
    assert abs(slopes[True] - 1) < 0.02
    assert slopes[False] < 0.95


def test_a_method_can_generate_with_a_residual_window(tiny_pair: Any) -> None:
    model, tokenizer = tiny_pair
    inputs = tokenizer("A prompt that is a little longer than one group of tokens, so that some is packed.")
    ids = torch.tensor(inputs["input_ids"])[None]
    cache = BaselineCache(Kivi(bits=8, residual_length=32), model)
    output = model.generate(ids, past_key_values=cache, max_new_tokens=40, do_sample=False, pad_token_id=0)
    layer = cache.layers[0]
    assert layer.get_seq_length() == output.shape[1] - 1
    assert layer.packed_tokens >= 32
    assert layer.packed_tokens % 32 == 0
    assert 32 <= layer.keys.shape[-2] < 32 + 64
    assert cache.packed_reads > 0


def test_first_update_is_exact_and_packed_reads_start_at_zero(cache_of: Callable[..., BaselineCache]) -> None:
    cache = cache_of(Kivi())
    states = torch.randn(1, 2, 64, 64)
    keys, values = cache.update(states, states, 0)
    assert torch.equal(keys, states)
    assert torch.equal(values, states)
    assert cache.packed_reads == 0
    cache.flush()
    cache.update(states[:, :, :3], states[:, :, :3], 0)
    assert cache.packed_reads == 64 * 3


def test_beam_search_is_refused(cache_of: Callable[..., BaselineCache]) -> None:
    with pytest.raises(NotImplementedError, match="no beam search"):
        cache_of(Kivi()).reorder_cache(torch.tensor([0]))


def test_the_layers_that_oscar_compresses_are_compressed(support: Callable[[str], Any]) -> None:
    for window, layers in ((4095, 0), (4096, 2)):
        model = support("tiny").tiny_model("phi3", sliding_window=window)
        assert len(BaselineCache(Kivi(), model).compressed_layers) == layers
