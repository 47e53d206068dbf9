"""Conversations with media as data: what is asked behind a context, and with what answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from ..errors import OscarError, first_line
from ..media import MediaPart, TextPart, parse_messages

KEYS = ("messages", "question", "answer", "turns", "use_audio_in_video")
FORM = "{'messages': [...], 'question': '...', 'answer': '...'}, or 'turns': [{'question': ..., 'answer': ...}, ...]"


class ConversationError(OscarError, ValueError):
    """A conversation that cannot be read as a context with questions; names it."""


@dataclass(frozen=True)
class Turn:
    """A question about the context. Without an answer it gets the model's own, from the full cache."""

    question: str
    answer: str | None = None


@dataclass(frozen=True, eq=False)
class Conversation:
    """A context and the turns behind it.

    Attributes:
        messages: media and earlier turns, as OscarModel.chat takes them (docs/media.md). The first question goes on
            where they end in a user turn, else it begins one.
        turns: asked one after the other, of text alone.
        use_audio_in_video: hear the sound track of every video (omni models).
        where: its name in errors.
    """

    messages: Sequence[Mapping[str, Any]]
    turns: tuple[Turn, ...]
    use_audio_in_video: bool = False
    where: str = "conversation"


def is_conversation(data: Any) -> bool:
    """Whether data is one conversation: a Conversation, a mapping with messages, or a list of messages."""
    if isinstance(data, Conversation) or (isinstance(data, Mapping) and "messages" in data):
        return True
    messages = isinstance(data, Sequence) and not isinstance(data, str) and bool(data)
    return messages and all(isinstance(item, Mapping) and "role" in item for item in data)


def parse_conversation(data: Any, where: str = "conversation") -> Conversation:
    """A conversation in one of its forms.

    Args:
        data: a mapping of KEYS; or a list of messages whose last question, and answer if there is one, are taken for
            the turn.
        where: its name in errors.

    Raises:
        ConversationError: another form, no question, or nothing before it.
    """
    if isinstance(data, Conversation):
        return data
    if not isinstance(data, Mapping):
        return _of_messages(data, where)
    unknown = sorted(set(data) - set(KEYS))
    if unknown or "messages" not in data or ("turns" in data) == ("question" in data):
        found = f"has the unknown key {unknown[0]!r}" if unknown else f"has the keys {', '.join(map(repr, data))}"
        raise ConversationError(f"{where}: {found}; use {FORM}")
    turns = data["turns"] if "turns" in data else [{key: data[key] for key in ("question", "answer") if key in data}]
    if not isinstance(turns, Sequence) or isinstance(turns, str) or not turns:
        raise ConversationError(f"{where}.turns: {turns!r} is not allowed; use [{{'question': ..., 'answer': ...}}]")
    heard = data.get("use_audio_in_video", False)
    if not isinstance(heard, bool):
        raise ConversationError(f"{where}.use_audio_in_video={heard!r} is not allowed; use true or false")
    messages = data["messages"]
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    return Conversation(
        messages, tuple(_turn(turn, f"{where}.turns[{i}]") for i, turn in enumerate(turns)), heard, where
    )


def _turn(turn: Any, where: str) -> Turn:
    if not isinstance(turn, Mapping) or not set(turn) <= {"question", "answer"}:
        raise ConversationError(f"{where}: {turn!r} is not allowed; use {{'question': ..., 'answer': ...}}")
    question, answer = turn.get("question"), turn.get("answer")
    if not isinstance(question, str) or not question:
        raise ConversationError(f"{where}: question={question!r} is not allowed; give a text")
    if answer is not None and (not isinstance(answer, str) or not answer):
        raise ConversationError(f"{where}: answer={answer!r} is not allowed; give a text, or leave it out")
    return Turn(question, answer)


def _of_messages(messages: Any, where: str) -> Conversation:
    """The last user turn's text behind its media is the question; an assistant turn behind it, the answer."""
    parsed = parse_messages(messages)
    answer = None
    if parsed[-1].role == "assistant":
        answer = "".join(part.text for part in parsed[-1].parts if isinstance(part, TextPart))
    at = len(parsed) - (1 if answer is None else 2)
    if at < 0 or parsed[at].role != "user":
        raise ConversationError(f"{where}: it does not end in a question of the user, or in one and its answer")
    parts = parsed[at].parts
    media = [number for number, part in enumerate(parts) if isinstance(part, MediaPart)]
    first = media[-1] + 1 if media else 0
    question = "".join(part.text for part in parts[first:] if isinstance(part, TextPart))
    raw, content = list(messages[:at]), messages[at]["content"]
    if first:
        raw.append({**messages[at], "content": list(content[:first])})
    if not raw:
        raise ConversationError(f"{where}: there is nothing before its question; give media or earlier turns")
    return Conversation(raw, (_turn({"question": question, "answer": answer or None}, where),), False, where)


def read_conversations(path: str | PathLike[str]) -> list[Conversation]:
    """Conversations from a JSONL file, one a line.

    Paths of media that are not absolute are taken from the file's folder.

    Raises:
        FileNotFoundError: no such file.
        ConversationError: no conversation, or a line that is none; names the line.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"no conversations at {file}")
    found = []
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ConversationError(f"{file} is not UTF-8 text (byte {error.start})") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{file.name}, line {number}"
        try:
            data = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ConversationError(f"{where} is not JSON: {first_line(error)}") from error
        found.append(parse_conversation(_beside(data, file.parent), where))
    if not found:
        raise ConversationError(f"{file} holds no conversation; write one a line: {FORM}")
    return found


def _beside(data: Any, folder: Path) -> Any:
    """The same with paths taken from a folder."""
    if isinstance(data, list):
        return [_beside(item, folder) for item in data]
    if not isinstance(data, Mapping):
        return data
    return {key: _from(value, folder) if _is_path(data, key) else _beside(value, folder) for key, value in data.items()}


def _is_path(part: Mapping[str, Any], key: str) -> bool:
    value = part[key]
    if not isinstance(value, str) or not value:
        return False
    return key == "path" or (key == part.get("type") and key != "text" and "://" not in value and value[:5] != "data:")


def _from(path: str, folder: Path) -> str:
    return str(folder / path)
