"""Decoding steps of fixed shapes: on a GPU captured once as a CUDA graph and replayed."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from .cache import OscarCache
from .cache.layer import OscarLayer
from .cache.static import StaticNumbers, static_layers
from .cache.tables import upload

ROOM = 1024  # tokens to make room for at a time: more than that costs another capture
WARM_UPS = 2  # passes before a capture: kernels are compiled and libraries make their workspaces


class GraphedDecode:
    """Gives a model one token a row at a time, without waiting for the device between packed blocks.

    Only packing, every block_size tokens, runs outside of the graph. The cache may be used in other ways between
    steps: what it holds is looked at before each, and a graph whose storage moved is captured anew.

    Args:
        model: its attention must be "oscar".
        cache: holds a prompt; every layer must be compressed, since others grow by allocating.
        tokens: room to make at a time; more than that costs another capture.
        capture: whether to capture; on a CPU the same steps run as they are.

    Raises:
        ValueError: a cache without a prompt or with other layers, or another attention.
    """

    def __init__(
        self, model: PreTrainedModel, cache: OscarCache, *, tokens: int = ROOM, capture: bool | None = None
    ) -> None:
        self.model, self.cache, self.room = model, cache, tokens
        self.layers = packed_layers(model, cache)
        if not all(layer.is_initialized for layer in self.layers):
            raise ValueError("cache holds no prompt yet")
        self._window = min((plan.sliding_window for plan in cache.layer_plan if plan.sliding_window), default=None)
        self.captures = 0
        device = self.layers[0].device
        self.captured = device.type == "cuda" if capture is None else capture
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: dict[str, torch.Tensor] = {}
        self._places: tuple[int, ...] = ()
        self._counts: list[list[int]] = []
        self._make_room()

    def step(self, input_ids: torch.Tensor, position_ids: torch.Tensor | None = None) -> torch.Tensor:
        """Take in one token a row.

        Args:
            input_ids: int64 [batch, 1].
            position_ids: as the model takes them, for one column; by default each row's number of tokens, padding not
                counted. Models with several rotary axes need them once a medium is in the cache.

        Returns:
            Logits of the next token, [batch, vocabulary].

        Raises:
            ValueError: another batch size than the cache's; missing position_ids; a sliding window that is exceeded.
        """
        batch = len(self.layers[0].rows)
        if tuple(input_ids.shape) != (batch, 1):
            raise ValueError(f"input_ids has shape {tuple(input_ids.shape)}; the cache takes {(batch, 1)}")
        if self._window is not None and self.cache.get_seq_length() >= self._window:
            raise ValueError(f"a step sees every token; the model's sliding window of {self._window} tokens is full")
        if position_ids is None:
            position_ids = self._default_positions()
        # storage that was made in inference mode can be changed in that mode alone
        with torch.inference_mode(self.layers[0].exact.keys.is_inference()), torch.no_grad():
            self._prepare({"input_ids": input_ids, "position_ids": position_ids})
            logits = self._replay() if self.captured else self._forward()
            self._count()
            return logits.clone()

    def _default_positions(self) -> torch.Tensor:
        stream = self.cache.shared.stream
        if stream is not None and stream.positions is not None:
            raise ValueError("position_ids is missing: the cache holds tokens with positions on several axes")
        held = [[sum(stop - start for start, stop in row.spans)] for row in self.layers[0].rows]
        return upload(held, self.layers[0].device)

    def _prepare(self, inputs: dict[str, torch.Tensor]) -> None:
        """Packs what is due, and brings what a step reads up to date; forgets the graph where storage moved."""
        for layer in self.layers:
            layer.pack_due()
        most = max(len(row.blocks) for layer in self.layers for row in layer.rows)
        if most > self.numbers[0].blocks or len(self.layers[0].rows) != len(self.starts[0]):
            self._make_room()
        for layer, numbers in zip(self.layers, self.numbers, strict=True):
            layer.exact.ensure(max(row.exact for row in layer.rows) + 1)
            numbers.show(layer)
        counts = [[row.exact for row in layer.rows] for layer in self.layers]
        if counts != self._counts:
            self._set_counts(counts)
        for name, tensor in inputs.items():
            held = self._inputs.get(name)
            if held is None or held.shape != tensor.shape or held.dtype != tensor.dtype:
                self._inputs[name] = torch.empty_like(tensor, device=self.layers[0].device)
                self._graph = None
            self._inputs[name].copy_(tensor, non_blocking=True)
        places = _addresses(self.layers, self.numbers)
        if places != self._places:
            self._places, self._graph = places, None

    def _make_room(self) -> None:
        device, batch = self.layers[0].device, len(self.layers[0].rows)
        blocks = max(layer.reserve(self.room) for layer in self.layers)
        self.starts, self.ends = torch.zeros(2, len(self.layers), batch, dtype=torch.int64, device=device)
        self.numbers = [
            StaticNumbers.of(layer, blocks, start, end)
            for layer, start, end in zip(self.layers, self.starts, self.ends, strict=True)
        ]
        self._counts, self._graph = [], None

    def _set_counts(self, counts: list[list[int]]) -> None:
        self._counts = counts
        self.ends.copy_(upload(counts, self.ends.device))  # _forward() starts where the last step ended

    def _forward(self) -> torch.Tensor:
        """One step, with nothing in it that depends on how much the cache holds."""
        self.starts.copy_(self.ends)
        self.ends.add_(1)
        with static_layers(self.layers, self.numbers):
            output = self.model(**self._inputs, past_key_values=self.cache, use_cache=True)
        return output.logits[:, -1]

    def _replay(self) -> torch.Tensor:
        if self._graph is None:
            self._capture()
        assert self._graph is not None
        self._graph.replay()
        return self._logits

    def _capture(self) -> None:
        with torch.cuda.device(self.layers[0].device):
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(WARM_UPS):  # each writes the same token to the same slot
                    self._set_counts(self._counts)
                    self._forward()
                self._set_counts(self._counts)
            torch.cuda.current_stream().wait_stream(stream)
            self._graph = torch.cuda.CUDAGraph()
            # what other threads do with the device must not end a capture: stream() generates on one of its own
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self._logits = self._forward()
        self.captures += 1

    def _count(self) -> None:
        """What the step did to the layers, on the host."""
        for layer in self.layers:
            layer.packed_reads += layer.packed_tokens
            layer.count_new(1)
        self._counts = [[count + 1 for count in counts] for counts in self._counts]


def packed_layers(model: PreTrainedModel, cache: OscarCache) -> list[OscarLayer]:
    """The layers that steps of fixed shapes read: all of the cache's.

    Raises:
        ValueError: another attention than "oscar", rotary frequencies that follow the length, a model on several
            devices, or layers that are not compressed or not in place.
    """
    others = [index for index, layer in enumerate(cache.layers) if not isinstance(layer, OscarLayer)]
    if others:
        raise ValueError(f"cache has layers that are not compressed, {others}; they grow by allocating")
    config = model.config.get_text_config(decoder=True)
    if config._attn_implementation != "oscar":
        raise ValueError("model must have attention 'oscar', as oscar_x.load() sets it")
    rope_type = (getattr(config, "rope_parameters", None) or {}).get("rope_type")
    if rope_type in ("dynamic", "longrope"):
        raise ValueError(f"model has rope_type {rope_type!r}: its frequencies follow the length, a graph's do not")
    devices = sorted({str(parameter.device) for parameter in model.parameters()})
    if len(devices) > 1:
        raise ValueError(f"model is spread over {', '.join(devices)}; a captured step runs on one device")
    if cache.offloads:
        raise ValueError("cache keeps layers on the CPU; a captured step needs them in place")
    return cache.packed_layers


def _addresses(layers: list[OscarLayer], numbers: list[StaticNumbers]) -> tuple[int, ...]:
    """Where the storage lies that a captured step reads and writes."""
    tensors = (t for layer in layers for t in (layer.pool.records, layer.exact.keys, layer.exact.values))
    positions = (own.positions for own in numbers if own.positions is not None)
    return tuple(tensor.data_ptr() for tensor in (*tensors, *positions))
