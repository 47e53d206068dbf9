"""Each layer's attention output from a compressed cache, on inputs taken from a run with a full cache.

Forcing the reference inputs into every layer keeps one layer's error from reaching the next, so that what is
measured is the error of a layer's own cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache


@contextmanager
def hooks(layers: Any, before: Callable[[int, Tensor], Tensor], after: Callable[[int, Tensor], None]) -> Iterator[None]:
    """``before`` sees and replaces each layer's input, ``after`` sees its attention output."""
    handles = []
    for index, layer in enumerate(layers):

        def pre(module: Any, args: tuple[Any, ...], index: int = index) -> tuple[Any, ...]:
            return (before(index, args[0]), *args[1:])

        def post(module: Any, args: Any, output: Any, index: int = index) -> None:
            after(index, output[0])

        handles += [layer.register_forward_pre_hook(pre), layer.self_attn.register_forward_hook(post)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def attention_errors(loaded: Any, ids: Tensor, prefix: int, cache: Any) -> list[float]:
    """||output - exact output|| / ||exact output|| of every layer, over the tokens after ``prefix``.

    Args:
        loaded: an OscarModel.
        ids: token ids [batch, length]; the first ``prefix`` are packed whole before the rest is read.
        cache: the OscarCache to measure.
    """
    layers = loaded.adapter.find_layers(loaded.model)
    inputs: list[dict[int, Tensor]] = [{}, {}]
    exact: dict[int, Tensor] = {}
    seen: dict[int, Tensor] = {}
    full = DynamicCache(config=loaded.model.config)
    for phase, chunk in enumerate((ids[:, :prefix], ids[:, prefix:])):

        def keep(index: int, hidden: Tensor, phase: int = phase) -> Tensor:
            inputs[phase][index] = hidden.clone()
            return hidden

        with hooks(layers, keep, exact.__setitem__):
            loaded.model(input_ids=chunk, past_key_values=full)
    for phase, chunk in enumerate((ids[:, :prefix], ids[:, prefix:])):
        with hooks(layers, lambda index, hidden, phase=phase: inputs[phase][index], seen.__setitem__):
            loaded.model(input_ids=chunk, past_key_values=cache)
        if phase == 0:
            cache.flush()
    return [float((seen[i] - exact[i]).norm() / exact[i].norm()) for i in range(len(layers))]
