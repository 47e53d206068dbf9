"""What generate(graphed=True) refuses, before anything is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import GenerationConfig
from transformers.generation import GenerationMode

from .cache import OscarCache
from .graphed_decode import packed_layers

_OTHER_LOOPS = ("assistant_model", "custom_generate", "synced_gpus")
_ALLOWED = "allowed are greedy decoding and sampling from a compressed cache"


def check_arguments(model: Any, arguments: Mapping[str, Any]) -> None:
    """Refuse what transformers would not tell a decoding method of others about.

    Raises:
        ValueError: names the argument.
    """
    for name in _OTHER_LOOPS:
        if arguments.get(name):
            raise ValueError(f"graphed=True does not go with {name}; {_ALLOWED}")
    if arguments.get("past_key_values") is not None:
        checked_cache(model, arguments["past_key_values"])
    config = arguments.get("generation_config") or model.generation_config
    if not arguments.get("stop_strings") and config.stop_strings:
        raise ValueError("graphed=True takes stop_strings as an argument, not from generation_config")


def check_settings(config: GenerationConfig) -> None:
    """Refuse another way of choosing tokens, and outputs that a step does not have.

    Raises:
        ValueError: names the setting.
    """
    mode = config.get_generation_mode()
    if mode not in (GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE):
        raise ValueError(f"graphed=True does not go with {mode.value.replace('_', ' ')}; {_ALLOWED}")
    for name in ("output_attentions", "output_hidden_states"):
        if getattr(config, name):
            raise ValueError(f"graphed=True does not go with {name}=True: a step gives logits alone")
    if not config.use_cache:
        raise ValueError(f"graphed=True does not go with use_cache=False; {_ALLOWED}")


def checked_cache(model: Any, cache: Any) -> OscarCache:
    """The cache, if steps of fixed shapes can decode from it.

    Raises:
        ValueError: another kind of cache or of attention, or layers that are not compressed.
    """
    if not isinstance(cache, OscarCache):
        raise ValueError(f"graphed=True needs an OscarCache as past_key_values, not {type(cache).__name__}")
    try:
        packed_layers(model, cache)
    except ValueError as error:
        raise ValueError(f"graphed=True: {error}") from error
    return cache


def check_mask(cache: OscarCache, mask: Tensor | None) -> None:
    """A step reads all that its row holds, so a mask [batch, columns] may hide padding alone.

    Raises:
        ValueError: a mask that hides more.
    """
    held = cache.get_seq_length()
    if mask is None or not held:
        return
    tokens = [sum(stop - start for start, stop in row.spans) for row in cache.packed_layers[0].rows]
    if mask[:, :held].sum(1).tolist() != tokens:
        raise ValueError(f"graphed=True: attention_mask hides tokens that the cache holds; rows hold {tokens}")
