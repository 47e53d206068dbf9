"""transformers' generate() with decoding steps of fixed shapes (graphed_decode.py) in place of its own loop.

transformers prepares prompt, settings, logits processors and stopping criteria as ever; its hook for decoding methods,
``custom_generate``, then hands them to decode() below.
"""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any

import transformers
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList
from transformers.generation import GenerateDecoderOnlyOutput

from .decoding_method import GeneratedText, with_method
from .graphed_checks import check_arguments, check_mask, check_settings, checked_cache
from .graphed_decode import ROOM, GraphedDecode


def graphed_arguments(model: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments with which ``model.generate()`` decodes in steps of fixed shapes.

    Args:
        model: its attention must be "oscar".
        arguments: for generate(), with an OscarCache as ``past_key_values`` when it is called.

    Raises:
        ValueError: an argument that asks for another loop, or a cache that fixed shapes cannot serve.
        RuntimeError: a version of transformers without the hook.
    """
    if "custom_generate" not in signature(model.generate).parameters or not hasattr(model, "_prefill"):
        raise RuntimeError(f"graphed=True: transformers {transformers.__version__} takes no decoding method of others")
    check_arguments(model, arguments)
    return with_method(arguments, decode)


def decode(
    model: Any,
    input_ids: Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    streamer: Any = None,
    **model_kwargs: Any,
) -> GenerateDecoderOnlyOutput | Tensor:
    """What transformers' own greedy search and sampling do, but for the steps behind the prompt.

    Returns:
        As generate(): token ids [batch, prompt + new tokens], or an output with them where the settings ask for it.

    Raises:
        ValueError: settings, a cache or a mask that fixed shapes cannot serve; the cache stays as it was.
    """
    check_settings(generation_config)
    cache = checked_cache(model, model_kwargs.get("past_key_values"))
    check_mask(cache, model_kwargs.get("attention_mask"))
    positions = model_kwargs.get("position_ids")
    room = max(1, min(ROOM, generation_config.max_length - input_ids.shape[1]))
    text = GeneratedText(input_ids, logits_processor, stopping_criteria, generation_config, streamer)
    text.add(model._prefill(input_ids, generation_config, model_kwargs).logits[:, -1])
    steps: GraphedDecode | None = None
    with model._optimize_model_for_decode():
        while not text.finished:
            steps = steps or GraphedDecode(model, cache, tokens=room)
            positions = None if positions is None else positions[..., -1:] + 1
            text.add(steps.step(text.input_ids[:, -1:], positions))
    return text.result(cache)
