"""Compiles the CPU loops before they are needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from .layout import BlockLayout

if TYPE_CHECKING:
    from .cpu_notice import Notice


def compile_ahead(layout: BlockLayout) -> Iterator[Notice]:
    """Compile, one after the other, what models of 16-bit and of fp32 weights run on this machine, or find it on disk.

    The code serves all models and settings but for 16-bit queries of layouts that the loops on bytes do not read
    (cpu_features.reads). numba must be installed.

    Args:
        layout: of blocks with default settings.

    Yields:
        what was compiled or found, when it is there.
    """
    from .compress import cpu as compress
    from .compress.cpu_loops import compress_items
    from .cpu_notice import notice_of
    from .decode_attention.cpu_blocks import attend_blocks
    from .decode_attention.cpu_features import best_set
    from .hadamard import cpu as hadamard
    from .hadamard.cpu_loops import rotate_rows

    states = torch.zeros(1, layout.num_key_value_heads, layout.block_size, layout.head_dim)
    hadamard.hadamard_transform(states)
    yield notice_of(rotate_rows)
    compress.compress_blocks(states, states, layout, torch.zeros(1, layout.record_bytes, dtype=torch.uint8))
    yield notice_of(compress_items)
    for dtype in (torch.bfloat16, torch.float32):
        yield notice_of(attend_blocks(best_set(layout, dtype), dtype == torch.float32).compiled)
