"""Clips without media and answers without a model: what is tested around them is the run itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import oscar_x
from oscar_x.errors import MediaError
from oscar_x.evals.video_qa.questions import Clip, Question, Source, source_of

OPTIONS = ("red", "green", "blue")
METHODS = ("full", "kivi", "oscar-balanced")
FOOTPRINT = {"packed_bytes": 250, "packed_elements": 1000, "exact_bytes": 10, "full_bytes": 2000}


class FakeAnswerer:
    """Answers by arithmetic. ``asked`` is told every answer before it is given."""

    def __init__(self, methods: tuple[str, ...] = METHODS, asked: Callable[[str], None] = lambda key: None) -> None:
        self.methods, self.asked = methods, asked

    def answer(self, clip: Clip, missing: Any) -> Iterator[list[dict[str, Any]]]:
        if clip.id.endswith("broken"):
            raise MediaError(f"clip {clip.id}[0] (video): cannot be opened")
        for method, questions in missing.items():
            context = {"record": "context", "clip": clip.id, "method": method, "group": clip.group, "tokens": 100}
            yield [context | {"footprint": {**FOOTPRINT, "packed_bytes": 250 if method != "full" else 0}}]
            for question in questions:
                self.asked(f"{clip.id} {question.id} {method}")
                choice = (len(clip.id) + int(question.id) * (1 + METHODS.index(method))) % len(OPTIONS)
                given = {"question": question.id, "kind": question.kind, "group": clip.group, "packed_reads": 7}
                answer = {
                    "method": method,
                    "choice": choice,
                    "answer": question.answer,
                    "scores": [0.0, -0.1 * METHODS.index(method), float(choice)],
                }
                yield [{"record": "answer", "clip": clip.id} | given | answer]


def _source(clips: int = 6, questions: int = 4, broken: tuple[int, ...] = ()) -> Source:
    made = []
    for number in range(clips):
        asked = tuple(
            Question(str(i), ("color", "shape")[i % 2], f"question {i}?", OPTIONS, (number + i) % len(OPTIONS))
            for i in range(questions)
        )
        name = f"clip{'x' * number}{'broken' if number in broken else ''}"
        made.append(Clip(name, lambda: [], asked, group=("short", "long")[number % 2]))
    return source_of("made up", made, {})


@pytest.fixture
def make_source() -> Callable[..., Source]:
    """``make_source(clips=6, questions=4, broken=(2,))``."""
    return _source


@pytest.fixture
def fake() -> type[FakeAnswerer]:
    return FakeAnswerer


@pytest.fixture
def settings() -> dict[str, Any]:
    """What a run of the made-up clips notes."""
    return {"model": "none", "source": "made up", "questions": 24, "methods": list(METHODS), "labels": {"kivi": "KIVI"}}


@pytest.fixture(scope="session")
def omni(tiny_media: Callable[..., Path]) -> Any:
    """A small random omni model. Shared: do not change it."""
    return oscar_x.load(tiny_media("qwen2_5_omni"), device="cpu")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A JSONL file of questions on three small pictures beside it."""
    from PIL import Image

    lines = []
    for number, color in enumerate(("red", "green", "blue")):
        Image.new("RGB", (112, 112), color).save(tmp_path / f"{color}.png")
        for question in ("What color is this?", "Which color is seen?", "Name the color."):
            asked = {"image": f"{color}.png", "question": question, "options": ["red", "green", "blue"]}
            lines.append(json.dumps({**asked, "answer": "ABC"[number], "kind": "color", "group": "small"}))
    path = tmp_path / "questions.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path
