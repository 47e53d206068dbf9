"""What ``oscar-x demo`` measures. Two phases: the context goes into each cache first, then everything is read from it.

A plain generate() would take its first answer token from the exact keys and values of the prefill.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import torch
from transformers import DynamicCache

from oscar_x.cache import OscarCache
from oscar_x.evals.corpus import load_text
from oscar_x.evals.method import held_bytes
from oscar_x.prompts import tokenizer_of

if TYPE_CHECKING:
    from oscar_x.model import OscarModel

_QUESTION_GOES_HERE = "\n\n<question goes here>"
SCORED_TOKENS = 256


@dataclass
class Side:
    """A transformers model with one cache: what it holds, how fast it is, and its answer so far."""

    name: str
    model: Any
    tokenizer: Any
    cache: Any
    cache_bytes: int = 0
    prefill_rate: float = 0.0
    step_seconds: list[float] = field(default_factory=list)
    answer: list[int] = field(default_factory=list)

    @property
    def decode_rate(self) -> float:
        """Tokens a second of the decode steps, 0 without any; the question, read in one go, is not one of them."""
        return len(self.step_seconds) / sum(self.step_seconds) if self.step_seconds else 0.0

    @property
    def text(self) -> str:
        """The answer so far."""
        return self.tokenizer.decode(self.answer, skip_special_tokens=True).strip()

    def read(self, context: torch.Tensor) -> None:
        """Prefill the context, time it, and take the cache's size."""
        started = time.perf_counter()
        float(next_logits(self.model, self.cache, context)[0])  # waits for the device
        self.prefill_rate = len(context) / (time.perf_counter() - started)
        self.cache_bytes = bytes_of(self.cache)

    def decode(self, question: torch.Tensor, limit: int, ends: set[int]) -> Iterator[None]:
        """Answer greedily, yielding after every token; works on a copy of the cache, so that it can be scored later."""
        cache = self.cache.fork() if isinstance(self.cache, OscarCache) else copy.deepcopy(self.cache)
        tokens = question
        for step in range(limit):
            started = time.perf_counter()
            token = int(next_logits(self.model, cache, tokens).argmax())
            if step:
                self.step_seconds.append(time.perf_counter() - started)
            if token in ends:
                return
            self.answer.append(token)
            yield
            tokens = torch.tensor([token])


@dataclass(frozen=True)
class Task:
    """Token tensors, int64 [tokens]: the context, the question after it, and the text that really follows it."""

    context: torch.Tensor
    question: torch.Tensor
    scored: torch.Tensor
    ends: set[int]


def make_sides(model: OscarModel) -> tuple[Side, Side]:
    """The full cache of transformers, and the compressed one."""
    shared = (model.model, tokenizer_of(model.processor))
    full = DynamicCache(config=model.model.config)
    _warm_up(model)
    return Side("full cache", *shared, full), Side(compressed_name(model), *shared, model.new_cache())


def _warm_up(model: OscarModel) -> None:
    """Pack a prompt and decode from it, so that what is compiled at its first use is not timed later."""
    cache = model.new_cache()
    prompt = model.config.block_size + model.config.residual_length + model.config.most_sinks
    for count in (prompt, 1):
        next_logits(model.model, cache, torch.zeros(count, dtype=torch.int64))


def compressed_name(model: OscarModel) -> str:
    """What people read above the compressed side."""
    return "calibrated cache" if model.profile is not None else f"{model.config.key_bits}-bit cache"


def make_task(model: OscarModel, *, text: str, question: str, context: int, max_new_tokens: int) -> Task:
    """Tokens of a text's beginning and of a question about it, in the model's chat format where it has one.

    Raises:
        ValueError: a context longer than the text or than the model can read.
    """
    tokenizer = tokenizer_of(model.processor)
    body = tokenizer(load_text(text), add_special_tokens=False, verbose=False)["input_ids"]
    if len(body) < context:
        raise ValueError(f"context={context} is not allowed: the text {text!r} has {len(body)} tokens")
    message = tokenizer.decode(body[:context]) + _QUESTION_GOES_HERE
    rendered = message
    if tokenizer.chat_template is not None:
        conversation = [{"role": "user", "content": message}]
        rendered = tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
    before, after = rendered.split(_QUESTION_GOES_HERE)
    head, tail = (tokenizer(part, add_special_tokens=False)["input_ids"] for part in (before, f"\n\n{question}{after}"))
    following = body[context : context + SCORED_TOKENS]
    longest = getattr(model.model.config.get_text_config(decoder=True), "max_position_embeddings", None)
    needed = len(head) + max(len(tail) + max_new_tokens, len(following))
    if longest is not None and needed > longest:
        raise ValueError(
            f"context={context} is not allowed: with the question and answer it needs {needed} tokens and the model "
            f"reads {longest}; use at most {context - (needed - longest)}"
        )
    context_ids, question_ids, following_ids = (torch.tensor(ids) for ids in (head, tail, following))
    return Task(context_ids, question_ids, following_ids, _end_tokens(model.model, tokenizer))


def answer_in_turn(sides: tuple[Side, ...], task: Task, limit: int) -> Iterator[None]:
    """Decode every side's answer, one token of each in turn."""
    for _ in zip_longest(*(side.decode(task.question, limit, task.ends) for side in sides)):
        yield


def next_logits(model: Any, cache: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Logits [vocabulary] of the token after int64 tokens [n], which follow what the cache holds."""
    with torch.no_grad():
        inputs = tokens[None].to(model.device)
        return model(input_ids=inputs, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[0, -1]


def bytes_of(cache: Any) -> int:
    """Allocated bytes of everything that a cache holds."""
    if isinstance(cache, OscarCache):
        return cache.memory().total
    return held_bytes([(layer.keys, layer.values) for layer in cache.layers])


def _end_tokens(model: Any, tokenizer: Any) -> set[int]:
    ends = model.generation_config.eos_token_id
    found = ends if isinstance(ends, list) else [ends]
    return {token for token in (*found, tokenizer.eos_token_id) if token is not None}
