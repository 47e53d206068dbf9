"""Held-out questions from a compressed context: `python -m oscar_x.evals.embedded_vlm.measure --json FILE`.

Each episode is a conversation about several images; its last image is followed by nothing. All of it goes into the
cache and is packed, and only then the questions on the last image are asked, each from the same cache.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import Cache, DynamicCache

import oscar_x

from ...cache import OscarCache
from ...calibration.replay import StatesRecorder, fill
from ...config import PRESETS
from ...memory import MemoryReport
from ...model import OscarModel
from ..stats import Interval, mean_interval
from .build import build_checkpoint
from .episodes import Episode, episodes
from .questions import CHANCE, KINDS

FULL = "full"


@dataclass(frozen=True)
class Marks:
    """What one method made of an episode's questions.

    Attributes:
        right: whether the most likely token of the whole vocabulary is the answer's first.
        kl: of the distribution of that token, full cache against this one, in nats, mean over questions.
        top1: share of questions on which both have the same most likely token.
        full_bytes: of the full cache at 16 bits an element; 0 for other methods.
    """

    kinds: list[str]
    right: list[bool]
    kl: float
    top1: float
    packed_reads: int
    memory: MemoryReport | None
    full_bytes: int


@dataclass(frozen=True)
class Row:
    """One method over all episodes, with 95% intervals over episodes.

    Attributes:
        questions, accuracy: how many of each kind, and the share answered right.
        packed_bytes: codes, scales and norms of a context, mean over episodes; the full cache at 16 bits an element.
        cache_bytes: the same with all that is allocated for exact tokens and growth.
    """

    method: str
    questions: dict[str, int]
    accuracy: dict[str, float]
    overall: Interval
    kl: Interval
    top1: Interval
    packed_reads: int
    bits_per_element: float
    packed_bytes: float
    cache_bytes: float


def measure(
    model: OscarModel,
    count: int,
    images: int,
    seed: int,
    presets: Sequence[str] = tuple(PRESETS),
    progress: Callable[[int], None] = lambda done: None,
) -> list[Row]:
    """Rows of the full cache and of presets, on the same episodes.

    Args:
        count: episodes.
        images: of each episode's context.

    Raises:
        RuntimeError: a preset whose packed tokens were never read.
    """
    marks: dict[str, list[Marks]] = {}
    for index, episode in enumerate(itertools.islice(episodes(model, images, seed), count)):
        progress(index)
        caches = _contexts(model, episode, presets)
        reference = _logits(model, caches[FULL], episode)[0]
        for name, cache in caches.items():
            marks.setdefault(name, []).append(_mark(model, name, cache, episode, reference))
    return [_row(name, taken) for name, taken in marks.items()]


@torch.no_grad()
def _contexts(model: OscarModel, episode: Episode, presets: Sequence[str]) -> dict[str, Cache]:
    """The context in a full cache and, packed, in one of each preset.

    Attention over a prompt is exact whatever the cache, so its states are computed once.
    """
    recorder = StatesRecorder(model.model.config)
    model.model(**episode.inputs, past_key_values=recorder, logits_to_keep=1)
    caches: dict[str, Cache] = {FULL: fill(DynamicCache(config=model.model.config), recorder.states)}
    for name in presets:
        packed = OscarCache(model.model.config, PRESETS[name])
        fill(packed, recorder.states)
        packed.flush()
        caches[name] = packed
    return caches


@torch.no_grad()
def _logits(model: OscarModel, cache: Cache, episode: Episode) -> tuple[torch.Tensor, int]:
    """float32 [questions, vocabulary] where each answer begins, and the packed tokens read for them."""
    found, reads = [], 0
    for question in episode.questions:
        twin = cache.fork() if isinstance(cache, OscarCache) else copy.deepcopy(cache)
        text = question.text + "<|im_end|>\n<|im_start|>assistant\n"
        ids = model.processor.tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        before = twin.packed_reads if isinstance(twin, OscarCache) else 0
        found.append(model.model(ids, past_key_values=twin, logits_to_keep=1).logits[0, -1].float())
        reads += twin.packed_reads - before if isinstance(twin, OscarCache) else 0
    return torch.stack(found), reads


def _mark(model: OscarModel, name: str, cache: Cache, episode: Episode, reference: torch.Tensor) -> Marks:
    logits, reads = _logits(model, cache, episode)
    if isinstance(cache, OscarCache) and not reads:
        raise RuntimeError(f"preset {name} read no packed tokens: its answers would be those of exact states")
    tokenizer = model.processor.tokenizer
    wanted = [tokenizer(q.answer, add_special_tokens=False)["input_ids"][0] for q in episode.questions]
    guesses = logits.argmax(dim=-1)
    log_probs, exact = logits.log_softmax(dim=-1), reference.log_softmax(dim=-1)
    return Marks(
        kinds=[question.kind for question in episode.questions],
        right=[guess == token for guess, token in zip(guesses.tolist(), wanted, strict=True)],
        kl=float(torch.nn.functional.kl_div(log_probs, exact, reduction="batchmean", log_target=True)),
        top1=float((guesses == reference.argmax(dim=-1)).float().mean()),
        packed_reads=reads,
        memory=cache.memory() if isinstance(cache, OscarCache) else None,
        full_bytes=sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers) * 2 if name == FULL else 0,
    )


def _row(name: str, marks: list[Marks]) -> Row:
    by_kind: dict[str, list[bool]] = {kind: [] for kind in KINDS}
    for mark in marks:
        for kind, right in zip(mark.kinds, mark.right, strict=True):
            by_kind[kind].append(right)
    reports = [mark.memory for mark in marks if mark.memory is not None]
    return Row(
        method=name,
        questions={kind: len(right) for kind, right in by_kind.items()},
        accuracy={kind: float(np.mean(right)) for kind, right in by_kind.items() if right},
        overall=mean_interval([float(np.mean(mark.right)) for mark in marks]),
        kl=mean_interval([mark.kl for mark in marks]),
        top1=mean_interval([mark.top1 for mark in marks]),
        packed_reads=sum(mark.packed_reads for mark in marks),
        bits_per_element=float(np.mean([r.bits_per_element for r in reports])) if reports else 16.0,
        packed_bytes=float(np.mean([r.codes + r.scales + r.norms for r in reports] or [m.full_bytes for m in marks])),
        cache_bytes=float(np.mean([r.total for r in reports] or [m.full_bytes for m in marks])),
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where to write the rows")
    parser.add_argument("--checkpoint", type=Path, help="a folder from build_checkpoint; built where missing")
    parser.add_argument("--episodes", type=int, default=30)
    parser.add_argument("--images", type=int, nargs="+", default=[1, 2, 4, 8], help="images of a context, one run each")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    model = oscar_x.load(build_checkpoint(options.checkpoint), device="cpu")
    runs = []
    for images in options.images:

        def note(done: int, images: int = images) -> None:
            print(f"{images} images, episode {done + 1} of {options.episodes}", file=sys.stderr)

        rows = measure(model, options.episodes, images, options.seed, progress=note)
        runs.append({"images": images, "rows": [asdict(row) for row in rows]})
    report = {
        "model": "SmolLM2-135M-Instruct and a thin ResNet-50, joined by evals/embedded_vlm",
        "settings": {
            "episodes": options.episodes,
            "seed": options.seed,
            "dtype": str(model.model.dtype).removeprefix("torch."),
            "split": "held-out",
        },
        "chance": CHANCE,
        "runs": runs,
    }
    text = json.dumps(report, indent=2)
    if options.json is not None:
        options.json.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
