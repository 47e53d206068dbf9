"""Two phases: a clip goes into a cache and is compressed, then a question is read against it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from transformers import Cache, DynamicCache

from ...cache import OscarCache
from ...calibration.replay import States, StatesRecorder
from ...generation import complete
from ...modality import Modality, ModalityStream
from ...prompts import Prompt, tokenizer_of
from ..tiny_omni import Clip, Question

if TYPE_CHECKING:
    from ...model import OscarModel

BY_COLUMN = ("input_ids", "attention_mask", "position_ids", "token_type_ids", "mm_token_type_ids")
LISTED = "{question}\nOptions: {options}.\nAnswer with one of the options."


@dataclass(frozen=True)
class Reading:
    """A clip and a question as model inputs, cut where the question begins.

    Attributes:
        clip, question: arguments of the model's forward pass.
        stream: what the columns of both are.
        clip_columns: how many of them are the clip's.
    """

    clip: dict[str, Any]
    question: dict[str, Any]
    stream: ModalityStream
    clip_columns: int

    @property
    def clip_stream(self) -> ModalityStream:
        """What the clip's columns are, in storage of its own."""
        return self.stream.take(torch.arange(self.clip_columns))


def hears_video(model: OscarModel) -> bool:
    """Whether the model hears the sound of videos."""
    return model.adapter.media is not None and model.adapter.media.sound_in_video


def check_sees_video(model: OscarModel) -> None:
    """Refuse a model that reads no videos.

    Raises:
        ValueError: names it.
    """
    if model.adapter.media is None or "video" not in model.adapter.media.kinds:
        raise ValueError(f"model {model.adapter.name} reads no videos; use one that does, such as tiny-omni")


def conversation(model: OscarModel, clip: Clip, question: Question, listed: bool) -> list[dict[str, Any]]:
    """One user turn: the clip, then the question.

    Args:
        listed: whether the question names its options.
    """
    return [{"role": "user", "content": [*clip_parts(model, clip), {"type": "text", "text": worded(question, listed)}]}]


def worded(question: Question, listed: bool) -> str:
    """What is asked, with the options where they are to be named."""
    if not listed:
        return question.text
    return LISTED.format(question=question.text, options=", ".join(question.options))


def clip_parts(model: OscarModel, clip: Clip) -> list[dict[str, Any]]:
    """The clip as message parts: one video, or several where its sound is longer than the model hears at a time."""
    window = _hearing_window(model) if clip.waveform is not None else None
    whole = len(clip.frames) / clip.fps
    if window is None or clip.waveform is None or whole <= window:
        return clip.content()
    parts: list[dict[str, Any]] = []
    for index in range(-(-len(clip.frames) // int(window * clip.fps))):
        start, stop = index * int(window * clip.fps), (index + 1) * int(window * clip.fps)
        samples = slice(int(start / clip.fps * clip.sampling_rate), int(stop / clip.fps * clip.sampling_rate))
        parts += replace(clip, frames=clip.frames[start:stop], waveform=clip.waveform[samples]).content()
    return parts


def _hearing_window(model: OscarModel) -> float | None:
    """Seconds of sound that the model hears at a time, in whole pairs of seconds; None where there is no limit."""
    if model.adapter.media is None or not model.adapter.media.audio_window:
        return None
    extractor = model.processor.feature_extractor
    return extractor.n_samples / extractor.sampling_rate // 2 * 2


def read(model: OscarModel, clip: Clip, question: Question, *, listed: bool = False) -> Reading:
    """Inputs of both phases, placed as one prompt."""
    prompt = model.prepare(conversation(model, clip, question, listed), use_audio_in_video=clip.use_audio_in_video)
    arguments = complete(model, prompt, {"past_key_values": DynamicCache(config=model.model.config)})
    del arguments["past_key_values"]
    stream = prompt.stream
    if "position_ids" in arguments:
        stream = stream.placed(arguments["position_ids"].cpu())
    columns = _clip_columns(prompt)
    clip_inputs, question_inputs = {}, {}
    for name, value in arguments.items():
        if name not in BY_COLUMN:
            clip_inputs[name] = value
            continue
        clip_inputs[name] = value[..., :columns]
        if name != "attention_mask":  # one sequence without padding: every column is seen
            question_inputs[name] = value[..., columns:]
    clip_inputs.pop("pad_token_id", None)
    return Reading(clip_inputs, question_inputs, stream, columns)


def _clip_columns(prompt: Prompt) -> int:
    """Columns up to the last one of a medium, and the delimiter behind it."""
    media = (prompt.stream.modalities[0] > Modality.TEXT).nonzero()
    if not len(media):
        raise ValueError("the prompt holds no video")
    return int(media[-1]) + 2


@torch.no_grad()
def prefill(model: OscarModel, cache: Cache, reading: Reading) -> None:
    """Read the clip into an empty cache."""
    if isinstance(cache, OscarCache):
        cache.expect_prompt(reading.clip_columns, reading.clip_stream)
    model.generator(**reading.clip, past_key_values=cache, use_cache=True, logits_to_keep=1)


def record(model: OscarModel, reading: Reading) -> States:
    """The clip's keys and values from one forward pass; attention over a prompt is exact whatever the cache."""
    recorder = StatesRecorder(model.generator.config)
    prefill(model, recorder, reading)
    return recorder.states


@torch.no_grad()
def ask(model: OscarModel, cache: Cache, reading: Reading) -> torch.Tensor:
    """Logits fp32 [vocabulary] where the answer begins; the cache grows by the question."""
    return (
        model.generator(**reading.question, past_key_values=cache, use_cache=True, logits_to_keep=1)
        .logits[0, -1]
        .float()
    )


@torch.no_grad()
def decode(model: OscarModel, cache: Cache, reading: Reading, token: torch.Tensor, step: int) -> torch.Tensor:
    """Logits fp32 [vocabulary] behind the answer's token number `step`, int64 [1, 1]."""
    arguments: dict[str, Any] = {"input_ids": token}
    if reading.stream.positions is not None:
        position = reading.stream.next_positions() + step
        arguments["position_ids"] = position.to(token.device).expand(len(reading.stream.positions), 1)[..., None]
    return model.generator(**arguments, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[0, -1].float()


def choose(model: OscarModel, logits: torch.Tensor, options: Sequence[str]) -> str:
    """The option whose first token is the most likely.

    Raises:
        ValueError: two options begin with the same token.
    """
    tokenizer = tokenizer_of(model.processor)
    first = [tokenizer(option, add_special_tokens=False)["input_ids"][0] for option in options]
    if len(set(first)) < len(first):
        raise ValueError(f"options {', '.join(options)} do not all begin with tokens of their own in this tokenizer")
    return options[int(logits[torch.tensor(first, device=logits.device)].argmax())]


def twin(cache: Cache) -> Cache:
    """A copy that goes on on its own."""
    return cache.fork() if isinstance(cache, OscarCache) else copy.deepcopy(cache)
