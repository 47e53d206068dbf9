"""The options of every layer: what each takes, and what each is estimated to cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

import numpy as np

from ..compressor import block_layout
from ..config import OscarConfig
from ..head_groups import HEAD_FIELDS, HeadGroup
from ..key_bias import KeyBias
from .candidates import Candidates
from .choose import Option
from .costs import LayerCosts, Space, layer_costs, space_of
from .recording import Recording

Heads = tuple[int, ...]
# (heads, number of the way in [scale bits, key ways, value ways])
Pick = tuple[tuple[Heads, int], ...]


def bits_per_element(settings: OscarConfig, heads: int, head_dim: int, tokens: int, padding: float = 1.0) -> float:
    """Bits of an element of a layer that holds this many tokens, those kept exact at the start counted as 16.

    Args:
        padding: how many times the bytes of packed tokens their blocks take.
    """
    exact = min(settings.sink_tokens, tokens)
    packed = padding * block_layout(settings, heads, head_dim).bits_per_element if settings.compresses else 16.0
    return _with_exact(packed, exact, tokens)


def _with_exact(packed: float, exact: int, tokens: int) -> float:
    return (16 * exact + packed * (tokens - exact)) / tokens


@dataclass(frozen=True)
class Front:
    """Ways that nothing beats in bits and cost alike, by growing bits.

    Attributes:
        bits: of an element of all the layer's heads, float64 [n].
        costs: float64 [n].
        picks: what they are.
    """

    bits: np.ndarray
    costs: np.ndarray
    picks: list[Pick]


def layer_options(
    costs: LayerCosts, space: Space, shape: tuple[int, int, int], share: float, ways: int
) -> list[Option]:
    """The options of a layer that nothing beats.

    Args:
        shape: KV heads, head_dim, and tokens at which bits are counted.
        share: of the layer's elements in those of all compressed layers.
        ways: the most ways in which heads may be stored, 1 or 2.
    """
    heads, head_dim, tokens = shape
    sizes = _sizes(_Key(space), heads, head_dim)
    splits = list(_splits(costs)) if ways == 2 and space.base.token_norm != "shared" else []
    options = []
    for treatment, bound in product(range(len(space.treatments)), range(len(space.bounds))):
        table = _Table(costs, treatment, bound, sizes[treatment])
        fronts = [table.front(tuple(range(heads)))]
        fronts += [_joined(table.front(few), table.front(rest)) for few, rest in splits]
        exact = min(space.bounds[bound]["sink_tokens"], tokens)
        for front in fronts:
            for bits, cost, pick in zip(front.bits, front.costs, front.picks, strict=True):
                settings = _settings(space, treatment, bound, pick, costs.values.shape[1])
                options.append(Option(settings, _with_exact(float(bits), exact, tokens) * share, float(cost)))
    return options


class _Table:
    """Costs of a layer with one treatment and one way to bound what is packed, for any set of its heads."""

    def __init__(self, costs: LayerCosts, treatment: int, bound: int, sizes: np.ndarray) -> None:
        self.keys = costs.keys[treatment] * costs.bounds[bound, 0]
        self.values = costs.values * costs.bounds[bound, 1]
        self.sizes = sizes * costs.padding[bound]
        # errors of heads add up or cancel: what all together cost, over the sum of what each costs alone
        self.together = [_together(table) for table in (costs.keys[treatment], costs.values)]

    def front(self, heads: Heads) -> Front:
        """Of these heads stored alike."""
        count = self.keys.shape[-1] - 1
        if len(heads) == count:
            keys, values = self.keys[..., 0], self.values[..., 0]
        else:
            columns = [1 + head for head in heads]
            keys, values = (
                table[..., columns].sum(-1) * factor
                for table, factor in zip((self.keys, self.values), self.together, strict=True)
            )
        costs = (keys[:, :, None] + values[:, None, :]).ravel()
        bits = self.sizes.ravel() * (len(heads) / count)
        return _front(bits, costs, lambda at: ((heads, at),))


def _together(costs: np.ndarray) -> float:
    alone = costs[..., 1:].sum(-1)
    told = (alone > 0) & (costs[..., 0] > 0)
    return float(np.exp(np.log(costs[..., 0][told] / alone[told]).mean())) if told.any() else 1.0


def _front(bits: np.ndarray, costs: np.ndarray, pick: Callable[[int], Pick]) -> Front:
    order = np.lexsort((costs, bits))
    least = np.minimum.accumulate(costs[order])
    better = np.concatenate([[True], costs[order][1:] < least[:-1]])
    kept = order[better]
    return Front(bits[kept], costs[kept], [pick(int(at)) for at in kept])


def _joined(few: Front, rest: Front) -> Front:
    """Every way of the one with every way of the other."""
    bits, costs = (np.add.outer(a, b).ravel() for a, b in ((few.bits, rest.bits), (few.costs, rest.costs)))
    return _front(bits, costs, lambda at: few.picks[at // len(rest.picks)] + rest.picks[at % len(rest.picks)])


def _splits(costs: LayerCosts) -> Iterator[tuple[Heads, Heads]]:
    """The heads in two, those that errors of all kinds cost more and the others: one split for each number of them."""
    heads = costs.keys.shape[-1] - 1
    tiny = np.finfo(np.float64).tiny
    weight = sum(np.log(table[..., 1:] + tiny).reshape(-1, heads).mean(0) for table in (costs.keys, costs.values))
    order = [int(head) for head in np.argsort(weight, kind="stable")]
    for count in range(1, heads):
        yield tuple(sorted(order[:count])), tuple(sorted(order[count:]))


def _settings(space: Space, treatment: int, bound: int, pick: Pick, values: int) -> OscarConfig:
    """What was picked as settings of the layer: the way of most heads is the layer's, the other a head group's."""
    ways = []
    for heads, at in pick:
        scale, key, value = np.unravel_index(at, (len(space.scales), len(space.keys), values))
        ways.append((heads, space.settings(treatment, int(scale), int(key), int(value), bound)))
    ways.sort(key=lambda way: (-len(way[0]), way[0]))
    groups = []
    for heads, way in ways[1:]:
        own = {name: getattr(way, name) for name in HEAD_FIELDS if getattr(way, name) != getattr(ways[0][1], name)}
        groups += [HeadGroup(heads, **own)] if own else []
    return replace(ways[0][1], head_groups=tuple(groups))


class _Key:
    """A space as the key of a cache: by what decides sizes."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.told = repr(space)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.told == other.told

    def __hash__(self) -> int:
        return hash(self.told)


