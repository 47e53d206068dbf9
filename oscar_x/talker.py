"""The talker of an omni model: its cache, and what its code needs from outside while it generates."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .adapters.base import Adapter, SpeechFacts, follow
from .cache import OscarCache
from .config import OscarConfig
from .key_bias_detect import detect_key_biases
from .modality import Modality, ModalityStream
from .prompts import Prompt
from .report import LayerReport, layer_reports


class Talker:
    """The talker of a loaded model.

    Attributes:
        module: the talker itself.
        facts: how the family speaks.
        adapter: the talker's facts, as of a model by itself.
        config: the compression settings.
        key_biases: key-projection biases taken out before compression, by layer index.
    """

    def __init__(self, module: Any, facts: SpeechFacts, adapter: Adapter, config: OscarConfig) -> None:
        self.module = module
        self.facts = facts
        self.adapter = adapter
        self.config = config
        wanted = config.compresses and config.key_bias == "auto"
        self.key_biases = detect_key_biases(module, adapter) if wanted else {}

    def new_cache(self) -> OscarCache:
        """An empty cache; what is generated into it are codes."""
        biases = self.key_biases or None
        return OscarCache(self.module.config, self.config, key_biases=biases, generated=Modality.CODEC)

    def report(self) -> list[LayerReport]:
        """What happens to each layer's cache and why."""
        return layer_reports(self.module, self.adapter, self.config, self.key_biases)

    def stream(self, model_config: Any, prompt: Prompt) -> ModalityStream:
        """What the columns of its prompt are: those of the thinker's that it reads, and the start of its codes."""
        read = self.facts.columns(model_config, prompt["input_ids"])[0].nonzero()[:, 0]
        return prompt.stream.take(read).fit(1, len(read) + self.facts.added, Modality.CODEC)

    @contextmanager
    def ready(self, cache: OscarCache, stream: ModalityStream, thinker_config: Any) -> Iterator[None]:
        """For the time of a generation into this cache, makes up for what the talker's code lacks.

        Args:
            stream: of its prompt; the cache is told it, with the positions that only the talker's code works out.
            thinker_config: lends settings that the talker's code reads and its own config has not.
        """
        config = self.module.config
        lent = [name for name in self.facts.lent if not hasattr(config, name)]
        for name in lent:
            setattr(config, name, getattr(thinker_config, name))
        hooks = self._hooks(cache, stream)
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            for name in lent:
                delattr(config, name)

    def _hooks(self, cache: OscarCache, stream: ModalityStream) -> list[Any]:
        def give_mask(module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            if kwargs.get("attention_mask") is None:
                new = kwargs["input_ids"] if kwargs.get("inputs_embeds") is None else kwargs["inputs_embeds"]
                columns = cache.get_seq_length() + new.shape[1]
                kwargs["attention_mask"] = torch.ones(1, columns, dtype=torch.int64, device=new.device)
            return args, kwargs

        def tell(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
            positions = kwargs.get("position_ids")
            if cache.get_seq_length() == 0 and positions is not None:
                cache.expect_prompt(stream.shape[1], replace(stream, positions=_placed(positions)))

        cache.expect_prompt(stream.shape[1], stream)
        hooks = [self.adapter.find_decoder(self.module).register_forward_pre_hook(tell, with_kwargs=True)]
        if self.facts.needs_mask:
            hooks.append(self.module.register_forward_pre_hook(give_mask, with_kwargs=True))
        return hooks


def find_talker(model: Any, adapter: Adapter, config: OscarConfig) -> Talker | None:
    """The talker of a loaded model; None where it only writes, or was loaded without."""
    facts = adapter.speech
    if facts is None or not hasattr(model, facts.talker):
        return None
    return Talker(follow(model, facts.talker), facts, adapter.as_talker(), config)


def _placed(positions: Tensor) -> Tensor:
    """[3, batch, columns] as a stream keeps it; a fourth axis before them counts the columns."""
    positions = positions[-3:].cpu()
    return positions if positions.is_floating_point() else positions.int()
