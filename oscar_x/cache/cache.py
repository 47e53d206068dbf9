"""The cache that users hand to generate()."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from os import PathLike
from typing import Any

import torch
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache, DynamicLayer

from ..cache_settings import CacheSettings, Settings
from ..config import OscarConfig
from ..key_bias import KeyBias
from ..memory import MemoryReport
from ..modality import Modality, ModalityStream
from . import accounting, serialize
from .columns import batch_size, column_stream
from .layer import OscarLayer
from .plan import native_layers, plan_layers
from .shared import Shared

ATTENTION_NAME = "oscar"


class OscarCache(Cache):
    """A transformers cache that keeps full-attention layers packed and leaves other layers to transformers.

    `model.generate(**inputs, past_key_values=OscarCache(model.config))` works with any attention implementation:
    with "oscar" (what load() sets) attention runs on the packed blocks, with others update() returns dequantized
    states, and padding is packed like tokens. Where a text grows past the length at which rotary frequencies change,
    Phi-3's own generate() leaves the cache for another (docs/architecture.md); OscarModel.generate does not.

    Args:
        config: the model's config, composite ones included.
        oscar: compression settings: for all layers, a list of one for each, or by layer number (layers that are not
            named, as all when missing: preset "balanced").
        key_biases: for each layer with a large key-projection bias, that bias (OscarModel.new_cache finds them).
        offloading: keep layers on the CPU, each on its device only while it is in use.
        generated: what tokens behind the prompt are.
        weights: samples of the model's weights (oscar_x.weights.weight_samples), which save() keeps, so that load()
            can refuse those of another model; empty for none.

    Attributes:
        layer_settings: the compression settings of every layer.
        layer_plan: what is compressed and why not, a LayerPlan a layer.
        notes: what save() was told to keep with a cache that was loaded.
    """

    def __init__(
        self,
        config: PreTrainedConfig,
        oscar: Settings | None = None,
        *,
        key_biases: Mapping[int, KeyBias] | None = None,
        offloading: bool = False,
        generated: Modality = Modality.TEXT,
        weights: str = "",
    ) -> None:
        self.model_config = config
        self.layer_settings = _checked(oscar, config)
        self.layer_plan = plan_layers(config, self.layer_settings)
        self.shared = Shared(generated=generated)
        self.offloads = offloading
        self.weights = weights
        self.notes: dict[str, str] = {}
        self._resident: int | None = None
        # the layers know the config, not the cache: a cycle would keep storage alive until garbage is collected
        reads_packed = partial(_reads_packed, config.get_text_config(decoder=True))
        biases = key_biases or {}
        layers = native_layers(config)
        for plan in self.layer_plan:
            if plan.compressed:
                settings = self.layer_settings[plan.index]
                bias = biases.get(plan.index) if settings.key_bias == "auto" else None
                layers[plan.index] = OscarLayer(settings, bias, reads_packed, self.shared, plan.index)
        super().__init__(layers=layers)

    def __bool__(self) -> bool:
        """Whether anything is held: an empty cache counts as none. transformers' Phi-3 asks before it reads a long
        prompt, and would leave a cache that it takes for one of a short text."""
        return self.get_seq_length() > 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple:
        """Take a layer's new states; see OscarLayer.update."""
        if self.offloads:
            self._make_resident(layer_idx)
        return super().update(key_states, value_states, layer_idx, *args, **kwargs)

    def _make_resident(self, layer_idx: int) -> None:
        # attention over the previous layer is over by now: its storage may leave the device
        if self._resident not in (None, layer_idx):
            self.layers[self._resident].offload()
        self.layers[layer_idx].prefetch()
        self._resident = layer_idx

    @property
    def settings(self) -> OscarConfig:
        """The compression settings of layers that have none of their own."""
        return self.layer_settings.base

    @property
    def packed_reads(self) -> int:
        """Packed tokens read by attention so far, times the queries that read them, over all layers."""
        return sum(layer.packed_reads for layer in self.packed_layers)

    @property
    def packed_layers(self) -> list[OscarLayer]:
        """The compressed layers."""
        return [layer for layer in self.layers if isinstance(layer, OscarLayer)]

    def expect_prompt(self, columns: int, stream: ModalityStream | None = None) -> None:
        """Say how many columns, those held included, are prompt, and what the new ones of them are.

        Later columns are generated. The number is needed only where prompt and generated tokens come in one forward
        pass (assisted decoding), and heeded by attention "oscar" alone. OscarModel.generate says both.

        Args:
            columns: length of the prompt, what is held included.
            stream: what the columns behind those held are; text when missing.
        """
        self.shared.prompt_columns = columns
        if stream is not None:
            self.shared.tell(self.modalities.join(stream) if self.get_seq_length() else stream)

    @property
    def modalities(self) -> ModalityStream:
        """What every column held is: modality, medium, and rotary positions where a column has several."""
        columns = self.get_seq_length()
        rows = batch_size(self.layers)
        stream = self.shared.fitted(rows, columns) if rows else None
        return column_stream(self.layers, columns) if stream is None else stream

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the newest columns of every row; see OscarLayer.crop."""
        super().crop(tokens_to_remove)
        self._restream(lambda stream: stream.crop(self.get_seq_length()))

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        """Row i becomes what row beam_idx[i] was."""
        self._restream(lambda stream: stream.select(beam_idx))
        super().reorder_cache(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every row `repeats` times."""
        rows = batch_size(self.layers)
        super().batch_repeat_interleave(repeats)
        self._restream(lambda stream: stream.fit(rows * repeats, stream.shape[1]))

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep the rows at `indices`, in that order."""
        self._restream(lambda stream: stream.select(indices))
        super().batch_select_indices(indices)

    def reset(self) -> None:
        """Forget everything and free the storage."""
        super().reset()
        for layer, empty in zip(self.layers, native_layers(self.model_config), strict=True):
            if isinstance(layer, DynamicLayer) and layer.is_initialized:
                # earlier transformers only fills its layers with zeros, which new tokens would follow
                vars(layer).update(vars(empty))
        self.shared.tell(None)

    def _restream(self, change: Callable[[ModalityStream], ModalityStream]) -> None:
        if self.shared.stream is not None:
            self.shared.tell(change(self.modalities))

    def flush(self) -> None:
        """Pack every residual window now; a last block may stay partly empty."""
        for layer in self.packed_layers:
            layer.flush()

    def memory(self) -> MemoryReport:
        """Allocated bytes by part."""
        return accounting.report(self.layers, self.shared)

    def fork(self) -> OscarCache:
        """A cache that goes on from the same tokens on its own; packed blocks are shared, everything else copied."""
        twin = copy.copy(self)
        twin.shared = Shared(stream=self.shared.stream, generated=self.shared.generated)
        twin.layers = [layer.fork() if isinstance(layer, OscarLayer) else copy.deepcopy(layer) for layer in self.layers]
        for layer in twin.packed_layers:
            layer.shared = twin.shared
        return twin

    def save(self, path: str | PathLike[str], *, notes: Mapping[str, str] | None = None) -> None:
        """Write the cache to a safetensors file, whole or not at all.

        Args:
            notes: texts to keep with it; the loaded cache has them as ``notes``.

        Raises:
            OSError: the file cannot be written; one that was there stays as it was.
            ValueError: a layer whose state the format does not hold (linear attention).
        """
        serialize.save(self, path, notes or {})

    @classmethod
    def load(
        cls,
        path: str | PathLike[str],
        config: PreTrainedConfig,
        *,
        key_biases: Mapping[int, KeyBias] | None = None,
        weights: str = "",
        device: torch.device | str = "cpu",
    ) -> OscarCache:
        """Read a cache that save() wrote.

        Args:
            config: the config of the model that will use it.
            key_biases: as for the cache that was saved.
            weights: samples of that model's weights; empty where they are not to be compared (OscarModel.load_cache
                compares them).
            device: where to put the storage.

        Raises:
            FileNotFoundError: no such file.
            CacheFileError: not a cache file, truncated, of another format version, or made by another model
                or with other weights.
        """
        return serialize.load(cls, path, config, key_biases, weights, torch.device(device))


def _checked(oscar: Settings | None, config: PreTrainedConfig) -> CacheSettings:
    if isinstance(oscar, list | tuple) and len(oscar) != len(native_layers(config)):
        raise ValueError(f"oscar holds settings for {len(oscar)} layers; the model has {len(native_layers(config))}")
    return CacheSettings.of(oscar)


def _reads_packed(decoder_config: PreTrainedConfig) -> bool:
    return decoder_config._attn_implementation == ATTENTION_NAME
