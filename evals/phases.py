"""The two phases of a fidelity measurement: the prefix is compressed, then the continuation is scored against it.

A plain generate() would take its first token from full-precision prefill and show nothing of the compression.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from ..calibration.passage import Passage
from ..calibration.replay import States, context_states, continuation_logits, fill
from .method import Footprint, Method
from .methods import FULL


@dataclass(frozen=True)
class Scores:
    """Of one sequence: means over its scored tokens, in nats where logarithmic.

    Attributes:
        nll, kl, top1: over all scored tokens.
        packed_reads: packed tokens read for them.
        footprint: of what was compressed.
        answer_kl, answer_top1: over the tokens of answers alone; None where there are none.
    """

    nll: float
    kl: float
    top1: float
    packed_reads: int
    footprint: Footprint
    answer_kl: float | None = None
    answer_top1: float | None = None


@torch.no_grad()
def score_passage(
    model: PreTrainedModel, methods: list[Method], passage: Passage, note: Callable[[str], None]
) -> list[tuple[Method, Scores]]:
    """Read the context once, and score the continuation against it in a cache of every method.

    Args:
        model: the transformers model that generates text.
        note: called with what comes next: the full cache, then every method.

    Raises:
        RuntimeError: a method whose packed tokens were never read.
    """
    note("full cache")
    states = context_states(model, passage)
    full = fill(FULL.new_cache(model), states)
    reference = continuation_logits(model, full, passage.continuation[:-1], passage.run_positions).log_softmax(dim=-1)
    scored = []
    for method in methods:
        note(method.label)
        scored.append((method, score_method(model, method, states, passage, reference)))
    return scored


def score_method(
    model: PreTrainedModel, method: Method, states: States, passage: Passage, reference: torch.Tensor
) -> Scores:
    """Compress a context with one method and score the continuation.

    Args:
        states: of the context.
        passage: its continuation's last token is only a label.
        reference: log-probabilities fp32 [n - 1, vocabulary] of the same tokens with the full cache.

    Raises:
        RuntimeError: no packed token was read, so the numbers would not be the method's.
    """
    cache = fill(method.new_cache(model), states, passage.stream)
    if method.packs:
        cache.flush()
    footprint = method.footprint(cache)
    logits = continuation_logits(model, cache, passage.continuation[:-1], passage.run_positions)
    reads = cache.packed_reads if method.packs else 0
    if method.packs and not reads:
        raise RuntimeError(f"method {method.name} read no packed tokens: its scores would be those of exact states")
    log_probs, labels = logits.log_softmax(dim=-1), passage.continuation[1:].to(logits.device)
    whole = compare_logits(log_probs, reference, labels)
    if passage.answers is None or not bool(passage.answers[1:].any()):
        return Scores(*whole, reads, footprint)
    said = passage.answers[1:].to(logits.device)
    _, kl, top1 = compare_logits(log_probs[said], reference[said], labels[said])
    return Scores(*whole, reads, footprint, kl, top1)


def compare_logits(
    log_probs: torch.Tensor, reference: torch.Tensor, labels: torch.Tensor
) -> tuple[float, float, float]:
    """Mean negative log-likelihood of labels, mean KL(reference || log_probs), share of equal most likely tokens.

    Args:
        log_probs, reference: fp32 [n, vocabulary].
        labels: int64 [n].
    """
    nll = torch.nn.functional.nll_loss(log_probs, labels)
    kl = torch.nn.functional.kl_div(log_probs, reference, reduction="batchmean", log_target=True)
    top1 = (log_probs.argmax(dim=-1) == reference.argmax(dim=-1)).float().mean()
    return float(nll), float(kl), float(top1)
