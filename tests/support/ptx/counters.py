"""What a launch does, counted: instructions of warps, and the work of its memory accesses."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

BANKS, SECTOR = 32, 32


@dataclass
class Counts:
    """Sums over all warps of a launch.

    Attributes:
        instructions: by opcode, one a warp that executes it.
        wavefronts: of shared memory; `least_wavefronts` were there no bank conflicts.
        sectors: 32-byte pieces of global memory; `least_sectors` were each request's bytes next to each other.
    """

    instructions: Counter[str] = field(default_factory=Counter)
    wavefronts: Counter[str] = field(default_factory=Counter)
    least_wavefronts: Counter[str] = field(default_factory=Counter)
    sectors: Counter[str] = field(default_factory=Counter)
    least_sectors: Counter[str] = field(default_factory=Counter)

    def note_shared(self, name: str, addresses: np.ndarray, size: int, warps: np.ndarray, lanes: np.ndarray) -> None:
        taken, least = wavefronts(addresses, size, warps, lanes)
        self.wavefronts[name] += taken
        self.least_wavefronts[name] += least

    def note_global(self, name: str, addresses: np.ndarray, size: int, warps: np.ndarray) -> None:
        self.sectors[name] += sectors(addresses, size, warps)
        self.least_sectors[name] += least_sectors(addresses, size, warps)

    def add(self, other: Counts) -> None:
        for name, mine in vars(self).items():
            mine.update(getattr(other, name))


def wavefronts(addresses: np.ndarray, size: int, warps: np.ndarray, lanes: np.ndarray) -> tuple[int, int]:
    """Of one shared access of every warp, and the fewest for as many different words.

    Up to 4 bytes the lanes of a warp go together, with 8 bytes those of a half, with 16 those of a quarter. Lanes that
    want the same word share it; different words of a bank follow each other.
    """
    together = {8: 16, 16: 8}.get(size, 32)
    part = warps.astype(np.int64) * 4 + lanes // together
    words = addresses // 4
    several = (part[:, None] << 40 | (words[:, None] + np.arange(max(1, size // 4)))).ravel()
    different = np.unique(several)
    of_bank = np.unique(different >> 40 << 8 | different % BANKS, return_counts=True)
    parts, starts = np.unique(of_bank[0] >> 8, return_index=True)
    most = np.maximum.reduceat(of_bank[1], starts) if len(parts) else np.zeros(0, int)
    _, held = np.unique(different >> 40, return_counts=True)
    return int(most.sum()), int((-(-held // BANKS)).sum())


def sectors(addresses: np.ndarray, size: int, warps: np.ndarray) -> int:
    """32-byte pieces of global memory that a request touches, each counted once a warp."""
    pieces = [addresses + offset for offset in range(0, size, SECTOR)] or [addresses]
    return sum(len(np.unique(warps.astype(np.int64) << 44 | piece // SECTOR)) for piece in pieces)


def least_sectors(addresses: np.ndarray, size: int, warps: np.ndarray) -> int:
    """As few as the bytes of each warp's request could lie in."""
    every = np.unique((warps.astype(np.int64) << 44)[:, None] | (addresses[:, None] + np.arange(size)))
    _, held = np.unique(every >> 44, return_counts=True)
    return int((-(-held // SECTOR)).sum())
