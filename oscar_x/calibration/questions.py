"""Conversations to passages: the context with its media, and the turns behind it as tokens."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import DynamicCache

from ..errors import MediaError
from ..generation import complete
from ..media import MediaPart, Message, TextPart, parse_messages
from ..modality import stream_of_tokens
from ..placement import place
from ..prompts import Prompt, check_parts, load_media, placeholder_tokens, process, render, tokenizer_of
from .conversation import Conversation, ConversationError, Turn
from .passage import Passage

if TYPE_CHECKING:
    from ..model import OscarModel

# split a rendered conversation; no chat template and no user writes them
_MARK = "\u2063oscar-x reads from here\u2063"
_EDGE = "\u2063oscar-x answer\u2063"
# what a model may say where a conversation holds no answer
ANSWER_TOKENS = 32


def conversation_passage(model: OscarModel, conversation: Conversation) -> Passage:
    """The messages as context, and every question with its answer as continuation.

    Raises:
        MediaError: as OscarModel.chat, or a chat template that puts media behind the question.
        ConversationError: more tokens than the model reads.
    """
    conversation = answered(model, conversation)
    context, pieces = _pieces(model, conversation)
    ids, answers = _tokens(model, pieces)
    cache = DynamicCache(config=model.model.config)
    inputs = complete(model, context, {"past_key_values": cache})
    del inputs["past_key_values"]
    stream = context.stream
    if "position_ids" in inputs:
        stream = stream.placed(inputs["position_ids"])
    _check_room(model, conversation, stream.shape[1] + len(ids))
    positions = place(
        model.adapter, model.model, {"input_ids": ids[None]}, stream_of_tokens(ids[None], None, {}), stream
    )
    return Passage(inputs, stream, ids, positions, answers)


def answered(model: OscarModel, conversation: Conversation) -> Conversation:
    """The same with the model's own answers, greedy and from the full cache, where it has none."""
    turns: list[Turn] = []
    for turn in conversation.turns:
        if turn.answer is None:
            asked = replace(conversation, turns=(*turns, turn))
            prompt = _prompt(model, asked, _render(model, _messages(asked), answer=True))
            cache = DynamicCache(config=model.model.config)
            arguments = {"past_key_values": cache, "max_new_tokens": ANSWER_TOKENS, "do_sample": False}
            tokens = model.generator.generate(**complete(model, prompt, arguments))
            said = tokens[0, prompt["input_ids"].shape[1] :]
            turn = Turn(turn.question, tokenizer_of(model.processor).decode(said, skip_special_tokens=True))
        turns.append(turn)
    return replace(conversation, turns=tuple(turns))


def _messages(conversation: Conversation) -> list[Message]:
    """All turns, with marks where the context ends and around answers."""
    messages = parse_messages(list(conversation.messages))
    for number, turn in enumerate(conversation.turns):
        asked: tuple[TextPart | MediaPart, ...] = (TextPart(turn.question, f"{conversation.where} (question)"),)
        if not number:
            asked = (TextPart(_MARK, "mark"), *asked)
            if messages[-1].role == "user":
                asked = (*messages.pop().parts, *asked)
        messages.append(Message("user", asked))
        if turn.answer is not None:
            said = TextPart(f"{_EDGE}{turn.answer}{_EDGE}", f"{conversation.where} (answer)")
            messages.append(Message("assistant", (said,)))
    return messages


def _render(model: OscarModel, messages: list[Message], answer: bool) -> str:
    check_parts(messages, model.adapter, model.processor)
    return render(model.processor, model.adapter, messages, answer=answer)


def _prompt(model: OscarModel, conversation: Conversation, text: str) -> Prompt:
    """A rendered conversation through the processor, marks left out."""
    messages = parse_messages(list(conversation.messages), model.media_limits)
    media = load_media([messages], model.adapter, model.processor, model.media_limits, conversation.use_audio_in_video)
    return process(model.processor, model.adapter, [text.replace(_MARK, "").replace(_EDGE, "")], media)


def _pieces(model: OscarModel, conversation: Conversation) -> tuple[Prompt, list[str]]:
    """The context, and the text behind it: what is asked, an answer, what is asked, ..."""
    text = _render(model, _messages(conversation), answer=False)
    parts = text.split(_MARK)
    pieces = parts[-1].split(_EDGE)
    if len(parts) != 2 or len(pieces) != 2 * len(conversation.turns) + 1:
        raise ConversationError(f"{conversation.where}: the chat template does not write every turn once")
    media = [p for m in parse_messages(list(conversation.messages)) for p in m.parts if isinstance(p, MediaPart)]
    if sum(map(parts[0].count, placeholder_tokens(model.processor))) != len(media):
        raise MediaError(f"{conversation.where}: the chat template puts media behind the question")
    return _prompt(model, conversation, parts[0]), pieces[:-1]


def _tokens(model: OscarModel, pieces: list[str]) -> tuple[Tensor, Tensor]:
    """Token ids of all pieces, and which of them belong to answers."""
    tokenizer = tokenizer_of(model.processor)
    rows = [tokenizer(piece, add_special_tokens=False)["input_ids"] for piece in pieces]
    answers = [number % 2 == 1 for number, row in enumerate(rows) for _ in row]
    ids = torch.tensor([token for row in rows for token in row], dtype=torch.int64)
    return ids, torch.tensor(answers, dtype=torch.bool)


def _check_room(model: OscarModel, conversation: Conversation, tokens: int) -> None:
    longest = getattr(model.generator.config.get_text_config(decoder=True), "max_position_embeddings", None)
    if longest is not None and tokens > longest:
        raise ConversationError(f"{conversation.where} has {tokens} tokens, but the model reads {longest}")
