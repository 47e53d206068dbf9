"""Accuracy by kind of question on the fast path: full precision, no cache."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch

from .clips import Clip
from .forward import answer_logits
from .lessons import Teacher


@torch.inference_mode()
def examine(model: Any, processor: Any, teacher: Teacher, clips: Iterable[Clip]) -> dict[str, list[bool]]:
    """Whether the most likely of all tokens is the answer, for every question of the clips, by kind."""
    right: dict[str, list[bool]] = defaultdict(list)
    for clip in clips:
        batch = teacher.batch([clip], [clip.questions])
        guesses = answer_logits(model, processor.feature_extractor, [clip], batch).argmax(-1)
        for kind, hit in zip(batch.kinds, (guesses == batch.targets).tolist(), strict=True):
            if kind:
                right[kind].append(hit)
    return dict(right)
