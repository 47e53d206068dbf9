"""Moves tokens into a layer: fills the sinks, packs blocks, leaves the newest tokens exact."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from .bias_share import bias_share
from .boundaries import block_lengths, leading_sinks, split_edges
from .exact import select_rows
from .rows import Row, Spans
from .tables import BlockTable, upload

if TYPE_CHECKING:
    from .layer import OscarLayer

# Blocks compressed at a time: enough work for one call, and few enough that scratch memory stays a fraction of the
# layer (about 10 fp32 copies of what is being compressed).
CHUNK_ELEMENTS = 2**20
CHUNK_SHARE = 32

States = tuple[torch.Tensor, torch.Tensor]


class TokenStream:
    """Keys and values of some rows in order, in pieces [rows, heads, n, head_dim], read without joining them all."""

    def __init__(self, pieces: list[States]) -> None:
        self.pieces = [piece for piece in pieces if piece[0].shape[2]]
        self.length = sum(keys.shape[2] for keys, _ in self.pieces)

    def slice(self, start: int, stop: int) -> States:
        """Tokens [start, stop)."""
        parts, at = [], 0
        for keys, values in self.pieces:
            low, high = max(start - at, 0), min(stop - at, keys.shape[2])
            if low < high:
                parts.append((keys[:, :, low:high], values[:, :, low:high]))
            at += keys.shape[2]
        if len(parts) == 1:
            return parts[0]
        return torch.cat([keys for keys, _ in parts], 2), torch.cat([values for _, values in parts], 2)


@dataclass
class _Move:
    """A group of equal rows and where its tokens go: the first `sinks` fill the sinks, which have room for
    `sink_tokens`, and `lengths` blocks are packed."""

    rows: list[int]
    seen: list[Row]
    stream: TokenStream
    sink_tokens: int
    sinks: int = 0
    lengths: list[int] = field(default_factory=list)
    blocks: list[list[int]] = field(default_factory=list)


def move_tokens(
    layer: OscarLayer,
    new: States | None,
    spans: list[Spans] | None,
    keep: int,
    partial: bool = False,
) -> None:
    """Take new tokens in and pack what is due.

    Args:
        new: key and value states [batch, heads, n, head_dim], or None to pack what is held.
        spans: for each row the column ranges of `new` that are tokens, all when missing.
        keep: tokens to leave in the residual window when packing. Rows whose new tokens are no prompt pack nothing.
        partial: also pack a last block that is not full.

    Nothing is changed when compression refuses a token.
    """
    moves = [_plan(layer, rows, new, spans, keep, partial) for rows in _equal_rows(layer, spans)]
    try:
        for move in moves:
            _pack(layer, move)
    except Exception:
        for move in moves:
            layer.pool.release(block for blocks in move.blocks for block in blocks)
        raise
    for move in moves:
        _commit(layer, move)
    if new is not None:
        for index, row in enumerate(layer.rows):
            row.see(new[0].shape[2], None if spans is None else spans[index])


def _equal_rows(layer: OscarLayer, spans: list[Spans] | None) -> list[list[int]]:
    groups: dict[tuple, list[int]] = defaultdict(list)
    for index, row in enumerate(layer.rows):
        # where its own norms decide, every row packs by itself
        alone = index if layer.splits or layer.oscar.online else -1
        groups[(row.exact, sum(row.lengths), () if spans is None else tuple(spans[index]), alone)].append(index)
    return list(groups.values())


def _plan(
    layer: OscarLayer,
    rows: list[int],
    new: States | None,
    spans: list[Spans] | None,
    keep: int,
    partial: bool,
) -> _Move:
    row = layer.rows[rows[0]]
    pieces = [layer.exact.read(rows, row.sink_tokens, row.exact)] if row.residual else []
    waits, seen = False, [layer.rows[index] for index in rows]
    if new is not None:
        chosen = select_rows(rows, len(layer.rows))
        keys, values = new[0][chosen], new[1][chosen]
        ranges = [(0, keys.shape[2])] if spans is None else spans[rows[0]]
        pieces += [(keys[:, :, start:stop], values[:, :, start:stop]) for start, stop in ranges]
        waits = not layer.is_prompt(sum(stop - start for start, stop in ranges))
        if layer.key_bias is not None or layer.splits or layer.oscar.online:
            seen = [row.seeing(keys.shape[2], ranges) for row in seen]
    move = _Move(rows, seen, TokenStream(pieces), row.sink_tokens)
    if layer.oscar.online and not waits and new is not None and not row.exact and not row.blocks:
        move.sink_tokens = leading_sinks(move.stream.length, lambda start, stop: _keys(layer, move, start, stop))
    move.sinks = min(max(0, move.sink_tokens - row.exact), move.stream.length)
    if not waits:
        # what waits a few tokens at a time is packed whole: its blocks must be known before its tokens are
        edges = _edges(layer, move) if layer.splits and (partial or new is not None) else []
        move.lengths = block_lengths(move.stream.length - move.sinks, keep, layer.oscar.block_size, edges, partial)
    return move


def _edges(layer: OscarLayer, move: _Move) -> list[int]:
    def keys_of(start: int, stop: int) -> torch.Tensor:
        return _keys(layer, move, move.sinks + start, move.sinks + stop)

    return split_edges(layer, move.rows[0], move.seen[0], move.stream.length - move.sinks, keys_of)


def _keys(layer: OscarLayer, move: _Move, start: int, stop: int) -> torch.Tensor:
    """Keys [rows, heads, n, head_dim] of the stream's tokens [start, stop) without the key-projection bias."""
    keys = move.stream.slice(start, stop)[0]
    if layer.key_bias is None:
        return keys
    row = layer.rows[move.rows[0]]
    first = row.exact - row.residual + row.packed  # the stream's first token, counted as in masks
    return keys.float() - bias_share(layer, move.rows, move.seen, first + start, first + stop)


