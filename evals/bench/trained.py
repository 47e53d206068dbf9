"""Tokens a second of a trained model on real text, with evals/decode_speed.py and, on a CPU, llama.cpp's caches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers.utils import is_optimum_quanto_available

from ...model import OscarModel
from ..corpus import load_text, token_sequences
from ..decode_speed import PEER, caches, time_decoding
from .clock import Progress
from .end_to_end import OP, TokensRow, trained_rows
from .llama_cpp import has_llama_cpp, time_llama_cpp
from .room import LeftOut

TEXT = "python-reference"


def bench_trained(
    subject: OscarModel,
    path: str,
    name: str,
    contexts: Sequence[int],
    batches: Sequence[int],
    presets: Sequence[str],
    steps: int,
    progress: Progress = lambda done, total, what: None,
) -> tuple[list[TokensRow], list[LeftOut]]:
    """Time decoding steps after real text, every cache in turn at each step.

    Args:
        subject: what load() returned for `path`.
        path, name: where its weights are, and what to call it.
        presets: ours.

    Returns:
        Rows, and what was left out.
    """
    rows: list[TokensRow] = []
    left: list[LeftOut] = []
    model, text = subject.model, load_text(TEXT)
    chosen = {"full", PEER, *(f"oscar-{preset}" for preset in presets)}
    makers = {key: make for key, make in caches(model, subject.key_biases).items() if key in chosen}
    missing = {} if is_optimum_quanto_available() else {PEER: "the package optimum-quanto is not installed"}
    for key in missing:
        del makers[key]
    runs_llama_cpp = has_llama_cpp() and path.endswith(".gguf") and model.device.type == "cpu"
    if not has_llama_cpp():
        missing["llama.cpp"] = "the package llama-cpp-python is not installed"
    for context in contexts:
        tokens = torch.stack(token_sequences(text, subject.processor, max(batches), context))
        for batch in batches:
            timed = time_decoding(model, tokens[:batch].to(model.device), makers, steps, progress)
            rows += trained_rows(timed, name)
            left += [LeftOut(OP, key, context, batch, reason) for key, reason in missing.items()]
        if runs_llama_cpp:
            rows += time_llama_cpp(path, name, tokens[0].tolist(), steps)
    return rows, left
