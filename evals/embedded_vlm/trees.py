"""Training sequences that share a beginning, as one tree of tokens a row.

The tokens of an image are the long part of a short question. In a tree they are run once and several questions branch
off them; the attention mask lets a token see its own branch back to the root and nothing else, so every branch is
scored as if it stood alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

ROOT = -1


@dataclass
class Tree:
    """One row: tokens with the index of the token before each, and the weight of predicting it."""

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def add(self, tokens: Sequence[int], after: int, weight: float = 0.0) -> int:
        """Append a run of tokens that follows token ``after`` (ROOT: nothing); returns the index of its last."""
        for token in tokens:
            self.tokens.append(token)
            self.parents.append(after)
            self.weights.append(weight)
            after = len(self.tokens) - 1
        return after


@dataclass(frozen=True)
class Batch:
    """Trees padded to one length T.

    Attributes:
        ids, positions: int64 [trees, T].
        mask: bool [trees, 1, T, T], True where the query (third axis) sees the key.
        rows, sources, targets: int64 [n]: token ``targets`` is predicted from position ``sources`` of tree ``rows``.
        weights: float32 [n], of each prediction in the loss.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    rows: torch.Tensor
    sources: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor


def collate(trees: Sequence[Tree]) -> Batch:
    """Trees as tensors; padding tokens see only themselves."""
    length = max(len(tree.tokens) for tree in trees)
    ids = np.zeros((len(trees), length), dtype=np.int64)
    positions = np.zeros_like(ids)
    mask = np.zeros((len(trees), 1, length, length), dtype=bool)
    mask[:, 0] = np.eye(length, dtype=bool)
    predicted = []
    for row, tree in enumerate(trees):
        ids[row, : len(tree.tokens)] = tree.tokens
        for index, parent in enumerate(tree.parents):
            if parent != ROOT:
                positions[row, index] = positions[row, parent] + 1
                mask[row, 0, index] |= mask[row, 0, parent]
            if tree.weights[index]:
                predicted.append((row, parent, tree.tokens[index], tree.weights[index]))
    rows, sources, targets, weights = (torch.tensor(column) for column in zip(*predicted, strict=True))
    return Batch(
        torch.from_numpy(ids), torch.from_numpy(positions), torch.from_numpy(mask), rows, sources, targets, weights
    )
