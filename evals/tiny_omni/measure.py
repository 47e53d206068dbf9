"""Answers on held-out clips from full and packed caches: `python -m oscar_x.evals.tiny_omni.measure`.

Two phases: the clip is read and its cache packed whole, without a window of exact tokens; then the questions are asked,
each from the same cache.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

import oscar_x
from oscar_x.model import OscarModel

from ..method import Footprint, Method
from ..methods import all_methods, choose_methods
from ..phases import PrefixRecorder, States, fill
from ..stats import bootstrap
from .clips import LENGTH, Clip, clips
from .forward import prefix_embeds
from .lessons import Teacher, choose
from .questions import Question
from .tokens import END, START
from .words import CHANCE

METHODS = ("full", "kivi", "oscar-paper", "oscar-balanced", "oscar-max")


@dataclass
class Result:
    """Answers of one method.

    Attributes:
        hits: of each clip, kind of question and whether the most likely of all tokens was the answer.
        packed_reads: packed tokens that attention read for them.
        footprints: what each clip's cache held.
    """

    hits: list[list[tuple[str, bool]]] = field(default_factory=list)
    packed_reads: int = 0
    footprints: list[Footprint] = field(default_factory=list)

    @property
    def right(self) -> dict[str, list[bool]]:
        """By kind of question."""
        found: dict[str, list[bool]] = defaultdict(list)
        for kind, hit in (pair for clip in self.hits for pair in clip):
            found[kind].append(hit)
        return dict(sorted(found.items()))

    @property
    def accuracy(self) -> float:
        """Share of all questions."""
        return float(np.mean([hit for clip in self.hits for _, hit in clip]))

    @property
    def bits_per_element(self) -> float:
        """Of the packed region; 16 of a full cache."""
        return Footprint.total(self.footprints).bits_per_element


@torch.inference_mode()
def measure(
    model: OscarModel, shown: Iterable[Clip], methods: Sequence[Method], questions: int = 10
) -> dict[str, Result]:
    """Every method on the same clips and questions.

    Args:
        model: loaded in any way; its cache settings do not matter.
        questions: asked about a clip at most, of all kinds alike.

    Raises:
        RuntimeError: a method that packs, of which no packed token was read.
    """
    teacher = Teacher(model.processor.tokenizer, model.model)
    results = {method.name: Result() for method in methods}
    for number, clip in enumerate(shown):
        asked = choose(clip.questions, np.random.default_rng(number), questions)
        states, position = _read(model, teacher, clip)
        for method in methods:
            _answer(model, teacher, method, states, position, asked, results[method.name])
    for method in methods:
        if method.packs and not results[method.name].packed_reads:
            raise RuntimeError(
                f"method {method.name} read no packed tokens: its answers would be those of exact states"
            )
    return results


def _read(model: OscarModel, teacher: Teacher, clip: Clip) -> tuple[States, int]:
    """Keys and values of a clip, and the position of what follows."""
    embeds, positions = prefix_embeds(model.model, model.processor.feature_extractor, teacher, clip)
    recorder = PrefixRecorder(model.model)
    model.model.model.language_model(
        inputs_embeds=embeds, position_ids=positions, past_key_values=recorder, use_cache=True
    )
    return recorder.states, int(positions.max()) + 1


def _answer(
    model: OscarModel,
    teacher: Teacher,
    method: Method,
    states: States,
    position: int,
    asked: Sequence[Question],
    result: Result,
) -> None:
    cache = fill(method.new_cache(model.model), states)
    if method.packs:
        cache.flush()
    result.footprints.append(method.footprint(cache))
    hits = []
    for question in asked:
        twin: Any = cache.fork() if hasattr(cache, "fork") else copy.deepcopy(cache)
        before = twin.packed_reads if method.packs else 0
        ids = torch.tensor([teacher.encode(f"{question.text}{END}\n{START}assistant\n")])
        places = (position + torch.arange(ids.shape[1])).expand(3, 1, -1)
        guess = model.model(ids, position_ids=places, past_key_values=twin).logits[0, -1].argmax()
        hits.append((question.kind, int(guess) == teacher.encode(question.answer)[0]))
        result.packed_reads += twin.packed_reads - before if method.packs else 0
    result.hits.append(hits)


def report(results: dict[str, Result]) -> list[dict[str, Any]]:
    """A row a method: accuracy in percent, points to the full cache with 95% bootstrap interval over clips."""
    full = results.get("full")
    rows = []
    for name, result in results.items():
        row: dict[str, Any] = {
            "method": name,
            "questions": sum(map(len, result.hits)),
            "accuracy": round(100 * result.accuracy, 2),
            "bits_per_element": round(result.bits_per_element, 3),
            "by_kind": {kind: round(100 * float(np.mean(hits)), 1) for kind, hits in result.right.items()},
            "packed_reads": result.packed_reads,
        }
        if full is not None and result is not full:
            row["points_to_full"] = _difference(result, full)
        rows.append(row)
    return rows


def _difference(result: Result, full: Result) -> list[float]:
    sums = [
        (sum(h for _, h in own), sum(h for _, h in other), len(own))
        for own, other in zip(result.hits, full.hits, strict=True)
    ]
    interval = bootstrap(sums, lambda means: 100 * (means[..., 0] - means[..., 1]) / means[..., 2])
    return [round(value, 2) for value in (interval.value, interval.low, interval.high)]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny-omni")
    parser.add_argument("--clips", type=int, default=20, help="of each length")
    parser.add_argument("--lengths", type=int, nargs="+", default=[LENGTH], help="events of a clip")
    parser.add_argument("--questions", type=int, default=10, help="about a clip, at most")
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--silent", action="store_true", help="clips without sound")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    model = oscar_x.load(options.model, device="cpu", dtype="float32")
    methods, _ = choose_methods(options.methods, all_methods(model.key_biases or None))
    runs = []
    for length in options.lengths:
        stream = clips("held-out", length=length, heard=not options.silent, seed=options.seed)
        rows = report(measure(model, islice(stream, options.clips), methods, options.questions))
        runs.append({"length": length, "clips": options.clips, "rows": rows})
        print(json.dumps(runs[-1]), flush=True)
    if options.json is not None:
        settings = {"split": "held-out", "heard": not options.silent, "seed": options.seed, "dtype": "float32"}
        options.json.write_text(json.dumps({"settings": settings, "chance": CHANCE, "runs": runs}, indent=2) + "\n")


if __name__ == "__main__":
    main()
