"""Completes what a user gives to generate(): the cache, what its new columns are, and where they stand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from .cache import OscarCache
from .modality import Modality, ModalityStream, stream_of_tokens
from .placement import place
from .prompts import Prompt, placeholders, tokenizer_of

if TYPE_CHECKING:
    from .model import OscarModel


def complete(model: OscarModel, inputs: Mapping[str, Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments for the generating module's generate().

    Raises:
        ValueError: an argument given twice.
    """
    both = sorted(set(inputs) & set(kwargs))
    if both:
        raise ValueError(f"{', '.join(both)} given both in inputs and as keyword")
    device = model.model.device
    arguments = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in {**inputs, **kwargs}.items()}
    if arguments.get("past_key_values") is None and arguments.get("use_cache", True):
        arguments["past_key_values"] = model.new_cache()
    _describe(model, arguments, inputs.stream if isinstance(inputs, Prompt) else None)
    pad = tokenizer_of(model.processor).pad_token_id
    if model.generator.generation_config.pad_token_id is None and "generation_config" not in arguments:
        arguments |= {} if pad is None else {"pad_token_id": arguments.get("pad_token_id", pad)}
    return arguments


def check_used(cache: Any, made: Any) -> None:
    """Whether what generate() returned was made from this cache.

    Raises:
        RuntimeError: the cache lacks tokens: transformers went on in a cache of its own, which is not compressed.
    """
    tokens = getattr(made, "sequences", made)
    if isinstance(cache, OscarCache) and isinstance(tokens, Tensor) and tokens.ndim == 2:
        held, read = cache.get_seq_length(), tokens.shape[1] - 1  # the last token is not read
        if held < read:
            raise RuntimeError(f"past_key_values holds {held} of {read} tokens: transformers left it for another cache")


def _describe(model: OscarModel, arguments: dict[str, Any], stream: ModalityStream | None) -> None:
    """Tell the cache what the prompt is, and place its tokens where the model has several rotary axes."""
    cache, ids = arguments.get("past_key_values"), arguments.get("input_ids")
    if ids is None:
        if isinstance(cache, OscarCache) and arguments.get("inputs_embeds") is not None:
            cache.expect_prompt(arguments["inputs_embeds"].shape[1])
        return
    mask, held = arguments.get("attention_mask"), 0 if cache is None else cache.get_seq_length()
    # as in transformers: token ids as long as the mask begin with what the cache holds
    new = ids.shape[1] - held if mask is None or mask.shape[1] == ids.shape[1] else ids.shape[1]
    if new < 1:
        return  # transformers says what is wrong
    if stream is None:
        stream = stream_of_tokens(
            ids, mask if mask is None else mask[:, -ids.shape[1] :], placeholders(model.processor)
        )
    stream = stream.last(new)
    past = cache.modalities if held and isinstance(cache, OscarCache) else None
    if "position_ids" not in arguments and (past is not None or not held):
        positions = place(model.adapter, model.model, arguments, stream, past)
        if positions is not None:
            arguments["position_ids"] = positions
            stream = stream.placed(positions)
    if model.adapter.media is not None and model.adapter.media.token_types is not None:
        _type_tokens(model.adapter.media.token_types, arguments, stream, past)
    if isinstance(cache, OscarCache):
        cache.expect_prompt(held + new, stream)


def _type_tokens(name: str, arguments: dict[str, Any], stream: ModalityStream, past: ModalityStream | None) -> None:
    """Say of all tokens, held ones included, what they are; nothing where no medium is new, since the causal mask
    needs no matrix then."""
    arguments.pop(name, None)
    if bool((stream.modalities > Modality.TEXT).any()):
        whole = stream if past is None else past.join(stream)
        # the numbers of transformers' token types are those of Modality
        arguments[name] = whole.modalities.clamp(min=0).long().to(arguments["input_ids"].device)
