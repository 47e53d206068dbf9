"""What of a conversation a model cannot read, said before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import transformers
from packaging.version import Version

from ..adapters.base import Adapter, MediaFacts
from ..errors import MediaError
from ..media import MediaPart, Message, TextPart
from .prompt import placeholder_tokens, placeholders
from .text import tokenizer_of

# before, generate() hands on the token types of new tokens alone, and the mask takes them for those of the first
_TYPES_SINCE = "5.23.0"


def check_parts(messages: Sequence[Message], adapter: Adapter, processor: Any, *, continues: bool = False) -> None:
    """Refuse what the model cannot read.

    Args:
        continues: the messages go on from what a cache holds.

    Raises:
        MediaError: a kind of medium that the family does not read, or not beside another, or not in a later turn; a
            text that holds a placeholder token.
    """
    facts = media_facts(adapter)
    kinds, first = facts.kinds, None
    features = tokenizer_of(processor).convert_ids_to_tokens(list(placeholders(processor)))
    tokens = list(dict.fromkeys([*placeholder_tokens(processor), *features]))
    for part in (part for message in messages for part in message.parts):
        if isinstance(part, MediaPart) and part.kind not in kinds:
            reads = f"reads {', '.join(('text', *kinds))}"
            raise MediaError(f"{part.where}: {part.kind} is not allowed here: {adapter.name} {reads}")
        if isinstance(part, MediaPart) and continues and facts.token_types is not None and not types_whole_sequence():
            raise MediaError(
                f"{part.where}: {part.kind} in a later turn is not allowed here: {adapter.name} needs transformers "
                f"{_TYPES_SINCE} for it; begin a new conversation"
            )
        if isinstance(part, MediaPart) and not facts.mixes:
            first = first or part.kind
            if part.kind != first:
                raise MediaError(
                    f"{part.where}: {part.kind} beside {first} is not allowed here: {adapter.name} reads one kind of "
                    "medium at a time; in a session, give them in different turns"
                )
        found = [token for token in tokens if isinstance(part, TextPart) and token in part.text]
        if found:
            raise MediaError(
                f"{part.where}: the text contains {found[0]!r}, which stands for a medium; add the medium as a part"
            )


def types_whole_sequence() -> bool:
    """Whether this transformers' generate() hands token types of the whole sequence on to the mask."""
    return Version(transformers.__version__) >= Version(_TYPES_SINCE)


def media_facts(adapter: Adapter) -> MediaFacts:
    """What the family reads beside text: nothing, for a text model."""
    return adapter.media or MediaFacts(kinds=())
