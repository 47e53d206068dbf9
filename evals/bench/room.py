"""How much memory is free, and what did not fit in it."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any

import torch

USABLE = 0.85  # of what is free: allocators and other processes need some


@dataclass(frozen=True)
class LeftOut:
    """A contender that was not run.

    Attributes:
        op, backend, context, batch: what it would have been.
        reason: why not, in words.
    """

    op: str
    backend: str
    context: int
    batch: int
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


def free_bytes(device: torch.device) -> int:
    """Bytes that a new allocation may take; what this process has cached and does not use is counted."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            sizes = dict(line.split(":") for line in lines)
        return 1024 * int(sizes["MemAvailable"].split()[0])
    except (OSError, KeyError):  # no Linux
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def lacks_room(needed: int, device: torch.device) -> str | None:
    """Why this many bytes will not be allocated, in words; None if they fit."""
    free = free_bytes(device)
    if needed <= USABLE * free:
        return None
    return f"needs {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free"
