"""What the layers of one cache share."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from ..memory import PeakMeter
from ..modality import Modality, ModalityStream
from .visibility import SightMemo


@dataclass
class Shared:
    """State of a whole cache that its layers read.

    Attributes:
        sights: the mask of the forward pass, read once for all layers.
        meter: the most bytes held.
        prompt_columns: columns before this one are prompt. Assisted decoding sends the prompt and the first
            candidates in one forward pass; the candidates must see the prompt packed, as decoding one by one would.
        stream: what the columns of the prompt are, if anybody said so.
        generated: what every later column is.
    """

    sights: SightMemo = field(default_factory=SightMemo)
    meter: PeakMeter = field(default_factory=PeakMeter)
    prompt_columns: int = 0
    stream: ModalityStream | None = None
    generated: Modality = Modality.TEXT
    _fitted: ModalityStream | None = None
    _kinds: tuple[ModalityStream, torch.Tensor] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the stream, and of what was made of it for the columns held now."""
        streams = {id(stream): stream for stream in (self.stream, self._fitted) if stream is not None}
        storages = {
            tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
            for stream in streams.values()
            for tensor in stream.tensors()
        }
        return sum(storages.values())

    def tell(self, stream: ModalityStream | None) -> None:
        """Replace the stream."""
        self.stream, self._fitted, self._kinds = stream, None, None

    def fitted(self, rows: int, columns: int) -> ModalityStream | None:
        """The stream of this many rows and columns, generated tokens included; None if nobody ever told it."""
        if self.stream is None:
            return None
        if self._fitted is None or self._fitted.shape != (rows, columns):  # the same for all layers of a step
            self._fitted = self.stream.fit(rows, columns, self.generated)
        return self._fitted

    def kinds(self, rows: int, columns: int) -> torch.Tensor | None:
        """The modality of every column, int8 [rows, columns] on the CPU; None if nobody ever told it."""
        stream = self.fitted(rows, columns)
        if stream is None or stream.modalities.device.type == "cpu":
            return None if stream is None else stream.modalities
        if self._kinds is None or self._kinds[0] is not stream:  # on a GPU each copy waits for the device
            self._kinds = (stream, stream.modalities.cpu())
        return self._kinds[1]
