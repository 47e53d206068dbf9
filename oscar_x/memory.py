"""What a cache costs, in allocated bytes by part."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class MemoryReport:
    """Allocated bytes of a cache, by what they are for.

    Attributes:
        codes: packed integers.
        scales: scales, minimums, their ranges and amplitudes, and alignment.
        norms: token norms.
        sinks: exact tokens at the start of a sequence.
        residual: exact tokens of the residual window.
        slack: allocated and unused: free blocks, the unfilled part of exact buffers.
        other: layers that are not compressed, block tables, and the mask of a chunk of a prompt.
        peak: the most held at any time so far, storage that is being grown counted twice.
        full_cache: bytes of transformers' full cache for the same columns, in the dtype of the states.
        full_cache_16bit: the same at 16 bits an element.
        columns: length of the sequences, padding included.
        batch_size: number of sequences.
        packed_elements: key and value elements in packed blocks.
        unfilled: of codes, scales and norms, what belongs to empty places of blocks that closed early: at the end of a
            flush, behind a crop, or where modalities are split.
    """

    codes: int = 0
    scales: int = 0
    norms: int = 0
    sinks: int = 0
    residual: int = 0
    slack: int = 0
    other: int = 0
    peak: int = 0
    full_cache: int = 0
    full_cache_16bit: int = 0
    columns: int = 0
    batch_size: int = 0
    packed_elements: int = 0
    unfilled: int = 0

    @property
    def total(self) -> int:
        """All bytes held now."""
        return self.codes + self.scales + self.norms + self.sinks + self.residual + self.slack + self.other

    @property
    def bits_per_element(self) -> float:
        """Bits of a packed element: codes, scales and norms over packed elements; 0 when nothing is packed."""
        return 8 * (self.codes + self.scales + self.norms) / self.packed_elements if self.packed_elements else 0.0

    @property
    def compression(self) -> float:
        """How many times smaller than a full 16-bit cache, everything held counted."""
        return self.full_cache_16bit / self.total if self.total else 1.0

    def to_dict(self) -> dict[str, Any]:
        """Every field and property as plain JSON types."""
        derived = {name: getattr(self, name) for name in ("total", "bits_per_element", "compression")}
        return {**asdict(self), **derived}


@dataclass
class PeakMeter:
    """The most that the compressed layers of a cache held together.

    Attributes:
        peak: bytes.
    """

    peak: int = 0
    held: dict[int, int] = field(default_factory=dict)

    def note(self, layer: int, nbytes: int, copied: int) -> None:
        """A layer now holds nbytes; `copied` is what it held twice for a moment while growing."""
        self.held[layer] = nbytes
        self.peak = max(self.peak, sum(self.held.values()) + copied)
