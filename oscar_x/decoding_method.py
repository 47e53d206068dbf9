"""Decoding methods of our own in transformers' generate(), through its hook ``custom_generate``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList
from transformers.generation import GenerateDecoderOnlyOutput, StopStringCriteria

from .cache import OscarCache


def with_method(arguments: Mapping[str, Any], decode: Callable[..., Any]) -> dict[str, Any]:
    """Arguments with which transformers' generate() prepares settings, logits processors and stopping criteria as ever
    and then leaves the decoding to ``decode``.

    Args:
        arguments: for generate(); ``stop_strings`` with the ``tokenizer`` that they are to be found with.
        decode: takes what transformers' own decoding methods take, the streamer too.

    Raises:
        ValueError: ``stop_strings`` without a tokenizer.
    """
    if arguments.get("stop_strings") and arguments.get("tokenizer") is None:
        raise ValueError("stop_strings needs tokenizer, the one they are to be found with")
    # transformers hands neither the streamer nor the tokenizer on to a decoding method that is not its own
    given = {**arguments, "custom_generate": partial(decode, streamer=arguments.get("streamer"))}
    if given.get("stop_strings"):
        criterion = StopStringCriteria(stop_strings=given.pop("stop_strings"), tokenizer=given.pop("tokenizer"))
        given["stopping_criteria"] = StoppingCriteriaList([*(given.get("stopping_criteria") or ()), criterion])
    return given


class GeneratedText:
    """The rows of a batch as greedy decoding and sampling write them.

    Attributes:
        input_ids: int64 [batch, tokens so far], the prompt included.
        finished: whether every row has ended.
    """

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