def _pack(layer: OscarLayer, move: _Move) -> None:
    if not move.lengths:
        return
    block_size, count = layer.oscar.block_size, len(move.lengths)
    layout = layer.compressor.layout
    elements = len(move.rows) * layout.num_key_value_heads * block_size * layout.head_dim
    step = max(1, min(CHUNK_ELEMENTS // elements, count // CHUNK_SHARE))
    ids = layer.pool.allocate(len(move.rows) * count)
    move.blocks = [ids[at : at + count] for at in range(0, len(ids), count)]
    at = move.sinks
    for start in range(0, count, step):
        lengths = move.lengths[start : start + step]
        stop = at + sum(lengths)
        keys, values = _keys(layer, move, at, stop), move.stream.slice(at, stop)[1]
        where = upload([blocks[start : start + step] for blocks in move.blocks], keys.device).flatten()
        keys, values = (_as_blocks(states, lengths, block_size) for states in (keys, values))
        layer.compressor.compress(keys, values, layer.pool.records, where)
        at = stop


def _as_blocks(states: torch.Tensor, lengths: list[int], block_size: int) -> torch.Tensor:
    """[rows, heads, n, head_dim] -> [rows * blocks, heads, block_size, head_dim]; a short block repeats its last token,
    which moves no group's extremes."""
    if any(length < block_size for length in lengths):
        padded = []
        for block in states.split(lengths, dim=2):
            short = block_size - block.shape[2]
            padded += [block, block[:, :, -1:].expand(-1, -1, short, -1)] if short else [block]
        states = torch.cat(padded, dim=2)
    return states.unflatten(2, (-1, block_size)).transpose(1, 2).flatten(0, 1)


def _commit(layer: OscarLayer, move: _Move) -> None:
    row = layer.rows[move.rows[0]]
    if move.sinks:
        layer.exact.write(move.rows, row.exact, *move.stream.slice(0, move.sinks))
    packed, length = sum(move.lengths), move.stream.length
    left = move.sinks + packed
    base = row.exact - row.residual + move.sinks
    # residual tokens that stay put need no copy; packing shifts what remains to the front
    skip = row.residual if not packed else 0
    if left + skip < length:
        keys, values = move.stream.slice(left + skip, length)
        # packing moves the window to the front of the buffer that it is read from
        layer.exact.write(move.rows, base + skip, *((keys.clone(), values.clone()) if packed else (keys, values)))
    for rank, index in enumerate(move.rows):
        target = layer.rows[index]
        target.sink_tokens, target.exact = move.sink_tokens, base + length - left
        if move.blocks:
            target.blocks += move.blocks[rank]
            target.lengths += move.lengths


@contextmanager
def provisional_blocks(layer: OscarLayer, due: list[int]) -> Iterator[BlockTable]:
    """Block table with `due` more blocks a row, packed from the residual window and given back afterwards.

    Candidates of assisted decoding need them: what a later candidate must see packed, a rejected one must not have
    packed for good.
    """
    blocks = [list(row.blocks) for row in layer.rows]
    lengths = [list(row.lengths) for row in layer.rows]
    moves = []
    try:
        for index, count in enumerate(due):
            if count:
                row = layer.rows[index]
                stream = TokenStream([layer.exact.read([index], row.sink_tokens, row.exact)])
                moves.append(_Move([index], [row], stream, row.sink_tokens, 0, [layer.oscar.block_size] * count))
                _pack(layer, moves[-1])
                blocks[index] += moves[-1].blocks[0]
                lengths[index] += moves[-1].lengths
        yield layer.block_table(blocks, lengths)
    finally:
        for move in moves:
            layer.pool.release(block for ids in move.blocks for block in ids)
