"""Tokens of one layer on their way into groups."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tokens:
    """Consecutive tokens of one sequence in one layer.

    Attributes:
        keys: fp32 [num_key_value_heads, n, head_dim], post-RoPE, without a bias that the cache takes out.
        values: fp32 of the same shape.
        biased: keys with that bias; None where there is none.
        modalities: int8 [n] on the CPU, no padding.
    """

    keys: Tensor
    values: Tensor
    biased: Tensor | None
    modalities: Tensor

    def __len__(self) -> int:
        return len(self.modalities)

    def slice(self, start: int, stop: int) -> Tokens:
        """Tokens [start, stop), as views."""
        return self._map(lambda states: states[:, start:stop], lambda kinds: kinds[start:stop])

    def join(self, later: Tokens) -> Tokens:
        """These and what follows, copied."""
        biased = None if self.biased is None or later.biased is None else torch.cat([self.biased, later.biased], 1)
        keys, values = torch.cat([self.keys, later.keys], 1), torch.cat([self.values, later.values], 1)
        return Tokens(keys, values, biased, torch.cat([self.modalities, later.modalities]))

    def clone(self) -> Tokens:
        """A copy that does not keep the prompt's states in memory."""
        return self._map(Tensor.clone, Tensor.clone)

    def _map(self, states: Callable[[Tensor], Tensor], kinds: Callable[[Tensor], Tensor]) -> Tokens:
        biased = None if self.biased is None else states(self.biased)
        return Tokens(states(self.keys), states(self.values), biased, kinds(self.modalities))


class Grouper:
    """Makes whole groups of tokens that come in pieces of any length.

    Args:
        skip: first tokens that belong to no group.
        size: tokens of a group.
        most: groups to make; all when missing.
    """

    def __init__(self, skip: int, size: int, most: int | None = None) -> None:
        self.skip, self.size, self.left = skip, size, most
        self.pending: Tokens | None = None

    def take(self, tokens: Tokens) -> Tokens | None:
        """The groups that these tokens complete, one behind the other."""
        skipped = min(self.skip, len(tokens))
        self.skip -= skipped
        tokens = tokens.slice(skipped, len(tokens))
        if self.left == 0 or not len(tokens):
            return None
        joined = tokens if self.pending is None else self.pending.join(tokens)
        groups = len(joined) // self.size if self.left is None else min(len(joined) // self.size, self.left)
        whole = groups * self.size
        self.left = None if self.left is None else self.left - groups
        rest = joined.slice(whole, len(joined) if self.left != 0 else whole)
        self.pending = rest.clone() if len(rest) else None
        return joined.slice(0, whole) if groups else None
