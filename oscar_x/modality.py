"""Which modality each token of a prompt belongs to, which medium it came from, and where the model placed it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

import torch
from torch import Tensor


class Modality(IntEnum):
    """What a column of a sequence holds."""

    PADDING = -1
    TEXT = 0
    IMAGE = 1
    VIDEO = 2
    AUDIO = 3
    CODEC = 4


@dataclass(frozen=True)
class Span:
    """Tokens [start, stop) of a row that stand for one medium, delimiters and timestamps that its processor adds
    included. ``kind`` is that of the message part."""

    kind: Modality
    start: int
    stop: int


@dataclass(frozen=True)
class ModalityStream:
    """One entry a column of a batch, prompt and generated tokens alike.

    Attributes:
        modalities: int8 [batch, columns], values of Modality.
        segments: int32 [batch, columns]; k for the tokens of the row's k-th medium, counted from 1 over the whole
            conversation, 0 outside any. A video and its sound track are one medium.
        positions: int32, or float32 where a family places video between whole positions, [axes, batch, columns]: rotary
            positions of multimodal rotary embeddings; None where tokens are simply counted. What padding has there
            means nothing.
    """

    modalities: Tensor
    segments: Tensor
    positions: Tensor | None = None

    def __post_init__(self) -> None:
        if self.modalities.ndim != 2 or self.modalities.shape != self.segments.shape:
            raise ValueError(
                f"modalities {tuple(self.modalities.shape)} and segments {tuple(self.segments.shape)} must both be "
                "[batch, columns]"
            )
        if self.positions is not None and self.positions.shape[1:] != self.modalities.shape:
            raise ValueError(
                f"positions has shape {tuple(self.positions.shape)}; expected [axes, {', '.join(map(str, self.shape))}]"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(batch, columns)."""
        batch, columns = self.modalities.shape
        return batch, columns

    def tensors(self) -> list[Tensor]:
        """The tensors it is made of."""
        return [tensor for tensor in (self.modalities, self.segments, self.positions) if tensor is not None]

    def counts(self) -> list[dict[Modality, int]]:
        """How many columns of each modality every row has; absent ones are left out."""
        return [{kind: int((row == kind).sum()) for kind in Modality if (row == kind).any()} for row in self.modalities]

    def select(self, rows: Tensor) -> ModalityStream:
        """The rows at these indices, in this order; an index may come several times."""
        rows = torch.as_tensor(rows, device=self.modalities.device)
        positions = None if self.positions is None else self.positions[:, rows]
        return ModalityStream(self.modalities[rows], self.segments[rows], positions)

    def take(self, columns: Tensor) -> ModalityStream:
        """The columns at these indices, in this order; media keep their numbers."""
        positions = None if self.positions is None else self.positions[..., columns]
        return ModalityStream(self.modalities[:, columns], self.segments[:, columns], positions)

    def crop(self, columns: int) -> ModalityStream:
        """The first columns only."""
        positions = None if self.positions is None else self.positions[..., :columns]
        return ModalityStream(self.modalities[:, :columns], self.segments[:, :columns], positions)

    def last(self, columns: int) -> ModalityStream:
        """The last columns only, their media counted from 1."""
        first = self.shape[1] - columns
        segments = self.segments[:, first:]
        seen = self.segments[:, :first].amax(dim=1, keepdim=True) if first > 0 else 0
        positions = None if self.positions is None else self.positions[..., first:]
        return ModalityStream(self.modalities[:, first:], (segments - seen).clamp(min=0), positions)

    def fit(self, rows: int, columns: int, generated: Modality = Modality.TEXT) -> ModalityStream:
        """The same for a batch whose rows were each repeated and whose sequences were cut or went on.

        Columns beyond those known are generated tokens: they belong to no medium and follow the last position.

        Raises:
            ValueError: rows is no multiple of the batch.
        """
        batch, known = self.shape
        if batch == 0 or rows % batch:
            raise ValueError(f"rows={rows} is not allowed; use a multiple of the {batch} rows held")
        stream = self if rows == batch else self.select(torch.arange(batch).repeat_interleave(rows // batch))
        if columns <= known:
            return stream.crop(columns)
        new = (rows, columns - known)
        # join() counts their positions on from here
        return stream.join(
            ModalityStream(stream.modalities.new_full(new, int(generated)), stream.segments.new_zeros(new))
        )

    def join(self, later: ModalityStream) -> ModalityStream:
        """This stream with a later one behind it: its media are counted on from here, its positions are final.

        Raises:
            ValueError: another number of rows.
        """
        if later.shape[0] != self.shape[0]:
            raise ValueError(f"later has {later.shape[0]} rows, this stream {self.shape[0]}")
        seen = self.segments.amax(dim=1, keepdim=True) if self.shape[1] else 0
        segments = torch.where(later.segments > 0, later.segments + seen, later.segments)
        positions = None
        if self.positions is not None or later.positions is not None:
            axes = len(later.positions if self.positions is None else self.positions)  # type: ignore[arg-type]
            positions = torch.cat([self.counted(axes), later.counted(axes, self.next_positions())], dim=-1)
        return ModalityStream(
            torch.cat([self.modalities, later.modalities], 1), torch.cat([self.segments, segments], 1), positions
        )

    def counted(self, axes: int, first: Tensor | None = None) -> Tensor:
        """The positions, or else those of tokens counted from ``first`` [batch] or 0, [axes, batch, columns]."""
        if self.positions is not None:
            return self.positions
        order = (self.modalities != Modality.PADDING).cumsum(1).sub(1).clamp(min=0)
        order = order if first is None else order + first[:, None]
        return _compact(order).expand(axes, -1, -1)

    def placed(self, positions: Tensor) -> ModalityStream:
        """The same with these positions [axes, batch, columns]."""
        return replace(self, positions=_compact(positions))

    def prompt_positions(self) -> Tensor:
        """The position of each row's next token where the prompt goes on, [batch]: one past a last token of text.

        Behind a video that lasts longer than its frames are wide, transformers counts the prompt's text on from the
        frames' sides, but generated tokens from the largest position: see next_positions().
        """
        if self.positions is None or not self.shape[1]:
            return self.next_positions()
        order = torch.arange(1, self.shape[1] + 1, device=self.modalities.device)
        last = ((self.modalities != Modality.PADDING) * order).argmax(1, keepdim=True)
        position = self.positions.amax(0).gather(1, last).squeeze(1) + 1
        is_text = self.modalities.gather(1, last).squeeze(1) == Modality.TEXT
        return torch.where(is_text, position, self.next_positions())

    def next_positions(self) -> Tensor:
        """The position of the next text token of each row, [batch]: one past the largest so far."""
        tokens = self.modalities != Modality.PADDING
        if self.positions is None:
            return tokens.sum(1)
        if not self.shape[1]:
            return tokens.new_zeros(self.shape[0], dtype=torch.int64)
        return self.positions.amax(0).masked_fill(~tokens, -1).amax(1) + 1


def _compact(positions: Tensor) -> Tensor:
    """Whole positions as int32; others are kept."""
    return positions if positions.is_floating_point() else positions.to(torch.int32)


def stream_of_tokens(
    input_ids: Tensor,
    attention_mask: Tensor | None,
    placeholders: Mapping[int, Modality],
    spans: Sequence[Sequence[Span]] | None = None,
) -> ModalityStream:
    """The stream of a prompt as a processor made it.

    Args:
        input_ids: integers [batch, columns].
        attention_mask: [batch, columns], 0 at padding; no padding when missing.
        placeholders: the token ids that stand for features of a medium.
        spans: for each row its media in order. Without them every run of equal modality is taken for one medium,
            so media that touch, and videos whose frames are kept apart by timestamps, are not told from one another.
    """
    modalities = torch.full(input_ids.shape, int(Modality.TEXT), dtype=torch.int8, device=input_ids.device)
    for token, kind in placeholders.items():
        modalities[input_ids == token] = int(kind)
    if attention_mask is not None:
        modalities[attention_mask == 0] = int(Modality.PADDING)
    if spans is None:
        return ModalityStream(modalities, _runs(modalities))
    segments = torch.zeros(input_ids.shape, dtype=torch.int32, device=input_ids.device)
    for row, media in enumerate(spans):
        for number, span in enumerate(media, start=1):
            segments[row, span.start : span.stop] = number
            if span.kind == Modality.VIDEO:  # some families show a video to the model as a row of images
                inside = modalities[row, span.start : span.stop]
                inside[inside == Modality.IMAGE] = int(Modality.VIDEO)
    return ModalityStream(modalities, segments)


def _runs(modalities: Tensor) -> Tensor:
    media = modalities > 0
    starts = media.clone()
    starts[:, 1:] &= modalities[:, 1:] != modalities[:, :-1]
    return (starts.cumsum(1) * media).to(torch.int32)
