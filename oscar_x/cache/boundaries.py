"""What a prompt's own key norms decide: where a block closes early, because modalities meet there, and which first
tokens stay exact."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from ..config import ONLINE
from .visibility import token_columns

if TYPE_CHECKING:
    from .layer import OscarLayer
    from .rows import Row

Run = tuple[int, int, int]  # kind, start, stop


def split_edges(
    layer: OscarLayer, index: int, row: Row, total: int, keys_of: Callable[[int, int], torch.Tensor]
) -> list[int]:
    """Where a row's waiting tokens change modality in a way that blocks must not span.

    Args:
        index, row: the row by number, and what it holds with the tokens that are being taken in.
        total: the row's last tokens that are not packed yet, sinks left out; edges are counted from their first.
        keys_of: key states [1, num_key_value_heads, n, head_dim] of waiting tokens [start, stop), as they are packed.

    Returns:
        Edges in order, 0 and total left out.
    """
    threshold = layer.oscar.split_ratio
    kinds = layer.shared.kinds(len(layer.rows), row.columns)
    if threshold is None or kinds is None or not total:
        return []
    held = sum(stop - start for start, stop in row.spans)
    found = runs(kinds[index, token_columns(row, held - total, held)], layer.oscar.modality_split_run)
    if len(found) < 2:
        return []
    norms = {kind: median_norms(found, kind, keys_of) for kind in {run[0] for run in found}} if threshold > 1 else {}
    return [
        later[1]
        for earlier, later in pairwise(found)
        if not norms or _ratio(norms[earlier[0]], norms[later[0]]) >= threshold
    ]


def runs(kinds: torch.Tensor, least: int) -> list[Run]:
    """Runs of one modality; one with fewer than `least` tokens joins the run before it, or behind it at the start.

    Args:
        kinds: integers [tokens].
    """
    edges = [0, *(kinds.diff().nonzero().flatten() + 1).tolist(), len(kinds)]
    found: list[Run] = []
    for start, stop in pairwise(edges):
        kind = int(kinds[start])
        # what came first and was too short has no kind of its own
        if found and (stop - start < least or kind == found[-1][0] or found[-1][2] - found[-1][1] < least):
            first = found.pop()
            long = first[2] - first[1] >= least
            found.append((first[0] if long else kind, first[1], stop))
        else:
            found.append((kind, start, stop))
    return found


def median_norms(found: Sequence[Run], kind: int, keys_of: Callable[[int, int], torch.Tensor]) -> torch.Tensor:
    """Median key norm of each KV head, fp32 [num_key_value_heads], in the middle of a modality's longest run."""
    _, start, stop = max((run for run in found if run[0] == kind), key=lambda run: run[2] - run[1])
    start = max(start, (start + stop - ONLINE.sample) // 2)
    return _norms(keys_of(start, min(stop, start + ONLINE.sample))).median(dim=-1).values


def leading_sinks(total: int, keys_of: Callable[[int, int], torch.Tensor]) -> int:
    """How many first tokens of a sequence to keep exact: up to the last one whose key norm is far from the others'.

    Args:
        total: tokens of the sequence so far.
        keys_of: key states [1, num_key_value_heads, n, head_dim] of tokens [start, stop), as they are packed.
    """
    start = max(0, (total - ONLINE.sample) // 2)
    median = _norms(keys_of(start, min(total, start + ONLINE.sample))).median(dim=-1, keepdim=True).values
    ratio = _norms(keys_of(0, min(total, ONLINE.most_sinks))) / median
    far = ((ratio < ONLINE.low) | (ratio > ONLINE.high)).any(dim=0).nonzero()
    return int(far.max()) + 1 if len(far) else 0


def _norms(keys: torch.Tensor) -> torch.Tensor:
    """[1, num_key_value_heads, n, head_dim] -> fp32 [num_key_value_heads, n]."""
    return keys[0].float().norm(dim=-1)


def _ratio(some: torch.Tensor, others: torch.Tensor) -> float:
    """The most that two modalities differ in any head: larger over smaller norm."""
    high, low = torch.maximum(some, others), torch.minimum(some, others)
    return float((high / low.clamp(min=torch.finfo(torch.float32).tiny)).max())


def block_lengths(
    total: int, keep: int, block_size: int, edges: Sequence[int] = (), partial: bool = False
) -> list[int]:
    """Tokens of each block that is due.

    Args:
        total: tokens that wait.
        keep: of these the last ones that stay exact.
        edges: where no block may go on.
        partial: whether what is left over makes a block too.
    """
    lengths, at = [], 0
    for edge in [*(edge for edge in edges if edge <= total - keep), max(0, total - keep)]:
        full, rest = divmod(edge - at, block_size)
        lengths += [block_size] * full
        at += full * block_size
        if rest and (partial or edge in edges):
            lengths.append(rest)
            at += rest
    return lengths
