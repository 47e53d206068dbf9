"""Answers that are spoken: the thinker writes, the talker turns the writing into codes, a vocoder the codes into sound.

The model's own generate() does all of it; it is given a compressed cache for the thinker and one for the talker.
"""

from __future__ import annotations

import os
import wave
from collections.abc import Mapping
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING, Any

import numpy as np

from .adapters.base import SpeechFacts, follow
from .cache import OscarCache
from .generation import complete
from .memory import MemoryReport
from .prompts import Messages, Prompt, tokenizer_of
from .talker import Talker

if TYPE_CHECKING:
    from .model import OscarModel

# inputs that the whole model's generate() shares out to thinker and talker; the talker refuses those it does not know
_SHARED = (
    "input_ids",
    "attention_mask",
    "feature_attention_mask",
    "image_grid_thw",
    "video_grid_thw",
    "video_second_per_grid",
    "use_audio_in_video",
)


@dataclass(frozen=True, eq=False)
class Speech:
    """A spoken answer.

    Attributes:
        text: what is said.
        waveform: float32 [samples], mono, from -1 to 1.
        sampling_rate: samples a second.
        memory: what the caches of "thinker" and "talker" held at the end.
    """

    text: str
    waveform: np.ndarray
    sampling_rate: int
    memory: Mapping[str, MemoryReport]

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a WAV file of 16-bit samples.

        Raises:
            ValueError: another suffix than .wav.
            OSError: the file cannot be written.
        """
        target = check_target(path)
        samples = (np.clip(self.waveform, -1.0, 1.0) * 32767).round().astype("<i2")
        with open(target, "wb") as file, wave.open(file, "wb") as sound:
            sound.setparams((1, 2, self.sampling_rate, len(samples), "NONE", ""))
            sound.writeframes(samples.tobytes())
        return target


def speak(
    model: OscarModel,
    messages: Messages,
    speaker: str | None,
    max_new_tokens: int,
    path: str | os.PathLike[str] | None,
    use_audio_in_video: bool,
    kwargs: Mapping[str, Any],
) -> Speech:
    """See OscarModel.speak."""
    talker = _find_talker(model)
    if path is not None:
        check_target(path)
    voice = _find_speaker(model, talker.facts, speaker)
    taken = sorted({"thinker_past_key_values", "talker_past_key_values", "past_key_values"} & set(kwargs))
    if taken:
        raise ValueError(f"{taken[0]} is not allowed: speak() makes the caches of thinker and talker itself")
    prompt = model.prepare(messages, use_audio_in_video=use_audio_in_video)
    if not isinstance(prompt, Prompt) or prompt["input_ids"].shape[0] != 1:
        raise ValueError("speak() answers one conversation at a time; messages holds several")
    thinker_cache, talker_cache = model.new_cache(), talker.new_cache()
    given = complete(model, prompt, {"past_key_values": thinker_cache, "max_new_tokens": max_new_tokens})
    arguments = {name if name in _SHARED else f"thinker_{name}": value for name, value in given.items()}
    arguments |= {"talker_past_key_values": talker_cache, "speaker": voice, **kwargs}
    stream = talker.stream(model.model.config, prompt)
    with talker.ready(talker_cache, stream, model.generator.config):
        tokens, waveform = _generate(model, arguments, thinker_cache, talker_cache)
    model.used(thinker_cache)
    speech = Speech(
        tokenizer_of(model.processor).decode(tokens[0, given["input_ids"].shape[1] :], skip_special_tokens=True),
        waveform.reshape(-1).float().cpu().numpy(),
        talker.facts.sampling_rate,
        {"thinker": thinker_cache.memory(), "talker": talker_cache.memory()},
    )
    if path is not None:
        speech.save(path)
    return speech


def _find_talker(model: OscarModel) -> Talker:
    """Raises ValueError where the model has none."""
    if model.talker is None:
        absent = "was loaded without its talker (enable_audio_output is off)"
        why = "only writes" if model.adapter.speech is None else absent
        raise ValueError(f"speak() needs a model with a talker: this {model.adapter.name} {why}; use chat()")
    return model.talker


def _generate(model: OscarModel, arguments: dict[str, Any], thinker: OscarCache, talker: OscarCache) -> Any:
    """(token ids [1, columns], waveform) from the model's own generate(), which stumbles over what is empty.

    Raises:
        ValueError: nothing to say.
    """
    try:
        return model.model.generate(**arguments)
    except (RuntimeError, ValueError) as error:
        if _came_from(error, model.generator) or (model.talker and _came_from(error, model.talker.module)):
            raise  # not from between or behind their generations
        # the last generated token is never read, so a cache that holds the prompt alone saw the end come first
        for cache, what in ((thinker, "the written answer has one token"), (talker, "the talker made no code")):
            if cache.layers[-1].get_seq_length() == cache.shared.prompt_columns:
                raise ValueError(f"there is nothing to say: {what}") from error
        raise


def _came_from(error: BaseException, module: Any) -> bool:
    """Whether a method of the module was running."""
    frames = walk_tb(error.__traceback__)
    return any(frame.f_locals.get("self") is module for frame, _ in frames)


def check_target(path: str | os.PathLike[str]) -> Path:
    """Where a WAV file can be written.

    Raises:
        ValueError: another suffix than .wav.
        OSError: the folder is not there or not writable, or the path is a folder.
    """
    target = Path(path)
    if target.suffix.lower() != ".wav":
        raise ValueError(f"path={str(path)!r} is not allowed; speech is written as WAV, so it must end in .wav")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{target} cannot be written: there is no folder {target.parent}")
    if target.is_dir():
        raise IsADirectoryError(f"{target} cannot be written: it is a folder")
    if not os.access(target if target.exists() else target.parent, os.W_OK):
        raise PermissionError(f"{target} cannot be written: no permission")
    return target


def _find_speaker(model: OscarModel, facts: SpeechFacts, speaker: str | None) -> str:
    """The speaker's name as the model knows it.

    Raises:
        ValueError: the model has no such speaker; lists those it has.
    """
    known = list(follow(model.model, facts.speakers) or ())
    wanted = signature(model.model.generate).parameters["speaker"].default if speaker is None else speaker
    found = [name for name in known if name.lower() == str(wanted).lower()]
    if not found:
        raise ValueError(f"speaker={speaker!r} is not known; this model speaks as {', '.join(sorted(known))}")
    return found[0]
