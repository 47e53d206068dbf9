"""Each layer's attention output from a compressed cache, for a prompt that holds media.

The decoder is run by itself on the embeddings and positions that the whole model gave it, in two pieces: the first is
packed whole before the second is read. See teacher.py for why every layer gets the inputs of an exact run.
"""

from __future__ import annotations

from typing import Any

import torch


@torch.no_grad()
def attention_errors(loaded: Any, prompt: Any, prefix: int, cache: Any, hooks: Any) -> list[float]:
    """||output - exact output|| / ||exact output|| of every layer, over the tokens behind ``prefix``.

    Args:
        loaded: an OscarModel.
        prompt: model inputs of one conversation.
        hooks: teacher.hooks.
    """
    from transformers import DynamicCache

    decoder, layers = loaded.adapter.find_decoder(loaded.model), loaded.adapter.find_layers(loaded.model)
    given: dict[str, Any] = {}

    def keep_inputs(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        given.update(embeds=kwargs["inputs_embeds"].clone(), positions=kwargs.get("position_ids"))

    handle = decoder.register_forward_pre_hook(keep_inputs, with_kwargs=True)
    try:
        loaded.generate(prompt, max_new_tokens=1, do_sample=False)
    finally:
        handle.remove()
    chunks = []
    for part in (slice(0, prefix), slice(prefix, None)):
        positions = None if given["positions"] is None else given["positions"][..., part]
        chunks.append({"inputs_embeds": given["embeds"][:, part], "position_ids": positions})
    inputs: list[dict[int, Any]] = [{}, {}]
    exact: dict[int, Any] = {}
    seen: dict[int, Any] = {}
    full = DynamicCache(config=loaded.model.config)
    for phase, chunk in enumerate(chunks):

        def keep(index: int, hidden: Any, phase: int = phase) -> Any:
            inputs[phase][index] = hidden.clone()
            return hidden

        with hooks(layers, keep, exact.__setitem__):
            decoder(**chunk, past_key_values=full)
    for phase, chunk in enumerate(chunks):
        with hooks(layers, lambda index, hidden, phase=phase: inputs[phase][index], seen.__setitem__):
            decoder(**chunk, past_key_values=cache)
        if phase == 0:
            cache.flush()
    return [float((seen[i] - exact[i]).norm() / exact[i].norm()) for i in range(len(layers))]
