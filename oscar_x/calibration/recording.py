"""What calibration needs of a model, from one pass over a prefix and one over its continuation.

The continuation attends to the exact prefix. Of every compressed layer the pass keeps the queries, the attention output
and the output's gradients, which say how much an error there moves the logits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from ..cache.handle import WatchedStates
from ..cache.plan import plan_layers
from ..config import OscarConfig
from ..modality import ModalityStream
from .passage import Passage
from .replay import States, context_states, continuation_logits

if TYPE_CHECKING:
    from ..model import OscarModel


@dataclass
class Attention:
    """One layer's attention over the continuation.

    Attributes:
        query: post-RoPE [num_attention_heads, n, head_dim].
        keys, values: exact states of prefix and continuation, [num_key_value_heads, prefix + n, head_dim].
        scaling: factor on the scores.
        gradients: of the log-probability of drawn tokens by the attention output,
            [draws, n, num_attention_heads, head_dim].
    """

    query: Tensor
    keys: Tensor
    values: Tensor
    scaling: float
    gradients: Tensor = field(default_factory=lambda: torch.empty(0))


@dataclass
class Recording:
    """One passage.

    Attributes:
        states: keys and values of the prefix that the model handed over, [1, num_key_value_heads, prefix, head_dim],
            of every layer.
        attention: of compressed layers.
        passage: what was read.
        reference: log-probabilities with the exact prefix, fp32 [n, vocabulary].
    """

    states: States
    attention: dict[int, Attention]
    passage: Passage
    reference: Tensor

    @property
    def prefix(self) -> int:
        """Tokens of the prefix."""
        return self.passage.prefix

    @property
    def stream(self) -> ModalityStream:
        """What every token of the prefix is."""
        return self.passage.stream


class _Watched(WatchedStates):
    """Attends as the model would, and keeps what went in and came out."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.keys, self.values = keys, values

    def attend(self, module: Any, query: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
        self.query, self.scaling = query.detach()[0], scaling
        if mask is None:
            n, columns = query.shape[2], self.keys.shape[2]
            at = torch.arange(columns, device=query.device)
            mask = (at[None] <= at[columns - n :, None])[None, None]
        output, _ = sdpa_attention_forward(module, query, self.keys, self.values, mask, scaling=scaling)
        # weights may be frozen: a zero that wants a gradient makes one flow to here
        self.probe = torch.zeros_like(output, requires_grad=True)
        return output + self.probe


class _WatchingCache(DynamicCache):
    """A full cache whose compressed layers hand out states that are watched while they are attended to."""

    def __init__(self, config: Any, layers: set[int]) -> None:
        super().__init__(config=config)
        self.wanted = layers
        self.watched: dict[int, _Watched] = {}

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any) -> Any:
        held = super().update(key_states, value_states, layer_idx, *args, **kwargs)
        if layer_idx not in self.wanted:
            return held
        self.watched[layer_idx] = _Watched(*held)
        return self.watched[layer_idx], self.watched[layer_idx]


def compressible_layers(model: OscarModel) -> list[int]:
    """Layers that a compressing cache would pack."""
    return [plan.index for plan in plan_layers(model.generator.config, OscarConfig()) if plan.compressed]


def record(model: OscarModel, passage: Passage, draws: int, seed: int) -> Recording:
    """Read a passage.

    Args:
        draws: tokens drawn at each position from the model's own distribution; the mean square of their gradients is
            the diagonal of its Fisher matrix, which turns errors into KL.
        seed: of the draws.
    """
    module = model.generator
    layers = compressible_layers(model)
    states = context_states(module, passage)
    cache = _WatchingCache(module.config, set(layers))
    with torch.no_grad():
        for index, held in states.items():
            DynamicCache.update(cache, *held, index)
    with torch.enable_grad():
        logits = continuation_logits(module, cache, passage.continuation, passage.positions)
        gradients = _gradients(logits, [cache.watched[index].probe for index in layers], draws, seed)
    attention = {}
    for index, gradient in zip(layers, gradients, strict=True):
        watched = cache.watched[index]
        keys, values = watched.keys.detach()[0].float(), watched.values.detach()[0].float()
        attention[index] = Attention(watched.query.float(), keys, values, watched.scaling, gradient)
    return Recording(states, attention, passage, logits.detach().log_softmax(dim=-1))


def _gradients(logits: Tensor, probes: list[Tensor], draws: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    chances = logits.detach().softmax(dim=-1).cpu()
    found: list[list[Tensor]] = []
    for draw in range(draws):
        drawn = torch.multinomial(chances, 1, generator=generator).to(logits.device)
        total = logits.log_softmax(dim=-1).gather(1, drawn).sum()
        found.append([g[0] for g in torch.autograd.grad(total, probes, retain_graph=draw + 1 < draws)])
    return [torch.stack(layer).float() for layer in zip(*found, strict=True)]
