"""A cache that looks at keys and values before it stores them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from ..cache import OscarCache
from ..config import OscarConfig
from ..key_bias import KeyBias
from ..modality import Modality, ModalityStream
from .layer import LayerObserver
from .norm_map import NormMapBuilder
from .tokens import Tokens


class ObservingCache(OscarCache):
    """An OscarCache that streams statistics of what it is given. Otherwise it does what its parent does.

    Args:
        config, oscar, key_biases: as for OscarCache.
        settings: how the statistics make groups.
        taken_out: the key biases that the statistics take out of keys.
        max_tokens: tokens of a sequence that count; all when missing.
        progress: called with the layer number after each layer.
    """

    def __init__(
        self,
        config: PreTrainedConfig,
        oscar: OscarConfig,
        settings: OscarConfig,
        taken_out: dict[int, KeyBias],
        *,
        max_tokens: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        super().__init__(config, oscar, key_biases=taken_out if oscar.compresses else None)
        self.statistics_settings = settings
        self.taken_out = taken_out
        self.max_tokens = max_tokens
        self.progress = progress
        self.observers: dict[int, LayerObserver] = {}
        self.norm_map: NormMapBuilder | None = None
        self.token_ids: dict[tuple[int, int], int] = {}
        self._sequence = 0

    def begin(self, sequence: int) -> None:
        """Forget what is stored; what comes next are the sequences from this number on, one a row."""
        self.reset()
        self._sequence = sequence
        for observer in self.observers.values():
            observer.begin()

    def note_tokens(self, sequence: int, tokens: Sequence[int]) -> None:
        """Keep the ids of those tokens of a sequence that are extremes so far.

        Args:
            tokens: ids without padding.
        """
        for observer in self.observers.values():
            for state in (observer.keys, observer.values):
                for extremes in (state.low, state.high):
                    places = extremes.places[..., :2].flatten(0, 1).tolist()
                    self.token_ids |= {(s, at): tokens[at] for s, at in places if s == sequence}

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any) -> tuple:
        """Look at a layer's new states, then take them; see OscarCache.update."""
        self._observe(layer_idx, key_states.detach(), value_states.detach())
        taken = super().update(key_states, value_states, layer_idx, *args, **kwargs)
        if self.progress is not None:
            self.progress(layer_idx)
        return taken

    def _observe(self, layer: int, key_states: Tensor, value_states: Tensor) -> None:
        batch, heads, count, _ = key_states.shape
        for name, states in (("keys", key_states), ("values", value_states)):
            if not bool(states.isfinite().all()):
                raise ValueError(f"layer {layer}: {name} hold NaN or infinity")
        if layer not in self.observers:
            self.observers[layer] = LayerObserver(heads, self.statistics_settings)
        observer, held = self.observers[layer], self.layers[layer].get_seq_length()
        stream = self.shared.fitted(batch, held + count)
        for row in range(batch):
            sequence = self._sequence + row
            kinds = torch.full((count,), int(Modality.TEXT), dtype=torch.int8)
            if stream is not None:
                kinds = stream.modalities[row, held:].cpu()
            start = observer.seen(sequence)
            columns = (kinds != Modality.PADDING).nonzero()[:, 0]
            if self.max_tokens is not None:
                columns = columns[: max(0, self.max_tokens - start)]
            if not len(columns):
                continue
            at = columns.to(key_states.device)
            keys, values = (states[row].index_select(1, at).float() for states in (key_states, value_states))
            biased = None
            if layer in self.taken_out:
                biased, keys = keys, keys - self._bias(layer, start, stream, row, held + columns)
            tokens = Tokens(keys, values, biased, kinds[columns])
            observer.see(tokens, sequence)
            if self.norm_map is not None and sequence == 0:
                self.norm_map.add(layer, start, keys, tokens.modalities)

    def _bias(self, layer: int, start: int, stream: ModalityStream | None, row: int, columns: Tensor) -> Tensor:
        """The bias as it stands in the tokens at these columns, fp32 [num_key_value_heads, n, head_dim]."""
        bias = self.taken_out[layer]
        if stream is None or stream.positions is None or bias.axes is None:
            order = torch.arange(start, start + len(columns), device=bias.bias.device)
            return bias.rotated(order).transpose(0, 1)
        placed = stream.positions[:, row, columns.to(stream.positions.device)]
        return bias.placed(placed.to(bias.bias.device)).transpose(0, 1)
