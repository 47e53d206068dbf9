"""Phase two: each question is put behind a fork of the packed context, and its options are weighed.

An option's score is the log-likelihood of its tokens as the beginning of the answer. Where one option's tokens are the
beginning of another's, every option counts with the token that ends an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from transformers import Cache

from ...placement import place
from ...prompts import tokenizer_of
from .contexts import Context, PackedContext, fork
from .questions import LETTERS, Question

if TYPE_CHECKING:
    from ...model import OscarModel

AnswerForm = Literal["letters", "words"]
FORMS: tuple[AnswerForm, ...] = ("letters", "words")
INSTRUCTION = "Answer with the letter of the right option."


@dataclass(frozen=True)
class Asked:
    """A question as the model reads it.

    Attributes:
        inputs: of the forward pass: token ids [1, tokens] and, where the model has several rotary axes, positions.
        options: token ids of each option.
    """

    question: Question
    inputs: dict[str, torch.Tensor]
    options: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Scores:
    """Log-likelihoods of a question's options, and the packed tokens that were read for them."""

    options: tuple[float, ...]
    packed_reads: int

    @property
    def choice(self) -> int:
        return max(range(len(self.options)), key=self.options.__getitem__)


def question_text(question: Question, form: AnswerForm) -> str:
    """What the user says.

    With letters the options are listed under the question and their letters are weighed; with words the question
    stands alone and the options themselves are weighed.

    Raises:
        ValueError: more options than letters.
    """
    if form == "words":
        return question.text
    if len(question.options) > len(LETTERS):
        raise ValueError(f"question {question.id!r} has {len(question.options)} options; use answer form words")
    listed = [f"{letter}. {option}" for letter, option in zip(LETTERS, question.options, strict=False)]
    return "\n".join([question.text, *listed, INSTRUCTION])


def ask(model: OscarModel, context: Context, question: Question, form: AnswerForm) -> Asked:
    """The question's tokens and their places behind a context."""
    prompt = context.session.prepare(question_text(question, form))
    positions = place(model.adapter, model.model, prompt, prompt.stream, context.stream)
    inputs = {"input_ids": prompt["input_ids"]} | ({} if positions is None else {"position_ids": positions})
    answers = LETTERS[: len(question.options)] if form == "letters" else question.options
    return Asked(question, inputs, option_tokens(model, answers))


def option_tokens(model: OscarModel, options: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Token ids of each option; with the end of the answer where one option is the beginning of another.

    Raises:
        ValueError: two options that the tokenizer writes alike, or one that has no tokens.
    """
    tokenizer = tokenizer_of(model.processor)
    tokens = [tuple(tokenizer(option, add_special_tokens=False)["input_ids"]) for option in options]
    if not all(tokens) or len(set(tokens)) < len(tokens):
        raise ValueError(f"options {list(options)} are not told apart by the tokenizer")
    if any(a != b and b[: len(a)] == a for a in tokens for b in tokens):
        end = model.generator.generation_config.eos_token_id
        tokens = [(*option, end if isinstance(end, int) else end[0]) for option in tokens]
    return tuple(tokens)


@torch.inference_mode()
def score(model: OscarModel, packed: PackedContext, asked: Asked) -> Scores:
    """Weigh the options of a question. The packed context stays as it is."""
    cache = packed.fork()
    before = _reads(cache)
    first = _log_probs(model, cache, asked.inputs)[-1]
    reads, found = _reads(cache) - before, []
    for option in asked.options:
        total = float(first[option[0]])
        if len(option) > 1:
            twin = fork(cache)
            rows = _log_probs(model, twin, _behind(asked.inputs, option[:-1]))
            total += sum(float(row[token]) for row, token in zip(rows, option[1:], strict=True))
            reads += _reads(twin) - _reads(cache)
        found.append(total)
    return Scores(tuple(found), reads)


def _behind(inputs: dict[str, torch.Tensor], tokens: Sequence[int]) -> dict[str, torch.Tensor]:
    """Inputs of tokens that follow a question."""
    following = {"input_ids": inputs["input_ids"].new_tensor([tokens])}
    if (positions := inputs.get("position_ids")) is not None:
        steps = torch.arange(1, len(tokens) + 1, dtype=positions.dtype, device=positions.device)
        following["position_ids"] = positions[..., -1:].amax(0, keepdim=True) + steps.expand(len(positions), 1, -1)
    return following


def _log_probs(model: OscarModel, cache: Cache, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """float32 [tokens, vocabulary]."""
    device = model.model.device
    moved = {name: tensor.to(device) for name, tensor in inputs.items()}
    return model.generator(**moved, past_key_values=cache, use_cache=True).logits[0].float().log_softmax(-1)


def _reads(cache: Any) -> int:
    return getattr(cache, "packed_reads", 0)
