"""Options of a layer: none that beats another is missed, heads that cost more get more, bits are the layout's."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from oscar_x.calibration import Candidates
from oscar_x.calibration.costs import LayerCosts, space_of
from oscar_x.calibration.options import bits_per_element, layer_options
from oscar_x.compressor import head_ways
from oscar_x.config import PRESETS, OscarConfig

HEADS, HEAD_DIM, TOKENS = 2, 64, 512
FEW = Candidates((2, 4), (16, 32), ("per_token",), scale_bits=(4,), sink_tokens=(0, 4))
SHAPE = (HEADS, HEAD_DIM, TOKENS)


def made_up(space, seed=0, heads=HEADS, weights=(1.0, 1.0)):
    """Costs that add up over heads; more bits cost less."""
    dice = np.random.default_rng(seed)

    def table(*shape, ways):
        noise = dice.lognormal(0, 0.5, (*shape, len(ways), heads))
        noise *= np.array([4.0 ** -next(iter(way.values())) for way in ways])[:, None] * np.array(weights)
        return np.concatenate([noise.sum(-1, keepdims=True), noise], axis=-1)

    keys = table(len(space.treatments), len(space.scales), ways=space.keys)
    values = table(len(space.scales), ways=space.values)
    bounds = dice.uniform(0.3, 1, (len(space.bounds), 2, 1)) * np.ones(1 + heads)
    padding = np.array([1.0 if bound["modality_split"] is None else 1.25 for bound in space.bounds])
    return LayerCosts(keys, values, bounds, padding)


def every_choice(costs, space):
    """Bits and cost of all that two heads can be stored as."""
    ways = list(product(range(len(space.scales)), range(len(space.keys)), range(len(space.values))))
    for treatment, (at, bound) in product(range(len(space.treatments)), enumerate(space.bounds)):
        taken = (1, HEAD_DIM, TOKENS, costs.padding[at])
        sizes = {way: bits_per_element(space.settings(treatment, *way, at), *taken) for way in ways}
        for pair in product(ways, repeat=HEADS):
            bits = cost = 0.0
            for head, (scale, key, value) in enumerate(pair):
                bits += sizes[scale, key, value] / HEADS
                cost += costs.keys[treatment, scale, key, 1 + head] * costs.bounds[at, 0, 0]
                cost += costs.values[scale, value, 1 + head] * costs.bounds[at, 1, 0]
            assert space.settings(treatment, *pair[0], at).sink_tokens == bound["sink_tokens"]
            yield bits, cost


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_nothing_that_beats_an_option_is_missed(seed, several):
    space = space_of(OscarConfig(), FEW, HEAD_DIM, None, several)
    costs = made_up(space, seed)
    options, choices = layer_options(costs, space, SHAPE, 1.0, 2), list(every_choice(costs, space))
    for budget in (2.5, 2.7, 3.0, 3.5, 4.0):
        best = min(cost for bits, cost in choices if bits <= budget + 1e-9)
        assert min(option.cost for option in options if option.bits <= budget + 1e-9) == pytest.approx(best)


def test_bits_are_those_that_the_settings_take():
    space = space_of(OscarConfig(), FEW, HEAD_DIM, None)
    options = layer_options(made_up(space), space, SHAPE, 0.25, 2)
    assert {len(head_ways(option.settings, HEADS)) for option in options} == {1, 2}
    for option in options:
        assert option.bits == pytest.approx(bits_per_element(option.settings, HEADS, HEAD_DIM, TOKENS) / 4)


def test_the_head_whose_errors_cost_more_gets_more():
    space = space_of(OscarConfig(), FEW, HEAD_DIM, None)
    options = layer_options(made_up(space, weights=(0.001, 1.0)), space, SHAPE, 1.0, 2)
    best = min((option for option in options if option.bits <= 3.6), key=lambda option: option.cost)
    first, second = (way for _, way in sorted(head_ways(best.settings, HEADS)))
    assert first.key_bits + first.value_bits < second.key_bits + second.value_bits


def test_one_way_a_layer_on_request_and_where_norms_are_shared():
    for base, ways in ((OscarConfig(), 1), (replace(PRESETS["paper"], sink_tokens=4), 2)):
        space = space_of(base, FEW, HEAD_DIM, None)
        options = layer_options(made_up(space, weights=(0.001, 1.0)), space, SHAPE, 1.0, ways)
        assert not any(option.settings.head_groups for option in options)
        assert len(options) > 3
    with pytest.raises(ValueError, match="head_ways=3 is not allowed; use 1 or 2"):
        Candidates(head_ways=3)


def test_blocks_end_where_modalities_meet_when_that_is_worth_its_bytes():
    """A split that takes a tenth of the cost and a quarter more bytes: not with little to spend, but with much."""
    space = space_of(OscarConfig(), replace(FEW, sink_tokens=(4,)), HEAD_DIM, None, several=True)
    assert [tuple(bound.values()) for bound in space.bounds] == [(4, None, 64), (4, 1.25, 16), (4, 1.25, 64)]
    costs = made_up(space)
    costs.bounds[:] = np.array([1, 0.1, 1])[:, None, None]
    options = layer_options(costs, space, SHAPE, 1.0, 2)
    least = min(options, key=lambda option: option.bits)
    best = min(options, key=lambda option: option.cost)
    assert (least.settings.modality_split, best.settings.modality_split) == (None, 1.25)
    assert best.settings.modality_split_run == 16
    taken = 4 / TOKENS * 16 + (1 - 4 / TOKENS) * 1.25 * bits_per_element(
        replace(best.settings, sink_tokens=0), HEADS, HEAD_DIM, TOKENS
    )
    assert best.bits == pytest.approx(taken)


def test_data_of_one_modality_leave_the_split_as_it_is():
    base = OscarConfig(modality_split=3.0, modality_split_run=8)
    kept = {"modality_split": 3.0, "modality_split_run": 8}
    assert replace(FEW, sink_tokens=(2,)).bounds(base, several=False) == [{"sink_tokens": 2, **kept}]


def test_groups_that_do_not_fit_are_passed_over():
    wide = Candidates(bits=(2,), group_sizes=(16, 64, 128))
    small = OscarConfig(block_size=64, value_scale_rows=16)
    assert [way["key_group_size"] for way in wide.keys(small)] == [16, 64]
    sizes = {(way["value_grouping"], way["value_group_size"]) for way in wide.values(small, 32)}
    assert sizes == {("per_token", 16), ("per_channel", 16), ("per_channel", 64)}


@pytest.mark.parametrize("changes", [{"key_bias": "off"}, {"token_norm": "none"}])
def test_a_treatment_that_costs_less_is_taken(changes):
    """Two treatments of keys, of which the second costs less."""
    space = space_of(OscarConfig(), replace(FEW, token_norm=("per_head",)), HEAD_DIM, None)
    two = replace(space, treatments=[space.treatments[0], space.treatments[0] | changes])
    costs = made_up(two)
    costs.keys[1] = costs.keys[0] / 2
    (name, chosen), *_ = changes.items()
    assert {getattr(option.settings, name) for option in layer_options(costs, two, SHAPE, 1.0, 1)} >= {chosen}
    best = min(layer_options(costs, two, SHAPE, 1.0, 2), key=lambda option: option.cost)
    assert getattr(best.settings, name) == chosen


def test_treatments_of_keys():
    assert [way["key_bias"] for way in replace(FEW, token_norm=("none",)).treatments(OscarConfig(), True)] == [
        "auto",
        "off",
    ]
    assert FEW.treatments(OscarConfig(), False) == [
        {"key_bias": "auto", "token_norm": "damped"},
        {"key_bias": "auto", "token_norm": "none"},
    ]
    assert {way["token_norm"] for way in FEW.treatments(PRESETS["paper"], True)} == {"shared"}
