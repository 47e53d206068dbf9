"""What does not go with a text that is read anew on the way (rope_switch.py), said before anything is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

_REFUSED = (
    "assistant_model",
    "prompt_lookup_num_tokens",
    "custom_generate",
    "synced_gpus",
    "prefill_chunk_size",
    "output_attentions",
    "output_hidden_states",
)
_DEFAULT_NEW_TOKENS = 20  # of transformers' generate()


def setting(model: Any, arguments: Mapping[str, Any], name: str) -> Any:
    """An argument as generate() will resolve it: from the keyword, the configuration given, or the model's."""
    if name in arguments:
        return arguments[name]
    configs = (arguments.get("generation_config"), model.generation_config)
    return next((value for config in configs if (value := getattr(config, name, None)) is not None), None)


def longest(model: Any, arguments: Mapping[str, Any], columns: int) -> int:
    """Columns that the model may come to read, where the prompt has so many."""
    drafted = setting(model, arguments, "prompt_lookup_num_tokens") or 0  # read past the last token as well
    new = setting(model, arguments, "max_new_tokens")
    if new is not None:
        return columns + new + drafted
    return max(columns + _DEFAULT_NEW_TOKENS, setting(model, arguments, "max_length") or 0) + drafted


def tokens_of(mask: Tensor | None, columns: int) -> int:
    """Tokens of the longest row among the first columns, padding left out."""
    return columns if mask is None else int(mask[:, :columns].sum(1).max())


def check_arguments(model: Any, arguments: Mapping[str, Any], length: int, columns: int) -> None:
    """Refuse other loops than those over token ids, and outputs that one of our own does not have.

    Raises:
        ValueError: names the argument.
    """
    for name in _REFUSED:
        if value := setting(model, arguments, name):
            raise refusal(f"{name}={value}" if isinstance(value, int) else name, length, columns)
    for name, value in arguments.items():
        if isinstance(value, Tensor) and value.ndim > 1 and name not in ("input_ids", "attention_mask"):
            raise refusal(name, length, columns)
    ids = arguments.get("input_ids")
    if ids is not None and ids.shape[1] < columns:
        raise refusal("input_ids without the tokens held", length, columns)
    if not arguments.get("stop_strings") and setting(model, arguments, "stop_strings"):
        raise refusal("stop_strings in generation_config instead of an argument", length, columns)


def check_chunks(model: Any, arguments: Mapping[str, Any], length: int, columns: int) -> None:
    """Refuse to read a long prompt in chunks, of which the first would be read as short texts.

    Raises:
        ValueError: names the argument.
    """
    chunk = setting(model, arguments, "prefill_chunk_size")
    if chunk and chunk < columns:
        raise ValueError(
            f"prefill_chunk_size={chunk} does not go with a prompt of more than {length} tokens: this model's "
            "rotary frequencies change there, so that the prompt must be read at once"
        )


def refusal(what: str, length: int, columns: int) -> ValueError:
    """The error for a text of so many columns that may grow past the length."""
    instead = "a new cache" if columns > length else f"at most {length - columns} new tokens"
    return ValueError(
        f"{what} does not go with a text that grows past {length} tokens, where this model's rotary frequencies change "
        f"and everything is read anew; allowed are greedy decoding and sampling of token ids, or {instead}"
    )
