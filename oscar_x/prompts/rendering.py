"""A conversation as its chat template writes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..adapters.base import Adapter
from ..media import MediaPart, Message, TextPart


def render(processor: Any, adapter: Adapter, messages: Sequence[Message], *, answer: bool = True) -> str:
    """The conversation as the chat template writes it, one placeholder a medium.

    Args:
        answer: whether the model's turn is begun.

    Raises:
        ValueError: media, and the processor has no chat template to place them. Texts alone are then joined.
    """
    if getattr(processor, "chat_template", None) is None:
        parts = [part for message in messages for part in message.parts]
        if all(isinstance(part, TextPart) for part in parts):  # a base model
            return "\n\n".join(_text(message) for message in messages)
        raise ValueError(
            "the processor has no chat template, so media cannot be placed; set model.processor.chat_template, "
            "or pass the processor's own output to generate()"
        )
    conversation = [
        {**message.extra, "role": message.role, "content": _content(message, adapter)} for message in messages
    ]
    return processor.apply_chat_template(conversation, add_generation_prompt=answer, tokenize=False)


def _content(message: Message, adapter: Adapter) -> str | list[dict[str, str]]:
    if adapter.media is None:  # templates of text models know nothing of parts
        return _text(message)
    return [_described(part) for part in message.parts]


def _text(message: Message) -> str:
    return "".join(part.text for part in message.parts if isinstance(part, TextPart))


def _described(part: TextPart | MediaPart) -> dict[str, str]:
    return {"type": "text", "text": part.text} if isinstance(part, TextPart) else {"type": part.kind}