@lru_cache(maxsize=8)
def _sizes(key: _Key, heads: int, head_dim: int) -> np.ndarray:
    """Bits of a packed element, float64 [treatments, scale bits, key ways, value ways]."""
    space = key.space
    shape = len(space.treatments), len(space.scales), len(space.keys), len(space.values)
    sizes = np.zeros(shape)
    for at in product(*map(range, shape)):
        sizes[at] = block_layout(space.settings(*at), heads, head_dim).bits_per_element
    return sizes


def all_options(
    recordings: Sequence[Recording],
    measured: Sequence[Recording],
    base: OscarConfig,
    candidates: Candidates,
    biases: Mapping[int, KeyBias],
    tokens: int,
    progress: Callable[[int, int], None],
) -> dict[int, list[Option]]:
    """The options of every compressed layer, by layer number.

    Args:
        recordings: that costs are estimated from.
        measured: that what is chosen will be measured on; they say how many bytes blocks take which end early.
        tokens: at which bits are counted.
    """
    layers = sorted(recordings[0].attention)
    elements = {layer: recordings[0].states[layer][0][0, :, 0].numel() for layer in layers}
    total, found = sum(elements.values()), {}
    several = any(len(recording.stream.counts()[0]) > 1 for recording in (*recordings, *measured))
    for done, layer in enumerate(layers):
        progress(done, len(layers))
        heads, head_dim = recordings[0].states[layer][0].shape[1::2]
        space = space_of(base, candidates, head_dim, biases.get(layer), several)
        costs = layer_costs(recordings, layer, space, biases.get(layer), measured)
        share = elements[layer] / total
        found[layer] = layer_options(costs, space, (heads, head_dim, tokens), share, candidates.head_ways)
    return found
