"""What one sequence of a batch holds in a layer, as numbers on the host."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

Spans = list[tuple[int, int]]


@dataclass
class Row:
    """One sequence of a batch.

    Tokens lie in the order sinks, packed blocks, residual window; sinks and residual are one exact buffer. Padding
    takes a column in masks and in transformers' sequence length, but is never stored.

    Attributes:
        sink_tokens: tokens at the start of the exact buffer that are never packed.
        columns: tokens seen, padding included.
        spans: column ranges [start, stop) of the stored tokens, in order.
        exact: tokens in the exact buffer.
        blocks: the pool's records, oldest first.
        lengths: tokens of each block that count.
    """

    sink_tokens: int
    columns: int = 0
    spans: Spans = field(default_factory=list)
    exact: int = 0
    blocks: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)

    @property
    def packed(self) -> int:
        """Tokens in packed blocks."""
        return sum(self.lengths)

    @property
    def residual(self) -> int:
        """Tokens in the residual window."""
        return max(0, self.exact - self.sink_tokens)

    def copy(self) -> Row:
        """An independent copy; the blocks' users are not counted here."""
        return replace(self, spans=list(self.spans), blocks=list(self.blocks), lengths=list(self.lengths))

    def seeing(self, count: int, spans: Spans | None) -> Row:
        """A copy that has seen these columns."""
        row = self.copy()
        row.see(count, spans)
        return row

    def see(self, count: int, spans: Spans | None) -> None:
        """Count new columns; spans are the ranges among them that are tokens, all when missing."""
        for start, stop in [(0, count)] if spans is None else spans:
            start, stop = self.columns + start, self.columns + stop
            if self.spans and self.spans[-1][1] == start:
                start = self.spans.pop()[0]
            self.spans.append((start, stop))
        self.columns += count

    def crop(self, columns: int) -> list[int]:
        """Forget the newest columns; returns the blocks that no longer count. Codes stay as they are."""
        self.columns -= columns
        held = sum(stop - start for start, stop in self.spans)
        self.spans = [(start, min(stop, self.columns)) for start, stop in self.spans if start < self.columns]
        surplus = held - sum(stop - start for start, stop in self.spans)
        from_residual = min(surplus, self.residual)
        self.exact -= from_residual
        surplus -= from_residual
        dropped = []
        while surplus and self.blocks:
            taken = min(surplus, self.lengths[-1])
            self.lengths[-1] -= taken
            surplus -= taken
            if self.lengths[-1] == 0:
                self.lengths.pop()
                dropped.append(self.blocks.pop())
        self.exact -= surplus
        return dropped
