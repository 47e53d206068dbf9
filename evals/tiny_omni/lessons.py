"""Clips and their questions as sequences: the clip once, every question a branch that sees the clip and itself only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .clips import Clip
from .events import SECONDS
from .questions import Question
from .tokens import END, SPECIAL, START

VIDEO_TOKENS, AUDIO_TOKENS = 4, 50  # of an event
END_WEIGHT = 0.1  # of the end of an answer: learned at once, and not what training is for
_GRID_SECONDS = 0.5  # of a pair of frames


@dataclass(frozen=True)
class Batch:
    """Sequences of one length.

    Attributes:
        ids: int64 [batch, length], with placeholders for media; 0 where nothing is.
        positions: int64 [3, batch, length].
        mask: bool [batch, 1, length, length], True where a token is seen.
        rows, sources: int64 [predictions], from where the next token is predicted.
        targets: int64 [predictions]; weights: float32 [predictions].
        kinds: kind of question, "" of predictions of an answer's end.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    rows: torch.Tensor
    sources: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    kinds: list[str]


class Teacher:
    """Writes clips and questions as the chat template and the processor do."""

    def __init__(self, tokenizer: Any, model: Any) -> None:
        self.tokenizer, self.model = tokenizer, model
        self._prefixes: dict[tuple[int, bool], tuple[np.ndarray, np.ndarray]] = {}
        self._texts: dict[str, list[int]] = {}

    def batch(self, clips: Sequence[Clip], questions: Sequence[Sequence[Question]]) -> Batch:
        """Clips of one length, all heard or all silent, and which questions to ask about each."""
        ids, places = self.prefix(len(clips[0].events), clips[0].use_audio_in_video)
        rows = [self._row(ids, places, asked) for asked in questions]
        length = max(len(row.ids) for row in rows)
        branches = np.stack([_padded(row.branches, length, -1) for row in rows])
        order = np.arange(length)
        seen = (branches[:, None] == 0) | (branches[:, None] == branches[..., None])
        # padding sees the first token, so that its scores are those of something
        mask = seen & (order <= order[:, None]) & ((branches >= 0)[:, None] | (order == 0))
        predictions = [(i, *prediction) for i, row in enumerate(rows) for prediction in row.predictions]
        rows_at, sources, targets, weights, kinds = zip(*predictions, strict=True)
        return Batch(
            torch.from_numpy(np.stack([_padded(row.ids, length, 0) for row in rows])),
            torch.from_numpy(np.stack([_padded(row.positions, length, 0) for row in rows], axis=1)),
            torch.from_numpy(mask)[:, None],
            torch.tensor(rows_at),
            torch.tensor(sources),
            torch.tensor(targets),
            torch.tensor(weights),
            list(kinds),
        )

    def prefix(self, length: int, heard: bool) -> tuple[np.ndarray, np.ndarray]:
        """The user's turn up to the end of its clip: ids [tokens] and the model's positions [3, tokens]."""
        if (length, heard) not in self._prefixes:
            self._prefixes[length, heard] = self._make_prefix(length, heard)
        return self._prefixes[length, heard]

    def _make_prefix(self, length: int, heard: bool) -> tuple[np.ndarray, np.ndarray]:
        mark = {name: self.tokenizer.convert_tokens_to_ids(token) for name, token in SPECIAL.items()}
        video, audio = [mark["video_token"]] * VIDEO_TOKENS, [mark["audio_token"]] * AUDIO_TOKENS
        inside = (video + audio if heard else video) * length
        if heard:
            inside = [mark["audio_bos_token"], *inside, mark["audio_eos_token"]]
        text = self.encode(f"{START}user\n")
        ids = torch.tensor([[*text, mark["vision_bos_token"], *inside, mark["vision_eos_token"]]])
        positions, _ = self.model.get_rope_index(
            ids,
            video_grid_thw=torch.tensor([[VIDEO_TOKENS * length, 2, 2]]),
            attention_mask=torch.ones_like(ids),
            use_audio_in_video=heard,
            audio_seqlens=torch.tensor([int(100 * SECONDS) * length]),
            second_per_grids=torch.tensor([_GRID_SECONDS]),
        )
        return ids[0].numpy(), positions[:, 0].numpy()

    def _row(self, ids: np.ndarray, places: np.ndarray, questions: Sequence[Question]) -> _Row:
        """A clip's prefix and its questions behind it."""
        row = _Row(ids, places, np.zeros(len(ids), np.int64), [])
        for number, question in enumerate(questions, start=1):
            request = self.encode(f"{question.text}{END}\n{START}assistant\n")
            (answer,) = self.encode(question.answer)
            (end,) = self.encode(END)
            at = len(row.ids) + len(request)
            row.predictions += [(at - 1, answer, 1.0, question.kind), (at, end, END_WEIGHT, "")]
            added = np.array([*request, answer])
            row.ids = np.concatenate([row.ids, added])
            steps = places.max() + 1 + np.arange(len(added))
            row.positions = np.concatenate([row.positions, np.broadcast_to(steps, (3, len(added)))], axis=1)
            row.branches = np.concatenate([row.branches, np.full(len(added), number)])
        return row

    def encode(self, text: str) -> list[int]:
        """Token ids of a text."""
        if text not in self._texts:
            self._texts[text] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return self._texts[text]


@dataclass
class _Row:
    """One sequence; branch 0 is the clip."""

    ids: np.ndarray
    positions: np.ndarray
    branches: np.ndarray
    predictions: list[tuple[int, int, float, str]]


def _padded(values: np.ndarray, length: int, fill: int) -> np.ndarray:
    widths = [(0, 0)] * (values.ndim - 1) + [(0, length - values.shape[-1])]
    return np.pad(values, widths, constant_values=fill)


def choose(questions: Sequence[Question], rng: np.random.Generator, most: int) -> list[Question]:
    """Some of a clip's questions, of all kinds alike: a turn of each kind, then another."""
    shuffled = [questions[i] for i in rng.permutation(len(questions))]
    turns: dict[str, int] = {}
    ranked = []
    for question in shuffled:
        turns[question.kind] = turns.get(question.kind, 0) + 1
        ranked.append((turns[question.kind], question))
    ranked.sort(key=lambda pair: pair[0])
    return [question for _, question in ranked[:most]]
