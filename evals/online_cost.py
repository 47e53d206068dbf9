"""What online settings add to a prompt: `python -m oscar_x.evals.online_cost --tokens 1024 4096`.

CPU time of one thread, the least of several runs, so that other work on the machine counts as little as it can.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

import oscar_x

from ..cache import OscarCache
from ..cache.boundaries import leading_sinks, split_edges
from ..cache.layer import OscarLayer
from ..calibration.replay import StatesRecorder
from ..cli.embedded import embedded_model
from ..config import OscarConfig
from ..modality import Modality, ModalityStream
from ..model import OscarModel
from ..prompts import tokenizer_of
from .corpus import load_text, token_sequences


def least_seconds(run: Callable[[], object], repeats: int) -> float:
    """CPU seconds of this thread, the least of several runs."""
    taken = []
    for _ in range(repeats):
        start = time.thread_time()
        run()
        taken.append(time.thread_time() - start)
    return min(taken)


@torch.no_grad()
def measure(model: OscarModel, ids: torch.Tensor, repeats: int) -> tuple[float, float]:
    """CPU seconds of a prompt's forward pass, and of what online settings add to it over all layers.

    The prompt is text; every other 64 tokens are called an image, so that norms of two modalities are compared.

    Args:
        ids: int64 [1, tokens].
        repeats: runs of each.
    """

    def prefill() -> None:
        model.generator(ids, past_key_values=model.new_cache(), logits_to_keep=1)

    recorder = StatesRecorder(model.generator.config)
    model.generator(ids, past_key_values=recorder, logits_to_keep=1)
    states = {index: keys for index, (keys, _) in recorder.states.items()}
    kinds = (torch.arange(ids.shape[1]) // 64 % 2).to(torch.int8) * int(Modality.IMAGE)
    cache = OscarCache(model.model.config, OscarConfig(online=True))
    cache.expect_prompt(ids.shape[1], ModalityStream(kinds[None], (kinds > 0).int()[None]))
    for layer in cache.packed_layers:
        layer.lazy_initialization(states[layer.index], states[layer.index])

    def added() -> None:
        for layer in cache.packed_layers:
            decide(layer, states[layer.index])

    return least_seconds(prefill, repeats), least_seconds(added, 5 * repeats)


def decide(layer: OscarLayer, keys: torch.Tensor) -> tuple[int, list[int]]:
    """Sinks and boundaries of an empty layer's first prompt, keys [1, num_key_value_heads, tokens, head_dim]."""
    count = keys.shape[2]
    row = replace(layer.rows[0], columns=count, spans=[(0, count)])
    sinks = leading_sinks(count, lambda start, stop: keys[:, :, start:stop])
    edges = split_edges(layer, 0, row, count - sinks, lambda start, stop: keys[:, :, sinks + start : sinks + stop])
    return sinks, edges


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="folder or .gguf file; SmolLM2-135M-Instruct when missing")
    parser.add_argument("--tokens", type=int, nargs="+", default=[1024, 4096])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = oscar_x.load(options.model or embedded_model(), device="cpu")
    for count in options.tokens:
        ids = token_sequences(load_text(), tokenizer_of(model.processor), 1, count)[0][None]
        prefill, added = measure(model, ids, options.repeats)
        print(f"{count} tokens: prefill {prefill:.2f} s, online {1000 * added:.1f} ms, {100 * added / prefill:.3f}%")


if __name__ == "__main__":
    main()
