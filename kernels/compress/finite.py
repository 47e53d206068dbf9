"""Refuses states that no code can stand for."""

from __future__ import annotations

import torch


def check_finite(key_states: torch.Tensor, value_states: torch.Tensor) -> None:
    """The one place where packing waits for a device: once for keys and values.

    Raises:
        ValueError: NaN or infinity, naming the first.
    """
    if key_states.numel() == 0:
        return
    # extremes are NaN or infinite if any element is, and need no tensor of flags
    extremes = [extreme for states in (key_states, value_states) for extreme in states.aminmax()]
    finite = [torch.isfinite(extreme) for extreme in extremes]
    if bool(torch.stack(finite).all()):
        return
    for name, tensor in (("key_states", key_states), ("value_states", value_states)):
        if not torch.isfinite(tensor).all():
            where = (~torch.isfinite(tensor)).nonzero()[0].tolist()
            raise ValueError(
                f"{name} is not finite, first at [block, head, token, channel] = {where}; nothing was packed"
            )
