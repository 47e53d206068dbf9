"""What a processor makes of a conversation, and the tokens it uses for media."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..modality import Modality, ModalityStream
from .text import tokenizer_of

KINDS = {"image": Modality.IMAGE, "video": Modality.VIDEO, "audio": Modality.AUDIO}


class Prompt(dict[str, Any]):
    """Model inputs by name, as generate() takes them.

    Attributes:
        stream: what every column of ``input_ids`` is.
    """

    def __init__(self, tensors: Mapping[str, Any], stream: ModalityStream) -> None:
        super().__init__(tensors)
        self.stream = stream


def placeholders(processor: Any) -> dict[int, Modality]:
    """The token ids that a processor puts where features of a medium go."""
    found: dict[int, Modality] = {}
    for kind, modality in KINDS.items():
        # a single id may be what the chat template writes, not what stands for features (Gemma 3)
        ids = getattr(processor, f"{kind}_token_ids", None) or [getattr(processor, f"{kind}_token_id", None)]
        known = [token for token in ids if token is not None]
        if not known and (written := getattr(processor, f"{kind}_token", None)):  # earlier processors have no ids
            known = [tokenizer_of(processor).convert_tokens_to_ids(written)]
        found |= dict.fromkeys(known, modality)
    return found


def placeholder_tokens(processor: Any) -> list[str]:
    """What stands for one medium in a rendered conversation."""
    return [token for kind in KINDS if (token := getattr(processor, f"{kind}_token", None))]
