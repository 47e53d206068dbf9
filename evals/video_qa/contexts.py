"""Phase one: a clip is read once, and its states are packed by every method."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from ...cache import OscarCache
from ...calibration.replay import States, fill
from ...config import resolve_config
from ...media import parse_parts
from ...modality import ModalityStream
from ...session import Session, SessionState
from ..baselines.base import Baseline, BaselineLayer, Segment
from ..method import Footprint, Method
from .questions import Clip

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from ...model import OscarModel


class ContextRecorder(OscarCache):
    """An uncompressed cache that remembers every layer's keys and values as the model hands them over.

    Sliding-window layers keep only their window; what they were given is needed whole to feed other caches.
    """

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config, resolve_config(kv_bits=16))
        self.states: States = {}

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any):
        """Take a layer's new states; the prompt's alone are remembered."""
        if layer_idx not in self.states:
            self.states[layer_idx] = (key_states, value_states)
        return super().update(key_states, value_states, layer_idx, *args, **kwargs)


@dataclass(frozen=True)
class Context:
    """A clip that has been read.

    Attributes:
        session: stands behind the clip, where a question comes next.
        states: keys and values of every layer. Attention over a prompt is exact whatever the cache, so one forward
            pass serves all methods.
        stream: what every token is and where it stands.
    """

    session: Session
    states: States
    stream: ModalityStream

    @property
    def tokens(self) -> int:
        return self.stream.shape[1]


def read_clip(model: OscarModel, clip: Clip) -> Context:
    """Run the model over a clip's media.

    Raises:
        MediaError: a medium that is broken, too large, or not for this model; names the clip.
    """
    recorder = ContextRecorder(model.model.config)
    session = Session(model, recorder, SessionState(use_audio_in_video=clip.use_audio_in_video))
    session.read(parse_parts(clip.content(), model.media_limits, f"clip {clip.id}"), None)
    return Context(session, recorder.states, recorder.modalities)


@dataclass(frozen=True)
class PackedContext:
    """A context in one method's cache, with no exact tokens left but those that the method keeps on purpose.

    Attributes:
        fork: makes a cache that goes on from here on its own.
    """

    fork: Callable[[], Cache]
    footprint: Footprint


def pack(model: OscarModel, context: Context, method: Method) -> PackedContext:
    """Phase one of a method: all of the context goes into its cache and is packed."""
    cache = fill(method.new_cache(model.model), context.states, context.stream)
    if method.packs:
        cache.flush()
    footprint = method.footprint(cache)
    for layer in cache.layers:
        if isinstance(layer, BaselineLayer):
            layer.method = RestoredOnce(layer.method, layer.segments)  # type: ignore[assignment]
    return PackedContext(lambda: fork(cache), footprint)


class RestoredOnce:
    """A method that reads the segments of one context back once for all questions, which changes no number."""

    def __init__(self, method: Baseline, segments: list[Segment]) -> None:
        self._method = method
        self._restored = {id(segment): (segment, method.restore(segment)) for segment in segments}

    def restore(self, segment: Segment) -> tuple[torch.Tensor, torch.Tensor]:
        """As Baseline.restore."""
        known = self._restored.get(id(segment))
        return self._method.restore(segment) if known is None else known[1]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._method, name)


def fork(cache: Cache) -> Cache:
    """A cache that goes on from the same tokens on its own; what is packed is shared."""
    if isinstance(cache, OscarCache):
        return cache.fork()
    twin = copy.copy(cache)
    twin.layers = [_twin(layer) for layer in cache.layers]
    return twin


def _twin(layer: Any) -> Any:
    if isinstance(layer, BaselineLayer):
        twin = copy.copy(layer)
        twin.segments = list(layer.segments)
        return twin
    # layers of keys and values replace their tensors and never write into them
    return copy.copy(layer) if isinstance(layer, DynamicLayer) else copy.deepcopy(layer)
