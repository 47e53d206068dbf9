"""The token sequences that calibration reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..prompts import tokenizer_of

if TYPE_CHECKING:
    from ..model import OscarModel


def sequences_of(model: OscarModel, data: Any, count: int, prefix: int, continuation: int) -> list[Tensor]:
    """Sequences of prefix + continuation tokens, int64, `count` of each text, spread evenly over it.

    Raises:
        ValueError: data of another kind, or too short; a number below 1; more tokens than the model reads.
    """
    for name, value in (("sequences", count), ("prefix", prefix), ("continuation", continuation)):
        if type(value) is not int or value < 1:
            raise ValueError(f"{name}={value!r} is not allowed; use a whole number of at least 1")
    length = prefix + continuation
    longest = getattr(model.generator.config.get_text_config(decoder=True), "max_position_embeddings", None)
    if longest is not None and length > longest:
        raise ValueError(f"prefix + continuation = {length} tokens, but the model reads {longest}")
    items = [data] if isinstance(data, str | Tensor) else data
    if not isinstance(items, Sequence) or not items:
        raise ValueError(f"data is {type(data).__name__}; give a text, token ids [tokens] or a list of these")
    return [part for number, item in enumerate(items) for part in _cut(model, item, f"data[{number}]", count, length)]


def _cut(model: OscarModel, item: Any, where: str, count: int, length: int) -> list[Tensor]:
    tokens, head = _tokens(model, item, where)
    body = length - len(head)
    if len(tokens) < count * body:
        raise ValueError(
            f"{where} has {len(tokens)} tokens; {count} sequences of {length} need {count * body}: "
            "give more data, or fewer or shorter sequences"
        )
    stride = len(tokens) // count
    return [torch.cat([head, tokens[at * stride : at * stride + body]]) for at in range(count)]


def _tokens(model: OscarModel, item: Any, where: str) -> tuple[Tensor, Tensor]:
    """The tokens, and what every sequence of them begins with."""
    none = torch.empty(0, dtype=torch.int64)
    if isinstance(item, Tensor):
        if item.ndim != 1 or item.dtype not in (torch.int64, torch.int32):
            raise ValueError(f"{where} is {item.dtype} {list(item.shape)}; token ids are whole numbers [tokens]")
        return item.long().cpu(), none
    if not isinstance(item, str):
        raise ValueError(f"{where} is {type(item).__name__}; give a text or token ids [tokens]")
    tokenizer = tokenizer_of(model.processor)
    # verbose=False: a text longer than the model's context is cut up
    tokens = torch.tensor(tokenizer(item, add_special_tokens=False, verbose=False)["input_ids"], dtype=torch.int64)
    begin = tokenizer.bos_token_id
    begins = begin is not None and tokenizer("a")["input_ids"][:1] == [begin]
    return tokens, torch.tensor([begin]) if begins else none
