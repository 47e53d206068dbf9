"""Answers that are spoken: the thinker writes, the talker turns the writing into codes, a vocoder the codes into sound.

The model's own generate() does all of it; it is given a compressed cache for the thinker and one for the talker.
"""

from __future__ import annotations

import os
import wave
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .adapters.base import Adapter, SpeechFacts, follow
from .cache import OscarCache
from .config import OscarConfig
from .generation import complete
from .key_bias_detect import detect_key_biases
from .memory import MemoryReport
from .modality import Modality, ModalityStream
from .multimodal import Prompt
from .prompts import Messages, tokenizer_of
from .report import LayerReport, layer_reports

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


class Talker:
    """The talker of an omni model.

    Attributes:
        module: the talker itself.
        adapter: its facts, as of a model by itself.
        config: the compression settings.
        key_biases: key-projection biases taken out before compression, by layer index.
    """

    def __init__(self, module: Any, adapter: Adapter, config: OscarConfig, key_bias: bool) -> None:
        self.module = module
        self.adapter = adapter
        self.config = config
        self.key_biases = detect_key_biases(module, adapter) if key_bias else {}

    def new_cache(self) -> OscarCache:
        """An empty cache; what is generated into it are codes."""
        biases = self.key_biases or None
        return OscarCache(self.module.config, self.config, key_biases=biases, generated=Modality.CODEC)

    def report(self) -> list[LayerReport]:
        """What happens to each layer's cache and why."""
        return layer_reports(self.module, self.adapter, self.config, self.key_biases)


def find_talker(model: Any, adapter: Adapter, config: OscarConfig) -> Talker | None:
    """The talker of a loaded model; None where it only writes, or was loaded without."""
    if adapter.speech is None or not hasattr(model, adapter.speech.talker):
        return None
    wanted = config.compresses and config.key_bias == "auto"
    return Talker(follow(model, adapter.speech.talker), adapter.as_talker(), config, wanted)


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
    facts, talker = model.adapter.speech, model.talker
    if facts is None or talker is None:
        why = "only writes" if facts is None else "was loaded without its talker (enable_audio_output is off)"
        raise ValueError(f"speak() needs a model with a talker: this {model.adapter.name} {why}; use chat()")
    if path is not None:
        check_target(path)
    voice = _find_speaker(model, speaker)
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
    stream = _talker_stream(model, prompt)
    with _lent_settings(model, talker), _watched(talker, facts, talker_cache, stream):
        tokens, waveform = _generate(model, arguments, thinker_cache, talker_cache)
    model.used(thinker_cache)
    speech = Speech(
        tokenizer_of(model.processor).decode(tokens[0, given["input_ids"].shape[1] :], skip_special_tokens=True),
        waveform.reshape(-1).float().cpu().numpy(),
        facts.sampling_rate,
        {"thinker": thinker_cache.memory(), "talker": talker_cache.memory()},
    )
    if path is not None:
        speech.save(path)
    return speech


def _generate(model: OscarModel, arguments: dict[str, Any], thinker: OscarCache, talker: OscarCache) -> Any:
    """(token ids [1, columns], waveform) from the model's own generate(), which stumbles over what is empty.

    Raises:
        ValueError: nothing to say.
    """
    try:
        return model.model.generate(**arguments)
    except (RuntimeError, ValueError) as error:
        # the last generated token is never read, so a cache that holds the prompt alone saw the end come first
        for cache, what in ((thinker, "the written answer has one token"), (talker, "the talker made no code")):
            if cache.layers[-1].get_seq_length() == cache.shared.prompt_columns:
                raise ValueError(f"there is nothing to say: {what}") from error
        raise


@contextmanager
def _lent_settings(model: OscarModel, talker: Talker) -> Iterator[None]:
    """For the time of a generation, settings of the thinker's that the talker's code reads and its config lacks."""
    assert model.adapter.speech is not None
    config, lender = talker.module.config, model.generator.config
    lent = [name for name in model.adapter.speech.lent if not hasattr(config, name)]
    for name in lent:
        setattr(config, name, getattr(lender, name))
    try:
        yield
    finally:
        for name in lent:
            delattr(config, name)


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


def _find_speaker(model: OscarModel, speaker: str | None) -> str:
    """The speaker's name as the model knows it.

    Raises:
        ValueError: the model has no such speaker; lists those it has.
    """
    assert model.adapter.speech is not None
    known = list(follow(model.model, model.adapter.speech.speakers) or ())
    wanted = signature(model.model.generate).parameters["speaker"].default if speaker is None else speaker
    found = [name for name in known if name.lower() == str(wanted).lower()]
    if not found:
        raise ValueError(f"speaker={speaker!r} is not known; this model speaks as {', '.join(sorted(known))}")
    return found[0]


def _talker_stream(model: OscarModel, prompt: Prompt) -> ModalityStream:
    """What the columns of the talker's prompt are: those of the thinker's that it reads, and the start of its codes."""
    facts = model.adapter.speech
    assert facts is not None
    read = facts.columns(model.model.config, prompt["input_ids"])[0].nonzero()[:, 0]
    return prompt.stream.take(read).fit(1, len(read) + facts.added, Modality.CODEC)


@contextmanager
def _watched(talker: Talker, facts: SpeechFacts, cache: OscarCache, stream: ModalityStream) -> Iterator[None]:
    """For the time of a generation, the cache is told where the talker stands, which only its own code works out."""

    def give_mask(module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        if kwargs.get("attention_mask") is None:
            new = kwargs["input_ids"] if kwargs.get("inputs_embeds") is None else kwargs["inputs_embeds"]
            columns = cache.get_seq_length() + new.shape[1]
            kwargs["attention_mask"] = torch.ones(1, columns, dtype=torch.int64, device=new.device)
        return args, kwargs

    def tell(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        positions = kwargs.get("position_ids")
        if cache.get_seq_length() == 0 and positions is not None:
            placed = positions[-3:].cpu()  # a fourth axis before them counts the columns
            placed = placed if placed.is_floating_point() else placed.int()
            cache.expect_prompt(stream.shape[1], replace(stream, positions=placed))

    decoder = talker.adapter.find_decoder(talker.module)
    cache.expect_prompt(stream.shape[1], stream)
    hooks = [decoder.register_forward_pre_hook(tell, with_kwargs=True)]
    if facts.needs_mask:
        hooks.append(talker.module.register_forward_pre_hook(give_mask, with_kwargs=True))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
