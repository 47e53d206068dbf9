"""A run: every question answered once by every method, whatever interrupts it and however many processes share it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import MediaError
from .answer_log import AnswerLog, Shard, key_of
from .answering import Answerer, Missing
from .questions import Clip, Source

# answers done and answers in all, of this shard, and what comes next
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Outcome:
    """Answers that this call wrote, those that were there before, and clips that could not be read."""

    written: int
    kept: int
    failures: int


def run(
    source: Source,
    answerer: Answerer,
    folder: str | Path,
    settings: dict[str, Any],
    *,
    shard: Shard | None = None,
    skip_broken: bool = False,
    progress: Progress | None = None,
) -> Outcome:
    """Answer what a run's folder does not hold yet.

    Args:
        settings: of the run, JSON types; a folder that was begun with others is refused.
        shard: the part of the clips that is this process's.
        skip_broken: note clips whose media cannot be read and go on; they are tried again by the next call.

    Raises:
        RunError: as AnswerLog.
        MediaError: a medium that cannot be read; all answers before it are kept.
    """
    note = progress or (lambda done, total, what: None)
    with AnswerLog(folder, settings, shard) as log:
        total = _total(source, log.shard) * len(answerer.methods)
        kept = done = 0
        failures = 0
        for clip in _clips(source, log.shard):
            missing = _missing(clip, answerer, log)
            owed = sum(map(len, missing.values()))
            here = len(clip.questions) * len(answerer.methods)
            kept, done = kept + here - owed, done + here - owed
            note(done, total, f"clip {clip.id}")
            try:
                for records in answerer.answer(clip, missing) if owed else ():
                    log.append(*(record for record in records if not _known_context(record, log)))
                    done += sum(record["record"] == "answer" for record in records)
                    note(done, total, f"clip {clip.id}")
            except MediaError as error:
                if not skip_broken:
                    raise
                failures += 1
                if ("failure", clip.id) not in log.done:
                    log.append({"record": "failure", "clip": clip.id, "reason": str(error)})
        note(done, total, "done")
        return Outcome(done - kept, kept, failures)


def _clips(source: Source, shard: Shard) -> Iterator[Clip]:
    return (clip for number, clip in enumerate(source.clips()) if number % shard.count == shard.index)


def _total(source: Source, shard: Shard) -> int:
    """Questions of a shard; only about so many where the clips are not counted out to know it."""
    return source.questions // shard.count if shard.count > 1 else source.questions


def _missing(clip: Clip, answerer: Answerer, log: AnswerLog) -> Missing:
    found = {
        method: [question for question in clip.questions if ("answer", clip.id, question.id, method) not in log.done]
        for method in answerer.methods
    }
    return {method: questions for method, questions in found.items() if questions}


def _known_context(record: dict[str, Any], log: AnswerLog) -> bool:
    """A context that was packed again for answers that an interruption left out."""
    return record["record"] == "context" and key_of(record) in log.done
