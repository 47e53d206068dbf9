"""What online settings add to a prompt: `python -m oscar_x.evals.online_cost --tokens 1024 4096`, and with media
`python -m oscar_x.evals.online_cost --model tiny-omni --conversations tiny-omni`.

CPU time of one thread, the least of several runs, so that other work on the machine counts as little as it can.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

import oscar_x

from ..cache import OscarCache
from ..cache.boundaries import leading_sinks, split_edges
from ..cache.layer import OscarLayer
from ..calibration.passage import Passage, text_passage
from ..calibration.replay import context_states, read_context
from ..cli.options import EMBEDDED, find_model
from ..config import OscarConfig
from ..modality import Modality, ModalityStream
from ..model import OscarModel
from ..prompts import tokenizer_of
from .conversations import conversation_passages, load_conversations
from .corpus import load_text, token_sequences


@dataclass(frozen=True)
class Cost:
    """CPU seconds.

    Attributes:
        prompt: of reading a prompt, media included.
        decoder: of reading as many tokens of text: the prompt without what encodes its media.
        added: by online settings, over all layers.
    """

    prompt: float
    decoder: float
    added: float


def least_seconds(run: Callable[[], object], repeats: int) -> float:
    """CPU seconds of this thread, the least of several runs."""
    taken = []
    for _ in range(repeats):
        start = time.thread_time()
        run()
        taken.append(time.thread_time() - start)
    return min(taken)


@torch.no_grad()
def measure(model: OscarModel, passage: Passage, repeats: int) -> Cost:
    """What a prompt takes, and what online settings add to it.

    Args:
        passage: its context is the prompt. Of one that is all text every other 64 tokens are called an image, so that
            norms of two modalities are compared.
        repeats: runs of each.
    """
    module, text = model.generator, text_passage(torch.ones(passage.prefix, dtype=torch.int64), passage.prefix)
    media = len(passage.stream.counts()[0]) > 1
    states = {index: keys for index, (keys, _) in context_states(module, passage).items()}
    stream = passage.stream
    if not media:
        kinds = (torch.arange(passage.prefix) // 64 % 2).to(torch.int8) * int(Modality.IMAGE)
        stream = ModalityStream(kinds[None], (kinds > 0).int()[None])
    cache = OscarCache(module.config, OscarConfig(online=True))
    cache.expect_prompt(passage.prefix, stream)
    for layer in cache.packed_layers:
        layer.lazy_initialization(states[layer.index], states[layer.index])

    def added() -> None:
        for layer in cache.packed_layers:
            decide(layer, states[layer.index])

    def read(prompt: Passage) -> float:
        return least_seconds(lambda: read_context(module, prompt, model.new_cache()), repeats)

    prompt = read(passage)
    return Cost(prompt, read(text) if media else prompt, least_seconds(added, 5 * repeats))


def decide(layer: OscarLayer, keys: torch.Tensor) -> tuple[int, list[int]]:
    """Sinks and boundaries of an empty layer's first prompt, keys [1, num_key_value_heads, tokens, head_dim]."""
    count = keys.shape[2]
    row = replace(layer.rows[0], columns=count, spans=[(0, count)])
    sinks = leading_sinks(count, lambda start, stop: keys[:, :, start:stop])
    edges = split_edges(layer, 0, row, count - sinks, lambda start, stop: keys[:, :, sinks + start : sinks + stop])
    return sinks, edges


def _passages(model: OscarModel, options: argparse.Namespace) -> list[Passage]:
    if options.conversations:
        return conversation_passages(model, load_conversations(options.conversations, options.count))
    tokenizer = tokenizer_of(model.processor)
    return [text_passage(token_sequences(load_text(), tokenizer, 1, n)[0], n) for n in options.tokens]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=EMBEDDED, help="as for oscar-x")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--tokens", type=int, nargs="+", default=[1024, 4096], help="lengths of prompts of text")
    source.add_argument("--conversations", help="a generated set or a JSONL file (docs/calibration.md)")
    parser.add_argument("--count", type=int, default=3, help="conversations")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = oscar_x.load(find_model(options.model), device="cpu")
    for passage in _passages(model, options):
        cost = measure(model, passage, options.repeats)
        kinds = ", ".join(f"{count} {kind.name.lower()}" for kind, count in passage.stream.counts()[0].items())
        shares = [f"{100 * cost.added / whole:.2f}%" for whole in (cost.prompt, cost.decoder)]
        print(f"{kinds}: prompt {cost.prompt:.3f} s, online {1000 * cost.added:.1f} ms, {shares[0]} of it", end="")
        print(f", {shares[1]} of as much text" if cost.decoder != cost.prompt else "")


if __name__ == "__main__":
    main()
