"""What oscar_x must know about a model family, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from oscar_x.errors import UnsupportedModelError


def follow(root: Any, path: str) -> Any:
    """The attribute at a dotted path below ``root``; an empty path is ``root`` itself.

    Raises:
        UnsupportedModelError: the path does not exist, so the adapter does not describe this model.
    """
    found = root
    for name in filter(None, path.split(".")):
        if not hasattr(found, name):
            raise UnsupportedModelError(
                f"{type(root).__name__} has no attribute {path!r}: its adapter does not fit this version of the model"
            )
        found = getattr(found, name)
    return found


def _nothing_more(media: Any) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class MediaFacts:
    """What a family reads beside text.

    Attributes:
        kinds: kinds of message parts it reads, of "image", "video" and "audio".
        fps: video frames taken a second where the user does not say; None where the family takes a fixed number.
        num_frames: that number.
        max_frames: the most frames of a video it was made for; None where only the limits say.
        mixes: whether one prompt, or one batch of prompts, may hold media of several kinds.
        equal_frames: whether all videos of a prompt, or of a batch of prompts, must have as many frames.
        sound_in_video: whether it can hear the sound track of a video it watches.
        audio_window: whether its processor cuts sounds off behind the feature extractor's window (``chunk_length``
            seconds); longer ones are refused then.
        grid_seconds: the processor's output that holds the seconds from one temporal grid of a video to the next,
            where the processor takes one frame rate for all videos; each video's own is put there. None where it
            reads the rates from the videos' metadata, or the model does not ask.
        rope_index: path from the generating module to the method that places tokens on several rotary axes
            (M-RoPE, TMRoPE); None where tokens are simply counted.
        rope_arguments: arguments of that method that the processor's output does not hold by their name, each with a
            function that makes it from the output.
        token_types: name of the input that says of each token, counted from the start of the sequence, what kind of
            medium it is, where attention inside a medium goes both ways; None where it never does.
        since: the first version of transformers that will do, where that is later than for other families.
        processor_arguments: makes further arguments of the processor from the loaded media.
    """

    kinds: tuple[str, ...]
    fps: float | None = None
    num_frames: int | None = None
    max_frames: int | None = None
    mixes: bool = True
    equal_frames: bool = False
    sound_in_video: bool = False
    audio_window: bool = False
    grid_seconds: str | None = None
    rope_index: str | None = None
    rope_arguments: Mapping[str, Callable[[Mapping[str, Any]], Any]] = field(default_factory=dict)
    token_types: str | None = None
    since: str | None = None
    processor_arguments: Callable[[Any], dict[str, Any]] = _nothing_more

    def __post_init__(self) -> None:
        object.__setattr__(self, "rope_arguments", MappingProxyType(dict(self.rope_arguments)))


@dataclass(frozen=True)
class SpeechFacts:
    """How a family speaks: a talker turns the thinker's text into codes, a vocoder the codes into sound.

    Attributes:
        talker: path from the model to the talker.
        decoder: path from the talker to its decoder.
        speakers: path from the model to a mapping whose keys are the speakers' names.
        columns: which columns of the thinker's prompt the talker reads: (config, input_ids [batch, columns]) -> bool
            [batch, columns].
        added: columns that the talker's prompt has behind those.
        sampling_rate: samples a second of the waveform.
        config: path from the model's config to the talker's.
        voices: file of the checkpoint that the model's load_speakers() reads; None where the config holds the speakers.
        needs_mask: whether the talker begins its codes and places its tokens only where it sees an attention mask;
            recent transformers leave it out where nothing is padded.
        lent: settings of the thinker's config that the talker's code reads though its own config lacks them.
    """

    talker: str
    decoder: str
    speakers: str
    columns: Callable[[Any, Any], Any]
    added: int
    sampling_rate: int
    config: str = "talker_config"
    voices: str | None = None
    needs_mask: bool = False
    lent: tuple[str, ...] = ()


@dataclass(frozen=True)
class Adapter:
    """Facts of one model family. Adding a family is one module of this package with an ``ADAPTER``.

    Attributes:
        name: the family's usual name.
        model_types: values of ``config.model_type`` this adapter serves.
        short_names: convenient names and the hub ids they stand for; the first is the family's default.
        auto_class, processor_class: classes of transformers that load the model and its tokenizer or processor.
        decoder: path from the model to its text decoder; None asks the model (``get_decoder()``).
        layers, rotary: paths from the decoder to its layers and its rotary embedding.
        input_norm, attention: paths from a layer to the RMSNorm before attention and to the attention module.
        key_projection: path from the attention module to the linear map that makes the keys.
        key_bias: path from the attention module to that map's bias, where the bias reaches the cached keys
            unchanged; None where there is none or a norm follows it.
        media: what it reads beside text; None for text models.
        generator: path from the loaded model to the module that generates text; empty where that is the model.
        speech: how it speaks; None where it only writes.
        norm_offset: added to an RMSNorm's stored weight to give its gain (1 where weights are stored minus one).
        notes: what a user should know about the family's cache; shown by ``oscar-x info``.
    """

    name: str
    model_types: tuple[str, ...]
    short_names: Mapping[str, str] = field(default_factory=dict)
    auto_class: str = "AutoModelForCausalLM"
    processor_class: str = "AutoTokenizer"
    decoder: str | None = None
    layers: str = "layers"
    rotary: str = "rotary_emb"
    input_norm: str = "input_layernorm"
    attention: str = "self_attn"
    key_projection: str = "k_proj"
    key_bias: str | None = None
    media: MediaFacts | None = None
    generator: str = ""
    speech: SpeechFacts | None = None
    norm_offset: float = 0.0
    notes: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "short_names", MappingProxyType(dict(self.short_names)))

    def as_talker(self) -> Adapter:
        """The facts of the talker, as of a model by itself."""
        assert self.speech is not None
        return replace(self, generator="", decoder=self.speech.decoder, speech=None)

    def find_generator(self, model: Any) -> Any:
        """The module of a loaded model whose generate() makes text."""
        return follow(model, self.generator)

    def find_decoder(self, model: Any) -> Any:
        """The text decoder of a loaded model."""
        return self.find_generator(model).get_decoder() if self.decoder is None else follow(model, self.decoder)

    def find_layers(self, model: Any) -> Any:
        """The decoder layers of a loaded model, in the order of their layer_idx."""
        return follow(self.find_decoder(model), self.layers)

    def find_rotary(self, model: Any) -> Any:
        """The rotary embedding module of a loaded model."""
        return follow(self.find_decoder(model), self.rotary)
