"""Conversations in the ecosystem's chat form to roles and parts. Nothing is opened here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ..errors import MediaError
from .limits import MediaLimits
from .options import check_options
from .sources import find_source, short

Kind = Literal["image", "video", "audio"]

# what a part may call itself, and what it is
_TYPES: dict[str, str] = {
    "text": "text",
    "input_text": "text",
    "image": "image",
    "image_url": "image",
    "input_image": "image",
    "video": "video",
    "video_url": "video",
    "audio": "audio",
    "audio_url": "audio",
    "input_audio": "audio",
}


@dataclass(frozen=True)
class TextPart:
    """A piece of text. ``where`` names it in errors."""

    text: str
    where: str


@dataclass(frozen=True, eq=False)
class MediaPart:
    """An image, video or sound that is not loaded yet.

    Attributes:
        kind: what the part says it is.
        source: a pathlib.Path; a text that is a path, an http(s) address or a data URI; bytes; or the decoded thing
            itself (PIL image, array, tensor, list of frames, (samples, rate)).
        where: the part's name in errors, such as ``messages[1].content[0] (image)``.
        options: checked settings of this part alone; the keys are those of options.ALLOWED.
    """

    kind: Kind
    source: Any
    where: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Message:
    """One turn. ``extra`` holds what else the message carried (tool calls, a name), for the chat template."""

    role: str
    parts: tuple[TextPart | MediaPart, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)


def parse_messages(messages: str | Sequence[Mapping[str, Any]], limits: MediaLimits | None = None) -> list[Message]:
    """Roles and parts of a conversation.

    Args:
        messages: a text (one user turn), or a list of ``{"role": ..., "content": ...}`` where content is a text or a
            list of parts: ``{"type": "text", "text": ...}``; ``{"type": kind, kind: source}`` or with the key url, path
            or base64, for the kinds image, video and audio; ``image_url``, ``video_url``, ``audio_url`` and
            ``input_audio`` as in the OpenAI interface. Options stand beside the source: see options.ALLOWED.
        limits: only max_parts is looked at; None stands for MediaLimits().

    Raises:
        MediaError: no message, one without role and content, or a part that is not understood.
    """
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    if not isinstance(messages, Sequence) or isinstance(messages, (bytes, bytearray)):
        raise MediaError(f"messages: a text or a list of messages is needed, got {type(messages).__name__}")
    if not messages:
        raise MediaError("messages: empty; give a text or a list of {'role': ..., 'content': ...}")
    parsed = [_message(message, f"messages[{index}]") for index, message in enumerate(messages)]
    _check_count([part for message in parsed for part in message.parts], limits)
    return parsed


def parse_parts(
    parts: str | Mapping[str, Any] | Sequence[Any], limits: MediaLimits | None = None, where: str = "parts"
) -> tuple[TextPart | MediaPart, ...]:
    """Parts without a role: what stands under "content" of a message. ``where`` is their name in errors.

    Raises:
        MediaError: as parse_messages.
    """
    parsed = _content([parts] if isinstance(parts, Mapping) else parts, where)
    _check_count(parsed, limits)
    return parsed


def _message(message: Any, where: str) -> Message:
    if not isinstance(message, Mapping) or not {"role", "content"} <= set(message):
        raise MediaError(f"{where}: {short(message)} is not allowed; use {{'role': ..., 'content': ...}}")
    role = message["role"]
    if not isinstance(role, str) or not role:
        raise MediaError(f"{where}.role: {short(role)} is not allowed; use a text such as 'user'")
    extra = {key: value for key, value in message.items() if key not in ("role", "content")}
    return Message(role, _content(message["content"], f"{where}.content"), extra)


def _content(content: Any, where: str) -> tuple[TextPart | MediaPart, ...]:
    if isinstance(content, str):
        return (TextPart(content, f"{where} (text)"),)
    if not isinstance(content, Sequence) or isinstance(content, (bytes, bytearray)):
        raise MediaError(f"{where}: a text or a list of parts is needed, got {type(content).__name__}")
    return tuple(_part(part, f"{where}[{index}]") for index, part in enumerate(content))


def _part(part: Any, where: str) -> TextPart | MediaPart:
    if isinstance(part, str):
        return TextPart(part, f"{where} (text)")
    if not isinstance(part, Mapping):
        raise MediaError(f"{where}: a part is a text or {{'type': ...}}, got {type(part).__name__}")
    kind = _kind(part, where)
    where = f"{where} ({kind})"
    if kind == "text":
        unknown = [key for key in part if key not in ("type", "text")]
        if unknown or not isinstance(part.get("text"), str):
            raise MediaError(f"{where}: {short(dict(part))} is not allowed; use {{'type': 'text', 'text': '...'}}")
        return TextPart(part["text"], where)
    source, rest = find_source(part, kind, where)
    return MediaPart(kind, source, where, check_options(rest, kind, where))  # type: ignore[arg-type]


def _kind(part: Mapping[str, Any], where: str) -> str:
    named = part.get("type")
    if named is None:
        # qwen-vl-utils lets a part do without its type
        found = {_TYPES[key] for key in part if isinstance(key, str) and key in _TYPES}
        if len(found) == 1:
            return found.pop()
        raise MediaError(f"{where}: has no type; use one of {', '.join(map(repr, _TYPES))}")
    if not isinstance(named, str) or named not in _TYPES:
        raise MediaError(f"{where}: type {short(named)} is not known; use one of {', '.join(map(repr, _TYPES))}")
    return _TYPES[named]


def _check_count(parts: Sequence[TextPart | MediaPart], limits: MediaLimits | None) -> None:
    allowed = (limits or MediaLimits()).max_parts
    media = [part for part in parts if isinstance(part, MediaPart)]
    if len(media) > allowed:
        raise MediaError(f"{media[allowed].where}: one medium too many; max_parts={allowed} are allowed")
