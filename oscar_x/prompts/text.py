"""Texts to tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def tokenizer_of(processor: Any) -> Any:
    """The tokenizer inside a processor, or the tokenizer itself."""
    return getattr(processor, "tokenizer", processor)


def encode_text(processor: Any, texts: str | Sequence[str], *, add_special_tokens: bool = True) -> dict[str, Any]:
    """Token tensors [batch, length] with an attention mask, padded on the left so that rows end together.

    Args:
        add_special_tokens: as the tokenizer does; not for what a chat template wrote.

    Raises:
        TypeError: anything but a text or a sequence of texts.
        ValueError: no text, or one that has no tokens.
    """
    batch = [texts] if isinstance(texts, str) else texts
    if not isinstance(batch, Sequence) or not all(isinstance(text, str) for text in batch):
        raise TypeError(f"inputs must be a text, a list of texts, token ids or tensors, got {type(texts).__name__}")
    if not batch:
        raise ValueError("inputs=[] is empty; give at least one text")
    tokenizer = tokenizer_of(processor)
    if tokenizer.pad_token is None:
        # the mask hides padding, so any token serves
        tokenizer.pad_token = tokenizer.eos_token
    encoded = tokenizer(
        list(batch),
        return_tensors="pt",
        padding=len(batch) > 1,
        padding_side="left",
        add_special_tokens=add_special_tokens,
    )
    # generate() of most models takes no token types
    encoded.pop("token_type_ids", None)
    if encoded["input_ids"].shape[1] == 0 or bool((encoded["attention_mask"].sum(-1) == 0).any()):
        raise ValueError(f"inputs={texts!r} has a text without tokens; give at least one word")
    return dict(encoded)
