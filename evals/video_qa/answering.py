"""A model's answers to a clip's questions, from every method's packed context, as records for the log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Protocol

from ..method import Method
from .answer_log import Record
from .contexts import Context, pack, read_clip
from .questions import Clip, Question
from .scoring import AnswerForm, Asked, ask, score

if TYPE_CHECKING:
    from ...model import OscarModel

Missing = Mapping[str, Sequence[Question]]


class Answerer(Protocol):
    """What a run asks. ``methods`` are the names under which it answers."""

    @property
    def methods(self) -> Sequence[str]: ...

    def answer(self, clip: Clip, missing: Missing) -> Iterator[list[Record]]:
        """The answers that each method still owes to a clip's questions, some records at a time."""


class CacheAnswerer:
    """Answers with one model from the caches of several methods."""

    def __init__(self, model: OscarModel, methods: Sequence[Method], form: AnswerForm) -> None:
        self._model, self._methods, self._form = model, list(methods), form
        self.methods = [method.name for method in methods]

    def answer(self, clip: Clip, missing: Missing) -> Iterator[list[Record]]:
        """As Answerer.answer: for each method at once a record of its packed context and its answers.

        Raises:
            MediaError: a medium that cannot be read.
            ValueError: a context and question that are longer than the model reads.
            RuntimeError: a method whose packed tokens were never read: its answers would be those of exact states.
        """
        context = read_clip(self._model, clip)
        wanted = {question.id: question for questions in missing.values() for question in questions}
        asked = {name: ask(self._model, context, question, self._form) for name, question in wanted.items()}
        self._check_positions(clip, context, asked)
        for method in self._methods:
            if missing.get(method.name):
                yield list(self._answer(clip, context, method, [asked[q.id] for q in missing[method.name]]))

    def _answer(self, clip: Clip, context: Context, method: Method, questions: Sequence[Asked]) -> Iterator[Record]:
        packed = pack(self._model, context, method)
        counts = {kind.name.lower(): count for kind, count in context.stream.counts()[0].items()}
        yield {
            **{"record": "context", "clip": clip.id, "method": method.name, "group": clip.group},
            **{"tokens": context.tokens, "modalities": counts, "footprint": asdict(packed.footprint)},
        }
        for asked in questions:
            scores = score(self._model, packed, asked)
            if method.packs and not scores.packed_reads:
                raise RuntimeError(f"method {method.name} read no packed tokens for question {asked.question.id}")
            question = asked.question
            yield {
                **{"record": "answer", "clip": clip.id, "question": question.id, "method": method.name},
                **{"kind": question.kind, "group": clip.group, "choice": scores.choice, "answer": question.answer},
                **{"scores": [round(value, 5) for value in scores.options], "packed_reads": scores.packed_reads},
            }

    def _check_positions(self, clip: Clip, context: Context, asked: Mapping[str, Asked]) -> None:
        config = self._model.model.config.get_text_config(decoder=True)
        allowed = getattr(config, "max_position_embeddings", None)
        longest = max(one.inputs["input_ids"].shape[1] + max(map(len, one.options)) for one in asked.values())
        if allowed is not None and context.tokens + longest > allowed:
            raise ValueError(
                f"clip {clip.id} has {context.tokens} tokens and its longest question {longest}, but the model reads "
                f"{allowed}; keep fewer or smaller frames"
            )
