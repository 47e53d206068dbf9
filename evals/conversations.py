"""Fidelity on conversations with media: the context is packed, then questions and answers are scored against it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..calibration.conversation import Conversation, parse_conversation, read_conversations
from ..calibration.passage import Passage
from ..calibration.questions import conversation_passage
from ..modality import Modality
from .fidelity import Progress, methods_for, score_passages
from .fidelity_report import FidelityReport

if TYPE_CHECKING:
    from ..model import OscarModel
    from ..profile import Profile

Split = Literal["train", "held-out"]
DEFAULT_COUNT = 16


def run_on_conversations(
    model: OscarModel,
    conversations: Sequence[Any],
    methods: Sequence[str] | None = None,
    *,
    seed: int = 0,
    profiles: Mapping[str, Profile] | None = None,
    model_name: str = "",
    data_name: str = "",
    progress: Progress | None = None,
) -> FidelityReport:
    """As run_fidelity, on conversations: their messages are read and packed whole, and questions and answers read them.

    Args:
        model: a loaded model.
        conversations: each a Conversation, or what parse_conversation takes.
        methods, seed, profiles, model_name, progress: as for run_fidelity.
        data_name: what the report calls the conversations.

    Raises:
        MediaError: as OscarModel.chat.
        ProfileError: a profile for another model.
        ValueError: an unknown method, or no conversation, or one that is not understood or too long.
        RuntimeError: a method whose packed tokens were never read.
    """
    chosen, skipped = methods_for(model, methods, profiles)
    passages = conversation_passages(model, conversations)
    settings = {**describe(passages, data_name), "skipped": skipped}
    return score_passages(model.generator, passages, chosen, settings, seed, model_name, progress)


def conversation_passages(model: OscarModel, conversations: Sequence[Any]) -> list[Passage]:
    """Contexts and continuations of conversations, as run_on_conversations takes them.

    Raises:
        MediaError: as OscarModel.chat.
        ValueError: no conversation, or one that is not understood or too long.
    """
    if not conversations:
        raise ValueError("conversations is empty; give at least one")
    parsed = [parse_conversation(data, f"conversations[{number}]") for number, data in enumerate(conversations)]
    return [conversation_passage(model, conversation) for conversation in parsed]


def describe(passages: Sequence[Passage], name: str) -> dict[str, Any]:
    """What a report says of conversations: mean lengths, and tokens by modality."""
    tokens = dict.fromkeys(Modality, 0)
    for passage in passages:
        for kind, number in passage.stream.counts()[0].items():
            tokens[kind] += number
    return {
        "prefix": round(sum(passage.prefix for passage in passages) / len(passages)),
        "continuation": round(sum(len(passage.continuation) - 1 for passage in passages) / len(passages)),
        "conversations": name,
        "tokens": {kind.name.lower(): number for kind, number in tokens.items() if number},
    }


def embedded_vlm_conversations(split: Split, seed: int, images: int = 4) -> Iterator[Conversation]:
    """Endless conversations about drawn scenes: every image but the last with a question and its answer, and then all
    questions that the last image allows."""
    import numpy as np

    from .embedded_vlm.drawing import draw
    from .embedded_vlm.questions import ask
    from .embedded_vlm.scenes import scenes

    stream, rng = scenes(split, seed), np.random.default_rng(seed)
    while True:
        messages: list[dict[str, Any]] = []
        for scene in itertools.islice(stream, images):
            questions = ask(scene, split, rng)
            shown = {"type": "image", "image": draw(scene)}
            asked = {"type": "text", "text": questions[0].text}
            messages.append({"role": "user", "content": [shown, asked]})
            messages.append({"role": "assistant", "content": questions[0].answer})
        context = [*messages[:-2], {"role": "user", "content": [shown]}]
        turns = [{"question": question.text, "answer": question.answer} for question in questions]
        yield parse_conversation({"messages": context, "turns": turns})


def tiny_omni_conversations(split: Split, seed: int, length: int = 8, questions: int = 6) -> Iterator[Conversation]:
    """Endless conversations about clips with sound: one clip each, and some questions about it.

    Args:
        length: events of a clip, of two seconds each.
        questions: at most this many of a clip, spread over all that it allows.
    """
    from .tiny_omni.clips import clips

    for clip in clips(split, length=length, seed=seed):
        step = max(1, len(clip.questions) // questions)
        turns = [{"question": q.text, "answer": q.answer} for q in clip.questions[::step][:questions]]
        messages = [{"role": "user", "content": clip.content()}]
        yield parse_conversation({"messages": messages, "turns": turns, "use_audio_in_video": clip.use_audio_in_video})


# generated conversations for models of this project, by name; (split, seed) -> endless conversations
SETS: dict[str, Callable[[Split, int], Iterator[Conversation]]] = {
    "embedded-vlm": embedded_vlm_conversations,
    "tiny-omni": tiny_omni_conversations,
}


def load_conversations(
    source: str | Path, count: int | None = None, *, split: Split = "held-out", seed: int = 0
) -> list[Conversation]:
    """Conversations of a generated set (SETS), or of a JSONL file with one a line (docs/calibration.md).

    Args:
        count: how many, from the beginning; all of a file and DEFAULT_COUNT of a set when missing.
        split: "held-out" to judge on, "train" to calibrate on; of sets only.
        seed: of sets only.

    Raises:
        FileNotFoundError: neither a set nor a file.
        ConversationError: a line that is no conversation.
        ValueError: a file of fewer conversations than asked for.
    """
    if str(source) in SETS:
        made = SETS[str(source)](split, seed)
        return list(itertools.islice(made, DEFAULT_COUNT if count is None else count))
    if not Path(source).is_file():
        raise FileNotFoundError(f"conversations={str(source)!r} is neither a file nor one of {', '.join(SETS)}")
    found = read_conversations(source)
    if count is not None and len(found) < count:
        raise ValueError(f"{source} holds {len(found)} conversations, fewer than {count}")
    return found[:count]
