"""How the model is trained, as data: recipe.json."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Sort:
    """A sort of clips: events, sound, and how often among the steps of a stage."""

    length: int
    heard: bool
    share: float


@dataclass(frozen=True)
class Exam:
    """Held-out clips that are asked about while training."""

    length: int
    heard: bool
    clips: int


@dataclass(frozen=True)
class Stage:
    """Some steps of training.

    Attributes:
        steps: how many.
        lr: learning rate at the beginning and at the end; in between it goes straight, after a warm-up of ``warmup``
            steps from the first to the second it stays.
        tokens: of a step, about.
        questions: asked about a clip, at most.
        emphasis: kind of question -> weight of its answers in the loss, where it is not 1.
        mix: sorts of clips; every step has clips of one sort.
        exams: what is asked at every exam.
    """

    steps: int
    lr: tuple[float, float]
    warmup: int | None
    tokens: int
    questions: int
    emphasis: dict[str, float]
    mix: tuple[Sort, ...]
    exams: tuple[Exam, ...]

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0 within the stage."""
        first, last = self.lr
        return first + (last - first) * min(1.0, (step + 1) / (self.warmup or self.steps))


@dataclass(frozen=True)
class Recipe:
    """Everything that decides how training goes. Attributes as in recipe.json."""

    seed: int
    weight_decay: float
    betas: tuple[float, float]
    clip_gradient: float
    log_every: int
    exam_every: int
    stages: tuple[Stage, ...]

    @property
    def steps(self) -> int:
        """Of all stages."""
        return sum(stage.steps for stage in self.stages)

    def walk(self, start: int) -> Iterator[tuple[int, Stage, float]]:
        """Step, stage and learning rate from a step on."""
        first = 0
        for stage in self.stages:
            for step in range(max(start, first), first + stage.steps):
                yield step, stage, stage.rate(step - first)
            first += stage.steps


def read_recipe(path: Path | None = None) -> Recipe:
    """The recipe of a file; by default the one that the shipped model was trained by."""
    file = path or resources.files("oscar_x.evals.tiny_omni").joinpath("recipe.json")
    values = json.loads(file.read_text())
    stages = tuple(_stage(stage) for stage in values.pop("stages"))
    return Recipe(**{**values, "betas": tuple(values["betas"]), "stages": stages})


def _stage(values: dict[str, Any]) -> Stage:
    return Stage(
        values["steps"],
        tuple(values["lr"]),
        values.get("warmup"),
        values["tokens"],
        values["questions"],
        values.get("emphasis", {}),
        tuple(Sort(**sort) for sort in values["mix"]),
        tuple(Exam(**exam) for exam in values["exams"]),
    )
