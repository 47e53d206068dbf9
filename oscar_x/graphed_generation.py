"""transformers' generate() with decoding steps of fixed shapes (graphed_decode.py) in place of its own loop.

transformers prepares prompt, settings, logits processors and stopping criteria as ever; its hook for decoding methods,
``custom_generate``, then hands them to decode() below.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from inspect import signature
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList
from transformers.generation import GenerateDecoderOnlyOutput, StopStringCriteria

from .cache import OscarCache
from .graphed_checks import check_arguments, check_mask, check_settings, checked_cache
from .graphed_decode import ROOM, GraphedDecode


def graphed_arguments(model: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments with which ``model.generate()`` decodes in steps of fixed shapes.

    Args:
        model: its attention must be "oscar".
        arguments: for generate(), with an OscarCache as ``past_key_values`` when it is called.

    Raises:
        ValueError: an argument that asks for another loop, or a cache that fixed shapes cannot serve.
        RuntimeError: a version of transformers without the hook.
    """
    if "custom_generate" not in signature(model.generate).parameters or not hasattr(model, "_prefill"):
        raise RuntimeError(f"graphed=True: transformers {transformers.__version__} takes no decoding method of others")
    check_arguments(model, arguments)
    # transformers hands neither the streamer nor the tokenizer on to a decoding method that is not its own
    given = {**arguments, "custom_generate": partial(decode, streamer=arguments.get("streamer"))}
    if given.get("stop_strings"):
        criterion = StopStringCriteria(stop_strings=given.pop("stop_strings"), tokenizer=given.pop("tokenizer"))
        given["stopping_criteria"] = StoppingCriteriaList([*(given.get("stopping_criteria") or ()), criterion])
    return given


def decode(
    model: Any,
    input_ids: Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    streamer: Any = None,
    **model_kwargs: Any,
) -> GenerateDecoderOnlyOutput | Tensor:
    """What transformers' own greedy search and sampling do, but for the steps behind the prompt.

    Returns:
        As generate(): token ids [batch, prompt + new tokens], or an output with them where the settings ask for it.

    Raises:
        ValueError: settings, a cache or a mask that fixed shapes cannot serve; the cache stays as it was.
    """
    check_settings(generation_config)
    cache = checked_cache(model, model_kwargs.get("past_key_values"))
    check_mask(cache, model_kwargs.get("attention_mask"))
    positions = model_kwargs.get("position_ids")
    room = max(1, min(ROOM, generation_config.max_length - input_ids.shape[1]))
    text = _Text(input_ids, logits_processor, stopping_criteria, generation_config, streamer)
    text.add(model._prefill(input_ids, generation_config, model_kwargs).logits[:, -1])
    steps: GraphedDecode | None = None
    with model._optimize_model_for_decode():
        while not text.finished:
            steps = steps or GraphedDecode(model, cache, tokens=room)
            positions = None if positions is None else positions[..., -1:] + 1
            text.add(steps.step(text.input_ids[:, -1:], positions))
    return text.result(cache)


class _Text:
    """The rows of a batch as they are written."""

    def __init__(
        self,
        input_ids: Tensor,
        processor: LogitsProcessorList,
        criteria: StoppingCriteriaList,
        config: GenerationConfig,
        streamer: Any,
    ) -> None:
        self.input_ids, self.processor, self.criteria = input_ids, processor, criteria
        self.config, self.streamer = config, streamer
        self.finished = False
        self._open = torch.ones(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)
        self._ends = any(hasattr(criterion, "eos_token_id") for criterion in criteria)
        as_output = config.return_dict_in_generate
        self._scores: tuple[Tensor, ...] | None = () if as_output and config.output_scores else None
        self._logits: tuple[Tensor, ...] | None = () if as_output and config.output_logits else None

    def add(self, logits: Tensor) -> None:
        """Choose each row's next token from logits [batch, vocabulary]."""
        logits = logits.to(self.input_ids.device, torch.float32, copy=True)  # a prompt's would be kept alive by a view
        scores = self.processor(self.input_ids, logits)
        if self._scores is not None:
            self._scores += (scores,)
        if self._logits is not None:
            self._logits += (logits,)
        if self.config.do_sample:
            tokens = torch.multinomial(scores.softmax(-1), num_samples=1).squeeze(1)
        else:
            tokens = scores.argmax(-1)
        if self._ends:
            tokens = torch.where(self._open, tokens, self.config._pad_token_tensor.to(tokens.device))
        self.input_ids = torch.cat([self.input_ids, tokens[:, None]], dim=1)
        self._open &= ~self.criteria(self.input_ids, self._scores)
        if self.streamer is not None:
            self.streamer.put(tokens.cpu())
        self.finished = not bool(self._open.any())

    def result(self, cache: OscarCache) -> GenerateDecoderOnlyOutput | Tensor:
        """What generate() returns."""
        if self.streamer is not None:
            self.streamer.end()
        if not self.config.return_dict_in_generate:
            return self.input_ids
        return GenerateDecoderOnlyOutput(
            sequences=self.input_ids, scores=self._scores, logits=self._logits, past_key_values=cache
        )
