"""Where a prompt's tokens stand on the rotary axes, worked out before the model is run.

transformers keeps the distance between columns and positions (rope deltas) on the model, where another conversation
overwrites it, and cannot place new media behind a cache. Positions only shift when something comes before, so the
model's own method places what is new, and the cache knows where the old ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from .adapters.base import Adapter, follow
from .modality import Modality, ModalityStream


def place(
    adapter: Adapter, model: Any, inputs: Mapping[str, Any], new: ModalityStream, past: ModalityStream | None
) -> Tensor | None:
    """Positions of new columns, [axes, batch, columns], or None where the model just counts tokens.

    Args:
        inputs: what generate() will be given; ``input_ids`` and ``attention_mask`` may begin with what is cached.
        new, past: the streams of the new columns and of those a cache holds.
    """
    facts = adapter.media
    if facts is None or facts.rope_index is None:
        return None
    first = torch.zeros(new.shape[0], dtype=torch.int64) if past is None else past.prompt_positions().cpu()
    ids = inputs["input_ids"][:, -new.shape[1] :]
    if not bool((new.modalities > Modality.TEXT).any()):
        counted = new.counted(3, first.to(new.modalities.device)).to(ids.device)
        return counted if counted.is_floating_point() else counted.long()
    method = follow(adapter.find_generator(model), facts.rope_index)
    given = {
        **inputs,
        "input_ids": ids,
        "attention_mask": (new.modalities != Modality.PADDING).long().to(ids.device),
    }
    if "mm_token_type_ids" in given:
        given["mm_token_type_ids"] = given["mm_token_type_ids"][:, -new.shape[1] :]
    given |= {name: make(inputs) for name, make in facts.rope_arguments.items()}
    positions, _ = method(**{name: given[name] for name in signature(method).parameters if name in given})
    return positions + first.to(positions.device)[None, :, None]
