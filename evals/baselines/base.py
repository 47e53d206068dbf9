"""The lifecycle shared by every peer method: exact tokens arrive, are packed once, and are read back packed.

A method is one small file: it says how a run of keys and values is packed (compress) and read back (restore).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import CacheLayerMixin

from ...cache.plan import keeps_all
from ..method import Footprint, Method, held_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Segment:
    """A run of tokens that has been packed.

    Attributes:
        packed: codes, scales and whatever else reading them back needs; any nesting of dataclasses and tuples.
        exact: tokens that the method keeps out of quantization, fp16, with their positions; None where it has none.
        elements: key and value elements of the run.
        tokens: tokens of the run.
        layer: index of the layer.
        first: position of the first token of the run.
    """

    packed: Any
    exact: Any
    elements: int
    tokens: int
    layer: int
    first: int


class Baseline(ABC):
    """A method of quantizing keys and values. Keys arrive as the cache sees them: after rotary embedding."""

    def __init__(self, *, bits: int = 2, group_size: int = 32, residual_length: int = 0, seed: int = 0) -> None:
        self.bits, self.group_size, self.residual_length, self.seed = bits, group_size, residual_length, seed

    def bind(self, model: PreTrainedModel) -> None:
        """Take what the method needs from the model: by default nothing."""
        del model

    @abstractmethod
    def compress_keys(self, keys: torch.Tensor) -> Any:
        """Pack keys fp32 [batch, kv_heads, tokens, head_dim]."""

    @abstractmethod
    def compress_values(self, values: torch.Tensor) -> Any:
        """Pack values fp32 [batch, kv_heads, tokens, head_dim]."""

    def restore_keys(self, packed: Any) -> torch.Tensor:
        return packed.unpack()

    def restore_values(self, packed: Any) -> torch.Tensor:
        return packed.unpack()

    def compress(self, keys: torch.Tensor, values: torch.Tensor, layer: int, first: int) -> Segment:
        """Pack a run of tokens whose first stands at position first. Override where keys and values must agree."""
        packed = (self.compress_keys(keys), self.compress_values(values))
        return self.segment(keys, values, packed, None, layer, first)

    def restore(self, segment: Segment) -> tuple[torch.Tensor, torch.Tensor]:
        """Approximate keys and values, fp32 [batch, kv_heads, tokens, head_dim]."""
        keys, values = segment.packed
        return self.restore_keys(keys), self.restore_values(values)

    @staticmethod
    def segment(keys: torch.Tensor, values: torch.Tensor, packed: Any, exact: Any, layer: int, first: int) -> Segment:
        return Segment(packed, exact, keys.numel() + values.numel(), keys.shape[-2], layer, first)


class BaselineLayer(CacheLayerMixin):
    """Packed segments followed by exact tokens; a token is packed once and never requantized."""

    is_sliding = False

    def __init__(self, method: Baseline, index: int) -> None:
        super().__init__()
        self.method, self.index = method, index
        self.segments: list[Segment] = []
        self.packed_reads = 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
        self.is_initialized = True

    @property
    def packed_tokens(self) -> int:
        return sum(segment.tokens for segment in self.segments)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append exact states; return all tokens, packed ones read back, [batch, kv_heads, tokens, head_dim]."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        # before appending: the states of this call are attended to exactly, as at prefill
        self._pack_overdue()
        self.keys = torch.cat([self.keys, key_states], dim=-2)
        self.values = torch.cat([self.values, value_states], dim=-2)
        self.packed_reads += self.packed_tokens * key_states.shape[0] * key_states.shape[-2]
        restored = [self.method.restore(segment) for segment in self.segments]
        keys = torch.cat([*(k.to(self.dtype) for k, _ in restored), self.keys], dim=-2)
        values = torch.cat([*(v.to(self.dtype) for _, v in restored), self.values], dim=-2)
        return keys, values

    def flush(self) -> None:
        """Pack every exact token now, short groups included."""
        if self.is_initialized and self.keys.shape[-2]:
            self._pack(self.keys.shape[-2])

    def _pack_overdue(self) -> None:
        overdue = self.keys.shape[-2] - self.method.residual_length
        whole = overdue - overdue % self.method.group_size if overdue > 0 else 0
        if whole:
            self._pack(whole)

    def _pack(self, tokens: int) -> None:
        keys, values = self.keys[:, :, :tokens].float(), self.values[:, :, :tokens].float()
        self.segments.append(self.method.compress(keys, values, self.index, self.packed_tokens))
        # cloned, so that the packed tokens' exact storage is really released
        self.keys, self.values = self.keys[:, :, tokens:].clone(), self.values[:, :, tokens:].clone()

    def footprint(self) -> Footprint:
        residual = self.keys.numel() + self.values.numel() if self.is_initialized else 0
        elements = sum(segment.elements for segment in self.segments)
        return Footprint(
            packed_bytes=sum(held_bytes(segment.packed) for segment in self.segments),
            packed_elements=elements,
            exact_bytes=sum(held_bytes(segment.exact) for segment in self.segments) + 2 * residual,
            full_bytes=2 * (elements + residual),
        )

    def get_seq_length(self) -> int:
        return self.packed_tokens + (self.keys.shape[-2] if self.is_initialized else 0)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        return -1

    def reset(self) -> None:
        self.segments, self.packed_reads, self.is_initialized = [], 0, False

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        raise NotImplementedError("the comparison methods take greedy and sampled decoding only, no beam search")


class BaselineCache(Cache):
    """A transformers cache in which the layers that OscarCache would compress follow one method; others stay
    transformers' own."""

    def __init__(self, method: Baseline, model: PreTrainedModel) -> None:
        method.bind(model)
        own = DynamicCache(config=model.config).layers
        layers = [BaselineLayer(method, i) if keeps_all(layer, model.config) else layer for i, layer in enumerate(own)]
        super().__init__(layers=layers)

    @property
    def compressed_layers(self) -> list[BaselineLayer]:
        return [layer for layer in self.layers if isinstance(layer, BaselineLayer)]

    @property
    def packed_reads(self) -> int:
        """Tokens times queries read from packed segments so far, all layers."""
        return sum(layer.packed_reads for layer in self.compressed_layers)

    def flush(self) -> None:
        """Pack every exact token of every compressed layer now."""
        for layer in self.compressed_layers:
            layer.flush()

    def footprint(self) -> Footprint:
        """Bytes held by the compressed layers."""
        return Footprint.total([layer.footprint() for layer in self.compressed_layers])


def baseline_method(name: str, label: str, source: str, kind: type[Baseline], **settings: Any) -> Method:
    """The table row of a Baseline class with the given settings."""
    return Method(name, label, source, lambda model: BaselineCache(kind(**settings), model), BaselineCache.footprint)
