"""Texts that grow past the length at which a model's rotary frequencies change (LongRoPE, as in Phi-3.5).

A key in the cache was rotated by the frequencies of its time. Once a text is longer than the model was first trained
for, every token needs the others, so everything is read anew. transformers does that for caches of its own, but goes on
in a new one; here the cache that was given is emptied and filled again, by a decoding method of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList, PreTrainedConfig, StoppingCriteriaList
from transformers.generation import GenerateDecoderOnlyOutput, GenerationMode

from .cache import OscarCache
from .decoding_method import GeneratedText, with_method
from .rope_checks import check_arguments, check_chunks, longest, refusal, tokens_of


def switch_length(config: PreTrainedConfig) -> int | None:
    """The most tokens that are read as those of a short text; None where length makes no difference.

    A Phi-3 without LongRoPE has such a length too: its frequencies stay as they are, but transformers changes caches.
    """
    decoder = config.get_text_config(decoder=True)
    return (_long_rope(decoder) or {}).get("original_max_position_embeddings") or getattr(
        decoder, "original_max_position_embeddings", None
    )


def _long_rope(decoder: PreTrainedConfig) -> dict[str, Any] | None:
    """The rotary parameters that change with the length, those of a layer type included."""
    rope = getattr(decoder, "rope_parameters", None) or {}
    kinds = [rope, *(kind for kind in rope.values() if isinstance(kind, dict))]
    return next((kind for kind in kinds if kind.get("rope_type") == "longrope"), None)


def switching_arguments(model: Any, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """Arguments with which ``model.generate()`` keeps to its OscarCache at every length.

    Args:
        model: the transformers model that generates text.
        arguments: for generate(), with the cache as ``past_key_values``.

    Returns:
        The same arguments where the text stays on one side of the length, with a decoding method where it may not.

    Raises:
        ValueError: an argument that does not go with reading everything anew; nothing has been read.
    """
    length, cache = switch_length(model.config), arguments.get("past_key_values")
    if length is None or not isinstance(cache, OscarCache):
        return arguments
    given = arguments.get("inputs_embeds") if arguments.get("input_ids") is None else arguments["input_ids"]
    mask, held = arguments.get("attention_mask"), cache.get_seq_length()
    columns = max(1 if given is None else given.shape[1], 0 if mask is None else mask.shape[-1])
    if tokens_of(mask, held or columns) > length:
        if not held:
            check_chunks(model, arguments, length, columns)
        return arguments
    if longest(model, arguments, columns) <= length:
        return arguments
    check_arguments(model, arguments, length, columns)
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
    """What transformers' own greedy search and sampling do, but that the cache is refilled where frequencies change.

    Raises:
        ValueError: another way of choosing tokens; the cache stays as it was.
    """
    length, cache = switch_length(model.config), model_kwargs["past_key_values"]
    assert length is not None
    mode = generation_config.get_generation_mode()
    if mode not in (GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE):
        raise refusal(mode.value.replace("_", " "), length, input_ids.shape[1])
    short = _long_rope(model.config.get_text_config(decoder=True)) is not None  # keys held are those of a short text
    keep = {name: 1 for name in ("logits_to_keep",) if name in model_kwargs}
    mask = model_kwargs.get("attention_mask")
    mask = torch.ones_like(input_ids) if mask is None else mask
    text = GeneratedText(input_ids, logits_processor, stopping_criteria, generation_config, streamer)
    while not text.finished:
        held, columns = cache.get_seq_length(), text.input_ids.shape[1]
        mask = torch.cat([mask, mask.new_ones(len(mask), columns - mask.shape[1])], dim=1)
        if short and tokens_of(mask, columns) > length:
            _empty(cache, *text.input_ids.shape)
            short, held = False, 0
        inputs = {"input_ids": text.input_ids[:, held:], "attention_mask": mask}
        inputs["position_ids"] = (mask.long().cumsum(1) - 1).clamp(min=0)[:, held:]
        text.add(model(**inputs, past_key_values=cache, use_cache=True, **keep).logits[:, -1])
    return text.result(cache)


def _empty(cache: OscarCache, rows: int, columns: int) -> None:
    """Make room for all that was read and written so far, as one prompt."""
    stream = cache.shared.stream
    cache.reset()
    cache.expect_prompt(columns, None if stream is None else stream.fit(rows, columns, cache.shared.generated))
