"""Fidelity: how close a compressed cache stays to the full one, every method on the same sequences in one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from .corpus import token_sequences
from .fidelity_report import FidelityReport, MethodScores
from .method import Method
from .methods import FULL, all_methods, choose_methods
from .phases import Scores, continuation_logits, fill, record_prefix, score_method

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ..model import OscarModel
    from ..profile import Profile

    Subject = OscarModel | tuple[PreTrainedModel, PreTrainedTokenizerBase]

# done, total, what comes next
Progress = Callable[[int, int, str], None]


def run_fidelity(
    model: Subject,
    text: str,
    methods: Sequence[str] | None = None,
    *,
    sequences: int = 16,
    prefix: int = 1024,
    continuation: int = 255,
    seed: int = 0,
    profiles: Mapping[str, Profile] | None = None,
    model_name: str = "",
    text_name: str = "",
    progress: Progress | None = None,
) -> FidelityReport:
    """Score methods side by side in two phases: the whole prefix is compressed, then the continuation reads it.

    Args:
        model: an OscarModel, or a transformers model with its tokenizer.
        text: cut into sequences that do not overlap, spread over its length.
        methods: names of methods, in the order wanted; None for all that can run here.
        sequences, prefix, continuation: how many, and tokens of each part.
        seed: of the bootstrap intervals.
        profiles: calibrated settings to run beside the presets, method "oscar-NAME" for each name.
        model_name, text_name: what the report calls them.
        progress: called before every step with steps done, steps in all and the step's name.

    Raises:
        ProfileError: a profile for another model.
        ValueError: an unknown method, a text that is too short, or more tokens than the model has positions for.
        RuntimeError: a method whose packed tokens were never read.
    """
    hf_model, tokenizer, key_biases = _unwrap(model)
    for profile in (profiles or {}).values():
        profile.check(hf_model.config)
    chosen, skipped = choose_methods(methods, all_methods(key_biases, profiles))
    _check_positions(hf_model, prefix + continuation)
    batches = token_sequences(text, tokenizer, sequences, prefix + continuation + 1)
    report = progress or (lambda done, total, what: None)
    collected: dict[str, list[Scores]] = {method.name: [] for method in chosen}
    steps = len(chosen) + 1
    for index, tokens in enumerate(batches):
        note = _stepper(report, index * steps, sequences * steps, f"sequence {index + 1} of {sequences}")
        for method, scores in _score_sequence(hf_model, chosen, tokens, prefix, note):
            collected[method.name].append(scores)
    report(sequences * steps, sequences * steps, "done")
    return FidelityReport(
        model=model_name or hf_model.config.name_or_path or type(hf_model).__name__,
        settings={
            "sequences": sequences,
            "prefix": prefix,
            "continuation": continuation,
            "residual_length": 0,
            "seed": seed,
            "text": text_name,
            "dtype": str(hf_model.dtype).removeprefix("torch."),
            "device": str(hf_model.device),
            "skipped": skipped,
        },
        methods=[MethodScores(method, collected[method.name], seed) for method in chosen],
    )


@torch.no_grad()
def _score_sequence(
    model: PreTrainedModel, methods: list[Method], tokens: torch.Tensor, prefix: int, note: Callable[[str], None]
) -> list[tuple[Method, Scores]]:
    note("full cache")
    states = record_prefix(model, tokens[:prefix])
    full = fill(FULL.new_cache(model), states)
    reference = continuation_logits(model, full, tokens[prefix:-1]).log_softmax(dim=-1)
    scored = []
    for method in methods:
        note(method.label)
        scored.append((method, score_method(model, method, states, tokens[prefix:], reference)))
    return scored


def _stepper(report: Progress, done: int, total: int, where: str) -> Callable[[str], None]:
    steps = iter(range(done, total))

    def note(what: str) -> None:
        report(next(steps), total, f"{where}: {what}")

    return note


def _unwrap(model: Subject) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Any]:
    if isinstance(model, tuple):
        return (*model, None)
    return model.model, getattr(model.processor, "tokenizer", model.processor), model.key_biases or None


def _check_positions(model: PreTrainedModel, tokens: int) -> None:
    positions = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)
    if positions is not None and tokens > positions:
        raise ValueError(f"prefix + continuation = {tokens} tokens, but the model has {positions} positions")
