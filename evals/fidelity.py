"""Fidelity: how close a compressed cache stays to the full one, every method on the same sequences in one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..adapters.registry import find_adapter
from ..calibration.passage import Passage, text_passage
from ..prompts import tokenizer_of
from ..weights import weight_samples
from .corpus import token_sequences
from .fidelity_report import FidelityReport, MethodScores
from .method import Method
from .methods import all_methods, choose_methods
from .phases import Scores, score_passage

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
    chosen, skipped = methods_for(model, methods, profiles)
    hf_model, tokenizer = model if isinstance(model, tuple) else (model.generator, tokenizer_of(model.processor))
    check_positions(hf_model, prefix + continuation)
    tokens = token_sequences(text, tokenizer, sequences, prefix + continuation + 1)
    settings = {"prefix": prefix, "continuation": continuation, "text": text_name, "skipped": skipped}
    passages = [text_passage(sequence, prefix) for sequence in tokens]
    return score_passages(hf_model, passages, chosen, settings, seed, model_name, progress)


def score_passages(
    model: PreTrainedModel,
    passages: Sequence[Passage],
    methods: list[Method],
    settings: dict[str, Any],
    seed: int = 0,
    model_name: str = "",
    progress: Progress | None = None,
) -> FidelityReport:
    """Every method on every passage.

    Args:
        model: the transformers model that generates text.
        settings: what else the report says of the run.
        seed: of the bootstrap intervals.
        model_name, progress: as for run_fidelity.

    Raises:
        RuntimeError: a method whose packed tokens were never read.
    """
    report = progress or (lambda done, total, what: None)
    collected: dict[str, list[Scores]] = {method.name: [] for method in methods}
    steps, count = len(methods) + 1, len(passages)
    for index, passage in enumerate(passages):
        note = _stepper(report, index * steps, count * steps, f"sequence {index + 1} of {count}")
        for method, scores in score_passage(model, methods, passage, note):
            collected[method.name].append(scores)
    report(count * steps, count * steps, "done")
    return FidelityReport(
        model=model_name or model.config.name_or_path or type(model).__name__,
        settings={
            "sequences": count,
            **settings,
            "residual_length": 0,
            "seed": seed,
            "dtype": str(model.dtype).removeprefix("torch."),
            "device": str(model.device),
        },
        methods=[MethodScores(method, collected[method.name], seed) for method in methods],
    )


def methods_for(
    model: Subject, names: Sequence[str] | None, profiles: Mapping[str, Profile] | None = None
) -> tuple[list[Method], dict[str, str]]:
    """The methods of these names for a model, and the reasons why others cannot run.

    Raises:
        ProfileError: a profile for another model.
        ValueError: an unknown method.
    """
    hf_model = model[0] if isinstance(model, tuple) else model.model
    for profile in (profiles or {}).values():
        profile.check(hf_model.config)
        profile.compare_weights(weight_samples(hf_model, find_adapter(hf_model.config)))
    key_biases = None if isinstance(model, tuple) else model.key_biases or None
    return choose_methods(names, all_methods(key_biases, profiles))


def _stepper(report: Progress, done: int, total: int, where: str) -> Callable[[str], None]:
    steps = iter(range(done, total))

    def note(what: str) -> None:
        report(next(steps), total, f"{where}: {what}")

    return note


def check_positions(model: PreTrainedModel, tokens: int) -> None:
    """Refuse sequences longer than the model reads.

    Raises:
        ValueError: says how long.
    """
    positions = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)
    if positions is not None and tokens > positions:
        raise ValueError(f"prefix + continuation = {tokens} tokens, but the model has {positions} positions")
