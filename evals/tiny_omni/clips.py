"""Clips with their questions, an endless seeded stream."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from .container import encode
from .events import NEEDLE_LENGTH, Event, draw_events
from .pictures import FPS, draw
from .questions import Question, ask
from .sounds import RATE, play
from .words import KINDS, SPLITS, Split

LENGTH = 4  # events of a clip where nobody says
HEARD_KINDS = ("sound", "beeps")


@dataclass(frozen=True, eq=False)
class Clip:
    """A video of events of two seconds, with sound or without, and what can be asked about it.

    Attributes:
        id: the same in every run.
        frames: uint8 [n, 28, 28, 3].
        fps: frames a second.
        waveform: float32 [samples], as long as the frames; None of a silent film.
        sampling_rate: samples a second.
        questions: each with one right answer.
        events: what happens.
    """

    id: str
    frames: np.ndarray
    fps: float
    waveform: np.ndarray | None
    sampling_rate: int
    questions: tuple[Question, ...]
    events: tuple[Event, ...]

    @property
    def use_audio_in_video(self) -> bool:
        """To be handed to chat, new_session and prepare together with content()."""
        return self.waveform is not None

    def encoded(self) -> bytes:
        """The clip as a Matroska file, in which frames and samples are kept exactly."""
        return encode(self.frames, self.fps, self.waveform, self.sampling_rate)

    def content(self) -> list[dict[str, Any]]:
        """Message parts: one video, with its sound as sound track."""
        return [{"type": "video", "video": self.encoded(), "fps": self.fps}]


def clips(
    split: str,
    kind: str | None = None,
    length: int = LENGTH,
    start: int = 0,
    *,
    heard: bool = True,
    seed: int = 0,
) -> Iterator[Clip]:
    """An endless stream of clips. The same arguments give the same clips.

    Args:
        split: "train" or "held-out".
        kind: of question, of words.KINDS; clips then have at least one of it, and no others. None: all kinds.
        length: events of a clip; each lasts two seconds and takes 54 tokens of the model with sound, 4 without.
        start: number of the first clip.
        heard: whether clips have sound.
        seed: of the stream.

    Raises:
        ValueError: a split or kind that does not exist, or a length too small for the kind.
    """
    _check(split, kind, length, start, heard)
    return _stream(SPLITS[SPLITS.index(split)], kind, length, start, heard, seed)


def _stream(split: Split, kind: str | None, length: int, start: int, heard: bool, seed: int) -> Iterator[Clip]:
    for number in count(start):
        for attempt in count():
            clip = make_clip(split, length, number, kind=kind, heard=heard, seed=seed, attempt=attempt)
            if clip is not None:
                yield clip
                break


def make_clip(
    split: Split, length: int, number: int, *, kind: str | None, heard: bool, seed: int, attempt: int = 0
) -> Clip | None:
    """One clip of a stream; None where this attempt has no question of the kind."""
    kinds = -1 if kind is None else KINDS.index(kind)
    rng = np.random.default_rng([SPLITS.index(split), seed, length, kinds + 1, int(heard), number, attempt])
    # among clips of all kinds, a part has needles
    needle = kind == "needle" or (kind is None and length >= NEEDLE_LENGTH and rng.random() < 0.4)
    events = draw_events(rng, split, length, needle, heard)
    clip_id = f"{split}-{kind or 'all'}-{length}-{'heard' if heard else 'silent'}-{seed}-{number}"
    questions = ask(clip_id, events, rng, heard)
    if kind is not None:
        questions = tuple(question for question in questions if question.kind == kind)
    if not questions:
        return None
    background = rng.uniform(40, 110)
    frames = np.concatenate([draw(event, rng, background) for event in events])
    waveform = np.concatenate([play(event, rng) for event in events]) if heard else None
    return Clip(clip_id, frames, FPS, waveform, RATE, questions, tuple(events))


def _check(split: str, kind: str | None, length: int, start: int, heard: bool) -> None:
    if split not in SPLITS:
        raise ValueError(f"split={split!r} is not allowed; choose one of {', '.join(map(repr, SPLITS))}")
    if kind is not None and kind not in KINDS:
        raise ValueError(f"kind={kind!r} is not allowed; choose one of {', '.join(map(repr, KINDS))}")
    if kind in HEARD_KINDS and not heard:
        raise ValueError(f"kind={kind!r} is not allowed with heard=False; such questions are about sound")
    least = NEEDLE_LENGTH if kind == "needle" else 2 if kind == "order" else 1
    if length < least:
        raise ValueError(f"length={length} is not allowed here; use at least {least}")
    if start < 0:
        raise ValueError(f"start={start} is not allowed; use 0 or more")
