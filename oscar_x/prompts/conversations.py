"""Conversations to model inputs: check, render, load, process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..adapters.base import Adapter
from ..media import MediaLimits, parse_messages
from .checks import check_parts
from .loading import load_media
from .processing import process
from .prompt import Prompt
from .rendering import render

Messages = str | Sequence[Mapping[str, Any]]


def encode(
    processor: Any,
    adapter: Adapter,
    conversations: Sequence[Any],
    limits: MediaLimits,
    *,
    use_audio_in_video: bool = False,
) -> Prompt:
    """Conversations that the model is to answer, padded on the left to one batch.

    Args:
        conversations: texts or lists of messages, as parse_messages takes them.
        use_audio_in_video: hear the sound track of every video.

    Raises:
        MediaError: a message or medium that is not understood, not allowed or broken; names the part.
        ValueError: the processor has no chat template.
    """
    parsed = [parse_messages(messages, limits) for messages in conversations]
    check_parts([message for messages in parsed for message in messages], adapter, processor)
    texts = [render(processor, adapter, messages) for messages in parsed]
    media = load_media(parsed, adapter, processor, limits, use_audio_in_video)
    return process(processor, adapter, texts, media)
