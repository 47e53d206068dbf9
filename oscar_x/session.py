"""A conversation whose cache lives on: media are encoded and compressed once, every turn reads only what is new."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import TYPE_CHECKING, Any

import torch
from transformers import StoppingCriteria

from .cache import OscarCache
from .cache.rollback import checkpoint
from .cache.serialize import CacheFileError
from .errors import MediaError
from .media import MediaPart, Message, TextPart, parse_parts
from .modality import stream_of_tokens
from .prompts import Prompt, check_parts, load_media, placeholder_tokens, process, render, tokenizer_of
from .streaming import stream_text

if TYPE_CHECKING:
    from .model import OscarModel

Parts = str | Mapping[str, Any] | Sequence[Any]

# splits a rendered conversation where the cache ends; no chat template and no user writes it
_MARK = "\u2063oscar-x continues here\u2063"
# inputs that have an entry a token; others may by chance have the same shape
_TOKEN_TYPES = {"token_type_ids", "mm_token_type_ids"}
_OPENING = Message("user", (TextPart("-", "opening"),))


@dataclass
class SessionState:
    """What a session knows besides its cache.

    Attributes:
        tokens: every token id so far: those the cache holds, and at most one behind them that is still to be read.
        open_turn: whether a user turn was begun (its media are read) and its question is still to come.
        started: whether anything was rendered.
        use_audio_in_video: whether the sound of videos is heard.
    """

    tokens: list[int] = field(default_factory=list)
    open_turn: bool = False
    started: bool = False
    use_audio_in_video: bool = False


class _Recorder(StoppingCriteria):
    """Never stops anything; keeps the token ids that the generation has got to."""

    def __init__(self) -> None:
        self.tokens: list[int] | None = None

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        self.tokens = input_ids[0].tolist()
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


class Session:
    """A conversation over media that are read once. Made by OscarModel.new_session.

    Attributes:
        cache: what the model has read so far.
        state: the token ids and where the conversation stands.
    """

    def __init__(self, model: OscarModel, cache: OscarCache, state: SessionState) -> None:
        self.model = model
        self.cache = cache
        self.state = state

    @property
    def tokens(self) -> list[int]:
        """Every token id of the conversation so far."""
        return list(self.state.tokens)

    def ask(self, question: Parts, *, keep: bool = True, max_new_tokens: int = 512, **kwargs: Any) -> str:
        """The answer to a question about what the session has seen.

        Args:
            question: a text or message parts; media among them are read now.
            keep: whether question and answer become part of the conversation. If not, the next question is asked as
                if this one had not been.
            max_new_tokens: the answer's largest length in tokens.
            kwargs: as for OscarModel.generate.

        Raises:
            MediaError: as OscarModel.chat; the session stays as it was.
            ValueError: the conversation has outgrown the model; the session stays as it was.
        """
        return "".join(self.stream(question, keep=keep, max_new_tokens=max_new_tokens, **kwargs))

    def stream(self, question: Parts, *, keep: bool = True, max_new_tokens: int = 512, **kwargs: Any) -> Iterator[str]:
        """As ask(), in pieces as they are generated. Closing the iterator early keeps what was said until then."""
        session = self if keep else self.fork()
        prompt = session.prepare(question)
        session._check_room(prompt, max_new_tokens)
        return session._answer(prompt, {"max_new_tokens": max_new_tokens, **kwargs})

    def prepare(self, question: Parts) -> Prompt:
        """Model inputs of the turn that ask() would put behind what the session has read; nothing is read.

        Raises:
            MediaError: as ask().
        """
        return self._next_turn(parse_parts(question, self.model.media_limits, "question"))

    def fork(self) -> Session:
        """A session that goes on from here on its own; packed blocks are shared, not copied."""
        return Session(self.model, self.cache.fork(), replace(self.state, tokens=list(self.state.tokens)))

    def save(self, path: str | PathLike[str]) -> None:
        """Write the session to a file that OscarModel.open_session reads, in this process or another.

        Raises:
            OSError: the file cannot be written.
        """
        self.cache.save(path, notes={"session": json.dumps(vars(self.state))})

    def add(self, media: Parts) -> None:
        """Read more media (or text) now; the question about them comes later. So a video can be read as it arrives.

        Raises:
            MediaError: as OscarModel.chat; the session stays as it was.
            ValueError: the conversation has outgrown the model; the session stays as it was.
        """
        parts, mark = parse_parts(media, self.model.media_limits, "media"), TextPart(_MARK, "mark")
        if not self.state.started:
            return self.read(parts, None)
        if self.state.open_turn:
            prompt = self._prompt([Message("user", (mark, *parts, mark))], marks=2)
        else:
            turns = [_OPENING, Message("assistant", (mark,)), Message("user", (*parts, mark))]
            prompt = self._prompt(turns, marks=2)
        self._check_room(prompt, 0)
        self._take_in(_behind(prompt, self.state.tokens, self.cache.get_seq_length()))

    def read(self, parts: tuple[TextPart | MediaPart, ...], system: str | None) -> None:
        """Begin the first user turn: what the parts hold is read now, the question comes later."""
        opening = () if system is None else (Message("system", (TextPart(system, "system"),)),)
        turn = Message("user", (*parts, TextPart(_MARK, "mark")))
        self._take_in(self._prompt([*opening, turn], before=True))

    def _take_in(self, prompt: Prompt) -> None:
        """Read a prompt that ends in an open turn."""
        restore = checkpoint(self.cache)
        try:
            # a generation of one token reads the prompt as any other; the token itself is forgotten
            self.model.generate(prompt, past_key_values=self.cache, max_new_tokens=1, do_sample=False)
        except BaseException:
            restore()
            raise
        self.state.tokens = prompt["input_ids"][0].tolist()
        self.state.open_turn = self.state.started = True

    def _next_turn(self, parts: tuple[TextPart | MediaPart, ...]) -> Prompt:
        mark = TextPart(_MARK, "mark")
        if not self.state.started:
            return self._prompt([Message("user", parts)])
        if self.state.open_turn:
            return self._prompt([Message("user", (mark, *parts))])
        return self._prompt([_OPENING, Message("assistant", (mark,)), Message("user", parts)])

    def _prompt(self, messages: list[Message], before: bool = False, marks: int = 1) -> Prompt:
        """Model inputs of what the messages hold behind the first mark, up to the second if any, or before it."""
        model = self.model
        check_parts(messages, model.adapter, model.processor, continues=self.state.started)
        text = render(model.processor, model.adapter, messages, answer=not before and marks == 1)
        marked = text.count(_MARK)
        if marked:
            text = text.split(_MARK)[0 if before else 1]
        parts = [part for message in messages for part in message.parts if isinstance(part, MediaPart)]
        if marked > marks or sum(map(text.count, placeholder_tokens(model.processor))) != len(parts):
            first = parts[0].where if parts else "question"
            raise MediaError(
                f"{first}: the chat template does not put media where the question is; give them to new_session()"
            )
        media = load_media(
            [messages], model.adapter, model.processor, model.media_limits, self.state.use_audio_in_video
        )
        return process(model.processor, model.adapter, [text], media, continues=self.state.started)

    def _check_room(self, prompt: Prompt, max_new_tokens: int) -> None:
        config = self.model.generator.config.get_text_config(decoder=True)
        longest = getattr(config, "max_position_embeddings", None)
        tokens = len(self.state.tokens) + prompt["input_ids"].shape[1]
        if longest is not None and tokens + max_new_tokens > longest:
            raise ValueError(
                f"the conversation has {tokens} tokens and the answer may have {max_new_tokens}, "
                f"but the model reads {longest}; start a new session"
            )

    def _answer(self, prompt: Prompt, arguments: dict[str, Any]) -> Iterator[str]:
        held = self.cache.get_seq_length()
        restore = checkpoint(self.cache)
        recorder = _Recorder()
        stream = stream_text(
            self.model.generate,
            tokenizer_of(self.model.processor),
            {
                "inputs": _behind(prompt, self.state.tokens, held),
                **arguments,
                "stopping_criteria": [*arguments.get("stopping_criteria", ()), recorder],
                "past_key_values": self.cache,
            },
        )
        try:
            yield from stream
        finally:
            stream.close()  # type: ignore[attr-defined]
            if recorder.tokens is None:  # failed before its first token
                restore()
            else:
                self._remember(recorder.tokens)

    def _remember(self, tokens: list[int]) -> None:
        """Note what was read and said."""
        ends = self.model.generator.generation_config.eos_token_id
        # the next turn begins with the end of this one
        if tokens[-1] in ([ends] if isinstance(ends, int) else ends or ()):
            tokens = tokens[:-1]
        self.state.tokens = tokens
        self.state.started, self.state.open_turn = True, False


def _behind(prompt: Prompt, tokens: list[int], held: int) -> Prompt:
    """The prompt behind the conversation so far, of which the cache holds the first tokens.

    All token ids are given, as every version of transformers understands it; generate() leaves out what is held. Types
    of tokens go with those that are read: ``tokens[held:]``, generated but not read yet, and the prompt.
    """
    ids = prompt["input_ids"]
    known = ids.new_tensor(tokens, dtype=ids.dtype).view(1, -1)
    whole = torch.cat([known, ids], dim=1)
    pending = known[:, held:]
    tensors = {**prompt, "input_ids": whole, "attention_mask": torch.ones_like(whole, dtype=torch.int64)}
    for name in _TOKEN_TYPES & set(prompt):
        tensors[name] = torch.cat([torch.zeros_like(pending, dtype=prompt[name].dtype), prompt[name]], dim=1)
    return Prompt(tensors, stream_of_tokens(pending, None, {}).join(prompt.stream))


def open_session(model: OscarModel, path: str | PathLike[str]) -> Session:
    """See OscarModel.open_session."""
    cache = model.load_cache(path)
    try:
        state = SessionState(**json.loads(cache.notes["session"]))
    except (KeyError, TypeError, ValueError) as error:
        raise CacheFileError(f"{path} holds a cache but no session") from error
    tokens = cache.get_seq_length()
    if not isinstance(state.tokens, list) or not tokens <= len(state.tokens) <= tokens + 1:
        raise CacheFileError(f"{path}: its token ids do not fit its cache of {tokens} tokens")
    return Session(model, cache, state)
