"""Conversations about several images, up to and including the last image."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ...model import OscarModel
from .build import IMAGE_TOKEN
from .drawing import draw
from .questions import Question, ask
from .scenes import Scene, scenes


@dataclass(frozen=True)
class Episode:
    """Inputs of a context, and what may be asked about its last image."""

    inputs: dict[str, torch.Tensor]
    questions: list[Question]


def episodes(model: OscarModel, images: int, seed: int) -> Iterator[Episode]:
    """Endless conversations on held-out scenes: every image but the last with a question and its answer."""
    rng = np.random.default_rng(seed)
    stream = scenes("held-out", seed)
    while True:
        yield _episode(model, list(itertools.islice(stream, images)), rng)


def _episode(model: OscarModel, shown: list[Scene], rng: np.random.Generator) -> Episode:
    messages: list[dict[str, Any]] = []
    for scene in shown:
        question = ask(scene, "held-out", rng)[0]
        messages.append({"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question.text}]})
        messages.append({"role": "assistant", "content": question.answer})
    text = model.processor.apply_chat_template(messages[:-1])
    text = text[: text.rindex(IMAGE_TOKEN) + len(IMAGE_TOKEN)]
    inputs = model.processor(text=text, images=[draw(scene) for scene in shown], return_tensors="pt")
    return Episode(dict(inputs), ask(shown[-1], "held-out", rng))
