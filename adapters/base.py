"""What oscar_x must know about a model family, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
        sound_in_video: whether it can hear the sound track of a video it watches.
        rope_index: path from the generating module to the method that places tokens on several rotary axes
            (M-RoPE, TMRoPE); None where tokens are simply counted.
        rope_arguments: arguments of that method that the processor's output does not hold by their name, each with a
            function that makes it from the output.
        processor_arguments: makes further arguments of the processor from the loaded media.
    """

    kinds: tuple[str, ...]
    fps: float | None = None
    num_frames: int | None = None
    sound_in_video: bool = False
    rope_index: str | None = None
    rope_arguments: Mapping[str, Callable[[Mapping[str, Any]], Any]] = field(default_factory=dict)
    processor_arguments: Callable[[Any], dict[str, Any]] = _nothing_more

    def __post_init__(self) -> None:
        object.__setattr__(self, "rope_arguments", MappingProxyType(dict(self.rope_arguments)))


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
    norm_offset: float = 0.0
    notes: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "short_names", MappingProxyType(dict(self.short_names)))

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
