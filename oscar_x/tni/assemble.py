"""Turns what was streamed into a report."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..adapters.base import follow
from ..cache.plan import plan_layers
from ..cache.serialize import model_signature
from ..config import OscarConfig
from ..modality import Modality
from ..prompts import tokenizer_of
from .distribution import Distribution, Histogram, merge
from .extremes import Extremes
from .layer import LayerObserver
from .observe import ObservingCache
from .parts import ChannelTni, ErrorTni, GroupTni, HeadTni, KeyBiasTni, LayerTni, StateTni, TniSettings, TokenNorm
from .report import TniReport
from .statistics import ErrorSums, GroupSums, StateStatistics

if TYPE_CHECKING:
    from ..model import OscarModel

Decode = Callable[[int, int], str]


def assemble(
    model: OscarModel,
    cache: ObservingCache,
    settings: OscarConfig,
    data_hash: str,
    sequences: int,
    tokens: dict[str, int],
) -> TniReport:
    """The report on what the cache has seen.

    Raises:
        ValueError: no sequence was long enough for a group.
    """
    if not any(observer.keys.groups for observer in cache.observers.values()):
        needed = settings.sink_tokens + settings.key_group_size
        raise ValueError(
            f"data is too short: no sequence has {needed} tokens, of which {settings.sink_tokens} stay exact and "
            f"{settings.key_group_size} make a group"
        )
    tokenizer = tokenizer_of(model.processor)

    def decode(sequence: int, position: int) -> str:
        return str(tokenizer.decode([cache.token_ids[sequence, position]]))

    biases = _bias_norms(model)
    plans = {plan.index: plan for plan in plan_layers(model.model.config, settings)}
    layers = []
    for index, observer in sorted(cache.observers.items()):
        plan, bias = plans[index], biases.get(index)
        removed = plan.compressed and index in cache.taken_out
        heads = tuple(_head(observer, head, bias, removed, decode) for head in range(observer.keys.heads))
        layers.append(LayerTni(index, plan.layer_type, plan.compressed, heads))
    assert cache.norm_map is not None
    return TniReport(
        model_type=model.generator.config.get_text_config(decoder=True).model_type,
        model_signature=model_signature(model.model.config),
        data_hash=data_hash,
        library_version=version("oscar-x"),
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        sequences=sequences,
        tokens=tokens,
        settings=TniSettings(
            settings.key_bits,
            settings.value_bits,
            settings.key_group_size,
            settings.value_group_size,
            settings.sink_tokens,
            settings.token_norm,
            settings.value_grouping,
        ),
        layers=tuple(layers),
        norm_map=cache.norm_map.build(),
    )


def _bias_norms(model: OscarModel) -> dict[int, Tensor]:
    """Norm of each layer's key-projection bias, fp32 [num_key_value_heads], where it has one that is in memory."""
    adapter, norms = model.adapter, {}
    for index, layer in enumerate(adapter.find_layers(model.model) if adapter.key_bias else ()):
        attention = follow(layer, adapter.attention)
        bias = follow(attention, str(adapter.key_bias))
        if bias is not None and not bias.is_meta:
            norms[index] = bias.detach().float().view(-1, attention.head_dim).norm(dim=-1).cpu()
    return norms


def _head(observer: LayerObserver, head: int, bias: Tensor | None, removed: bool, decode: Decode) -> HeadTni:
    key_bias = None
    if bias is not None:
        energy, norm = float(observer.raw_energy[head]), float(bias[head])
        share = norm**2 * observer.count / energy if energy else 0.0
        held = float(observer.biased_energy[head])
        left_in = float(observer.biased_error[head]) / held if removed and held else None
        key_bias = KeyBiasTni(norm, share, removed, left_in)
    return HeadTni(head, _state(observer.keys, head, decode), _state(observer.values, head, decode), key_bias)


def _state(state: StateStatistics, head: int, decode: Decode) -> StateTni:
    norms = _distributions(state.norms, head)
    median = merge(list(norms.values())).median
    return StateTni(
        norms=norms,
        median=median,
        groups={kind: _group(sums, head) for kind, sums in sorted(state.groups.items())},
        first_group=_group(state.first_group, head) if state.first_group.groups else None,
        errors_before=_distributions(state.before, head),
        errors_after=_distributions(state.after, head),
        channels=_channels(state, head),
        low_tokens=_tokens(state.low, head, median, decode),
        high_tokens=_tokens(state.high, head, median, decode),
        leading=_leading(state, head, median),
    )


def _distributions(histograms: dict[str, Histogram], head: int) -> dict[str, Distribution]:
    return {name: _some(histogram, head) for name, histogram in sorted(histograms.items())}


def _some(histogram: Histogram, head: int) -> Distribution:
    found = histogram.distribution(head)
    assert found is not None  # made when its first numbers came
    return found


def _group(sums: GroupSums, head: int) -> GroupTni:
    energy = float(sums.energy[head])

    def relative(errors: dict[str, ErrorSums]) -> dict[str, ErrorTni]:
        return {name: _error(error, head, energy, sums.tokens) for name, error in errors.items()}

    return GroupTni(
        groups=sums.groups,
        energy=energy,
        max_over_min=_some(sums.max_over_min, head),
        variation=_some(sums.variation, head),
        imbalance=_some(sums.imbalance, head),
        along_tokens=relative(sums.along_tokens),
        along_channels=relative(sums.along_channels),
        dealt=relative(sums.dealt),
    )


def _error(sums: ErrorSums, head: int, energy: float, tokens: int) -> ErrorTni:
    if not energy:
        return ErrorTni(0.0, 0.0, 0.0)
    channels = sums.channels[head]
    worst = float(channels.max()) * len(channels) / energy
    return ErrorTni(float(sums.energy[head]) / energy, float(sums.tokens[head]) / tokens, worst)


def _channels(state: StateStatistics, head: int) -> ChannelTni:
    assert state.channels is not None
    before, after = (energy[head].sqrt() for energy in state.channels)
    return ChannelTni(_peak(before), _peak(after), int(before.argmax()))


def _peak(channels: Tensor) -> float:
    median = float(channels.median())
    return float(channels.max()) / median if median else 1.0


def _tokens(extremes: Extremes, head: int, median: float, decode: Decode) -> tuple[TokenNorm, ...]:
    found = []
    for norm, place in zip(extremes.norms[head].tolist(), extremes.places[head].tolist(), strict=True):
        sequence, position, modality = place
        ratio = norm / median if median else 1.0
        name = Modality(modality).name.lower()
        found.append(TokenNorm(norm, ratio, sequence, position, name, decode(sequence, position)))
    return tuple(found)


def _leading(state: StateStatistics, head: int, median: float) -> tuple[float, ...]:
    means: Any = torch.where(state.led > 0, state.leading[head] / state.led.clamp(min=1), 0.0)
    reached = means[state.led > 0].tolist()
    return tuple(mean / median if median else 1.0 for mean in reached)
