"""A passage: what is compressed, and what then reads it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..data_hash import add_tensors
from ..modality import ModalityStream, stream_of_tokens


@dataclass(frozen=True, eq=False)
class Passage:
    """A context, and the tokens behind it that attend to it.

    Attributes:
        inputs: the context as the generating module's generate() takes it; ``input_ids`` int64 [1, prefix].
        stream: what every token of the context is, with its rotary positions where a token has several.
        continuation: the tokens behind it, int64 [n].
        positions: their rotary positions [axes, 1, n]; None where the model just counts tokens.
        answers: which of them belong to answers, bool [n]; None where nobody asks.
    """

    inputs: Mapping[str, Any]
    stream: ModalityStream
    continuation: Tensor
    positions: Tensor | None = None
    answers: Tensor | None = None

    @property
    def prefix(self) -> int:
        """Tokens of the context."""
        return self.stream.shape[1]

    @property
    def run_positions(self) -> Tensor | None:
        """Positions of the continuation but for its last token, which is only a label."""
        return None if self.positions is None else self.positions[..., :-1]


def text_passage(tokens: Tensor, prefix: int) -> Passage:
    """A text whose first tokens are the context.

    Args:
        tokens: int64 [prefix + n].
    """
    context = tokens[None, :prefix]
    return Passage({"input_ids": context}, stream_of_tokens(context, None, {}), tokens[prefix:])


def hash_passages(passages: Sequence[Passage]) -> str:
    """Of all that a model reads: token ids, pixels and sounds as its processor made them, and continuations."""
    digest = hashlib.sha256()
    for passage in passages:
        add_tensors(digest, {**passage.inputs, "continuation": passage.continuation})
    return digest.hexdigest()[:16]
