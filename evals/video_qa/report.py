"""What a run found: accuracy by question type, side by side, with intervals and tests against the full cache."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from ..method import Footprint
from .answer_log import Record, RunError, key_of, read_records, read_settings
from .significance import Comparison, accuracy_interval, compare, divergence, mean_over_questions

FULL = "full"
Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Results:
    """A run's records, once each.

    Attributes:
        settings: of the run.
        answers: (clip, question) -> method -> record.
        contexts: method -> records of its packed contexts.
        failures: clips that could not be read and why; not those that were answered later.
        repeated: records that were there more than once.
    """

    settings: dict[str, Any]
    answers: dict[tuple[str, str], dict[str, Record]]
    contexts: dict[str, list[Record]]
    failures: dict[str, str]
    repeated: int


def read_results(folders: Sequence[str | Path]) -> Results:
    """The records of one run, or of the parts of one that machines answered in folders of their own.

    Raises:
        RunError: no run, runs of different settings, or two answers to one question that differ.
    """
    paths = [Path(folder) for folder in folders]
    settings = read_settings(paths[0])
    for path in paths[1:]:
        other = read_settings(path)
        differing = [name for name in {**settings, **other} if settings.get(name) != other.get(name)]
        if differing:
            raise RunError(f"{paths[0]} and {path} are not one run: {', '.join(differing)} differ")
    known: dict[tuple[str, ...], Record] = {}
    repeated = 0
    for record in (record for path in paths for record in read_records(path)):
        first = known.setdefault(key_of(record), record)
        if first is not record:
            repeated += 1
            if record["record"] == "answer" and first["choice"] != record["choice"]:
                raise RunError(f"{' '.join(key_of(record))} was answered twice, with different results")
    answers: dict[tuple[str, str], dict[str, Record]] = defaultdict(dict)
    contexts: dict[str, list[Record]] = defaultdict(list)
    failures: dict[str, str] = {}
    for record in known.values():
        if record["record"] == "answer":
            answers[record["clip"], record["question"]][record["method"]] = record
        elif record["record"] == "context":
            contexts[record["method"]].append(record)
        else:
            failures[record["clip"]] = record["reason"]
    answered = {clip for clip, _ in answers}
    failures = {clip: reason for clip, reason in failures.items() if clip not in answered}
    return Results(settings, dict(answers), dict(contexts), failures, repeated)


@dataclass(frozen=True)
class Report:
    """Tables of a run, over the questions that every method has answered."""

    results: Results = field(repr=False)
    labels: dict[str, str] = field(default_factory=dict)
    seed: int = 0

    @property
    def methods(self) -> list[str]:
        return self.results.settings["methods"]

    @cached_property
    def common(self) -> dict[str, list[dict[str, Record]]]:
        """For each clip the answers of all methods to each of its questions."""
        found: dict[str, list[dict[str, Record]]] = defaultdict(list)
        for (clip, _), given in self.results.answers.items():
            if all(method in given for method in self.methods):
                found[clip].append(given)
        return dict(found)

    @property
    def questions(self) -> int:
        return sum(map(len, self.common.values()))

    def values(self, name: str) -> list[str]:
        """The question types (name "kind") or groups of clips (name "group") that there are, in order."""
        return list(dict.fromkeys(given[self.methods[0]][name] for clip in self.common.values() for given in clip))

    def _choices(self, method: str, name: str, value: str | None) -> list[list[int]]:
        """For each clip, what a method chose for the questions of a type or group."""
        return self._per_clip(lambda given: given[method]["choice"], name, value)

    def _answers(self, name: str, value: str | None) -> list[list[int]]:
        return self._per_clip(lambda given: given[self.methods[0]]["answer"], name, value)

    def _divergences(self, method: str, name: str, value: str | None) -> list[list[float]]:
        return self._per_clip(lambda given: divergence(given[FULL]["scores"], given[method]["scores"]), name, value)

    def _per_clip(
        self, read: Callable[[dict[str, Record]], Number], name: str, value: str | None
    ) -> list[list[Number]]:
        first = self.methods[0]
        rows = [
            [read(given) for given in clip if value is None or given[first][name] == value]
            for clip in self.common.values()
        ]
        return [row for row in rows if row]

    def cell(self, method: str, name: str = "kind", value: str | None = None) -> dict[str, Any]:
        """One method's accuracy and its comparison with the full cache.

        Args:
            name, value: count only questions of this type (name "kind") or group ("group").
        """
        chosen, answers = self._choices(method, name, value), self._answers(name, value)
        right = [[c == a for c, a in zip(*pair, strict=True)] for pair in zip(chosen, answers, strict=True)]
        cell: dict[str, Any] = {"questions": sum(map(len, right)), "accuracy": asdict(accuracy_interval(right))}
        if method != FULL and FULL in self.methods:
            kl = mean_over_questions(self._divergences(method, name, value), seed=self.seed)
            cell["against_full"] = {**asdict(self.against(method, FULL, name, value)), "kl": asdict(kl)}
        return cell

    def against(self, one: str, other: str, name: str = "kind", value: str | None = None) -> Comparison:
        """One method compared with another, on all questions or those of one type or group."""
        chosen, against = (self._choices(method, name, value) for method in (one, other))
        return compare(chosen, against, self._answers(name, value), seed=self.seed)

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """One row a method."""
        return [self._row(method) for method in self.methods]

    def _row(self, method: str) -> dict[str, Any]:
        contexts = self.results.contexts[method]
        whole = Footprint.total([Footprint(**context["footprint"]) for context in contexts])
        return {
            "method": method,
            "label": self.labels.get(method) or self.results.settings.get("labels", {}).get(method, method),
            "bits_per_element": whole.bits_per_element,
            "compression": whole.compression,
            "bytes_per_context": (whole.packed_bytes + whole.exact_bytes) / len(contexts),
            "packed_reads": sum(given[method]["packed_reads"] for clip in self.common.values() for given in clip),
            "overall": self.cell(method),
            "kinds": {kind: self.cell(method, "kind", kind) for kind in self.values("kind")},
            "groups": {group: self.cell(method, "group", group) for group in self.values("group") if group},
        }

    @cached_property
    def pairs(self) -> list[dict[str, Any]]:
        """Every method of OScaR against every peer."""
        ours = [method for method in self.methods if method.startswith("oscar-")]
        peers = [method for method in self.methods if method not in ours and method != FULL]
        return [{"one": a, "other": b, **asdict(self.against(a, b)), **self._closer(a, b)} for a in ours for b in peers]

    def _closer(self, one: str, other: str) -> dict[str, Any]:
        """How much less one method's options diverge from the full cache's than another's."""
        pair = (self._divergences(method, "kind", None) for method in (one, other))
        rows = [[a - b for a, b in zip(*clip, strict=True)] for clip in zip(*pair, strict=True)]
        return {"kl_difference": asdict(mean_over_questions(rows, seed=self.seed))}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        tokens = [context["tokens"] for context in self.results.contexts.get(self.methods[0], ())]
        return {
            "settings": self.results.settings,
            "questions": self.questions,
            "unfinished": self.results.settings["questions"] - self.questions,
            "clips": len(self.common),
            "tokens_per_context": {"least": min(tokens), "mean": sum(tokens) / len(tokens), "most": max(tokens)},
            "failures": self.results.failures,
            "repeated": self.results.repeated,
            "rows": self.rows,
            "pairs": self.pairs,
        }


def read_report(folders: Sequence[str | Path]) -> Report:
    """The report of a run in one or several folders.

    Raises:
        RunError: as read_results, or nothing that all methods have answered.
    """
    report = Report(read_results(folders))
    if not report.common:
        raise RunError(f"{', '.join(map(str, folders))}: no question has been answered by all methods yet")
    return report
