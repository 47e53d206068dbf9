"""A context is read once, exactly; its states then fill caches of any kind."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache

from ..cache import OscarCache
from ..cache.handle import KVHandle
from ..modality import ModalityStream
from .passage import Passage

States = dict[int, tuple[Tensor, Tensor]]


class StatesRecorder(DynamicCache):
    """A full cache that remembers the keys and values of every layer as the model hands them over.

    Sliding-window layers keep only their window; what they were given is needed whole to feed other caches.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config=config)
        self.states: States = {}

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        self.states[layer_idx] = (key_states.detach(), value_states.detach())
        return super().update(key_states, value_states, layer_idx, *args, **kwargs)


@torch.no_grad()
def read_context(module: Any, passage: Passage, cache: Cache) -> None:
    """Read a context, with its media, into an empty cache.

    Args:
        module: the transformers model that generates text.
    """
    inputs = {k: v.to(module.device) if isinstance(v, Tensor) else v for k, v in passage.inputs.items()}
    if set(inputs) == {"input_ids"}:
        module(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=1)
    else:  # a generation of one token reads media as any other
        module.generate(**inputs, past_key_values=cache, max_new_tokens=1, do_sample=False)


def context_states(module: Any, passage: Passage) -> States:
    """Keys and values of a context, by layer number.

    Attention over a prompt is exact whatever the cache, so the same states serve every method.

    Args:
        module: the transformers model that generates text.
    """
    recorder = StatesRecorder(module.config)
    read_context(module, passage, recorder)
    return recorder.states


def fill(cache: Cache, states: States, stream: ModalityStream | None = None) -> Cache:
    """Give recorded states to an empty cache.

    Args:
        stream: what the tokens are; text when missing.
    """
    if stream is not None and isinstance(cache, OscarCache):
        cache.expect_prompt(stream.shape[1], stream)
    for layer, (keys, values) in states.items():
        taken, _ = cache.update(keys, values, layer)
        if isinstance(taken, KVHandle):
            # attention "oscar" stores new states when it attends; here nothing attends
            taken.layer.append(keys, values, None)
    return cache


def continuation_logits(module: Any, cache: Cache, tokens: Tensor, positions: Tensor | None = None) -> Tensor:
    """Logits fp32 [n, vocabulary] of tokens that follow what the cache holds, in one forward pass.

    Args:
        tokens: int64 [n].
        positions: their rotary positions [axes, 1, n], where the model does not just count.
    """
    placed = {} if positions is None else {"position_ids": positions.to(module.device)}
    return module(tokens[None].to(module.device), past_key_values=cache, use_cache=True, **placed).logits[0].float()
