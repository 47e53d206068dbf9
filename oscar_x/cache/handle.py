"""What update() may return to a model whose attention is "oscar" in place of keys and values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from .layer import OscarLayer


@dataclass(eq=False)
class KVHandle:
    """Stands for keys and values alike on the way from the cache to the attention function.

    Attributes:
        layer: where past tokens are.
        key_states, value_states: the new tokens, [batch, num_key_value_heads, n, head_dim].
    """

    layer: OscarLayer
    key_states: torch.Tensor
    value_states: torch.Tensor


class WatchedStates(ABC):
    """Stands for keys and values that attend by themselves, for those who want to see queries and outputs."""

    @abstractmethod
    def attend(self, module: Any, query: torch.Tensor, mask: torch.Tensor | None, scaling: float) -> torch.Tensor:
        """query [batch, num_attention_heads, n, head_dim] -> [batch, n, num_attention_heads, head_dim]."""
