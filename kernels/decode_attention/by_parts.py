"""Attention over blocks whose heads are stored in several ways: a call for each way."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..composite import CompositeLayout, Part

Attended = tuple[torch.Tensor, torch.Tensor]


def by_parts(
    layout: CompositeLayout, query: torch.Tensor, attend: Callable[[Part, torch.Tensor], Attended]
) -> Attended:
    """Attention of every part's heads, put back in the heads' order.

    Args:
        query: [batch, num_key_value_heads, rows, head_dim].
        attend: attention of a part, given its queries.

    Returns:
        As packed_attention.
    """
    output = torch.empty(query.shape, dtype=torch.float32, device=query.device)
    lse = torch.empty(query.shape[:3], dtype=torch.float32, device=query.device)
    for part in layout.parts:
        for share, whole in zip(attend(part, part.take(query)), (output, lse), strict=True):
            part.put(share, whole)
    return output, lse
