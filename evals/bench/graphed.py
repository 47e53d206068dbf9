"""Decoding steps without the host's share: captured as CUDA graphs on a GPU, the same steps as they are on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import Cache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from ...cache import OscarCache
from ...graphed_decode import GraphedDecode


class FixedLayer(DynamicLayer):
    """A full layer of a fixed length whose last token every step writes anew: a dense step at its best, since nothing
    is copied or allocated."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values = keys, values

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> tuple:
        """[batch, heads, 1, head_dim] in; all keys and values out."""
        self.keys[:, :, -1:], self.values[:, :, -1:] = key_states, value_states
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Tokens before the step."""
        return self.keys.shape[2] - 1


def fixed_cache(sizes: tuple[int, int, int, int], layers: int, dtype: torch.dtype, device: torch.device) -> Cache:
    """Random states of sizes (batch, heads, context, head_dim) and room for one token more."""
    batch, heads, context, head_dim = sizes
    shape = 2, batch, heads, context + 1, head_dim
    return Cache(layers=[FixedLayer(*torch.randn(shape, dtype=dtype, device=device)) for _ in range(layers)])


def graphed_step(model: PreTrainedModel, cache: Cache, batch: int, tokens: int) -> Callable[[], torch.Tensor]:
    """One decoding step a call, which returns logits.

    Args:
        cache: an OscarCache with a prompt, which grows, or a fixed_cache(), which stays as long as it is.
        tokens: calls to make room for.
    """
    ids = torch.zeros(batch, 1, dtype=torch.int64, device=model.device)
    if isinstance(cache, OscarCache):
        decoding = GraphedDecode(model, cache, tokens=tokens)
        return lambda: decoding.step(ids)

    def step() -> torch.Tensor:
        return model(ids, past_key_values=cache).logits[:, -1]

    return step if model.device.type != "cuda" else _captured(step)


def _captured(step: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits = step()

    def replay() -> torch.Tensor:
        graph.replay()
        return logits

    return replay
