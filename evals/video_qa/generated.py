"""The built-in set: generated clips of evals/tiny_omni, split held-out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .questions import Clip, Question, Source, until

SPLIT = "held-out"
# events of a clip, 54 tokens each: contexts of 385, 1,411 and 4,219 tokens. A packed block holds 128 tokens and costs
# whole when it is packed half empty: at these lengths the last one is nearly full
LENGTHS = (7, 26, 78)
LIMIT = 2100


@dataclass(frozen=True)
class GeneratedSet:
    """Which clips and questions make up the set.

    Attributes:
        lengths: events of a clip; each length gets an equal share of the questions.
        questions: in all.
        seed: of the generator.
        a_kind: questions of one kind asked about one clip at most, so that kinds which allow many do not drown others.
    """

    lengths: tuple[int, ...] = LENGTHS
    questions: int = LIMIT
    seed: int = 0
    a_kind: int = 2

    def __post_init__(self) -> None:
        if not self.lengths or min(self.lengths) < 1 or len(set(self.lengths)) < len(self.lengths):
            raise ValueError(f"lengths={list(self.lengths)} is not allowed; use different numbers of at least 1")
        if self.questions < len(self.lengths):
            raise ValueError(f"questions={self.questions} are too few for {len(self.lengths)} lengths")


def generated_source(chosen: GeneratedSet) -> Source:
    """The built-in set as a source."""
    settings = {"split": SPLIT, "lengths": list(chosen.lengths), "seed": chosen.seed, "questions_a_kind": chosen.a_kind}
    return Source("generated", lambda: _clips(chosen), chosen.questions, {**settings, "limit": chosen.questions})


def _clips(chosen: GeneratedSet) -> Iterator[Clip]:
    share, rest = divmod(chosen.questions, len(chosen.lengths))
    for number, length in enumerate(chosen.lengths):
        yield from until(_of_length(chosen, length), share + (number < rest))


def _of_length(chosen: GeneratedSet, length: int) -> Iterator[Clip]:
    from ..tiny_omni.clips import clips

    for clip in clips(SPLIT, length=length, seed=chosen.seed):
        questions = _spread(clip.questions, chosen.a_kind)
        if questions:
            yield Clip(clip.id, clip.content, questions, clip.use_audio_in_video, f"{length} events")


def _spread(questions: Sequence[Any], a_kind: int) -> tuple[Question, ...]:
    """The first questions of each kind."""
    taken: Counter[str] = Counter()
    found = []
    for question in questions:
        if taken[question.kind] < a_kind:
            taken[question.kind] += 1
            right = question.options.index(question.answer)
            found.append(Question(question.id, question.kind, question.text, tuple(question.options), right))
    return tuple(found)
