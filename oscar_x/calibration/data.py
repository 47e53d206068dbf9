"""What calibration reads: texts cut into sequences, and conversations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..prompts import tokenizer_of
from .conversation import is_conversation, parse_conversation
from .passage import Passage, text_passage
from .questions import conversation_passage

if TYPE_CHECKING:
    from ..model import OscarModel


def passages_of(model: OscarModel, data: Any, count: int, prefix: int, continuation: int) -> list[Passage]:
    """Every conversation in the data, and of every text `count` sequences of prefix + continuation tokens, spread
    evenly over it.

    Raises:
        ValueError: data of another kind, or too short; a number below 1; more tokens than the model reads.
        MediaError: as OscarModel.chat.
    """
    for name, value in (("sequences", count), ("prefix", prefix), ("continuation", continuation)):
        if type(value) is not int or value < 1:
            raise ValueError(f"{name}={value!r} is not allowed; use a whole number of at least 1")
    items = [data] if isinstance(data, str | Tensor) or is_conversation(data) else data
    if not isinstance(items, Sequence) or not items:
        raise ValueError(f"data is {type(data).__name__}; give a text, token ids [tokens], a conversation or a list")
    length = prefix + continuation
    longest = getattr(model.generator.config.get_text_config(decoder=True), "max_position_embeddings", None)
    passages = []
    for number, item in enumerate(items):
        where = f"data[{number}]"
        if is_conversation(item):
            passages.append(conversation_passage(model, parse_conversation(item, where)))
            continue
        if longest is not None and length > longest:
            raise ValueError(f"prefix + continuation = {length} tokens, but the model reads {longest}")
        passages += [text_passage(tokens, prefix) for tokens in _cut(model, item, where, count, length)]
    return passages


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
        raise ValueError(f"{where} is {type(item).__name__}; give a text, token ids [tokens] or a conversation")
    tokenizer = tokenizer_of(model.processor)
    # verbose=False: a text longer than the model's context is cut up
    tokens = torch.tensor(tokenizer(item, add_special_tokens=False, verbose=False)["input_ids"], dtype=torch.int64)
    begin = tokenizer.bos_token_id
    begins = begin is not None and tokenizer("a")["input_ids"][:1] == [begin]
    return tokens, torch.tensor([begin]) if begins else none
