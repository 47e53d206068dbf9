from __future__ import annotations

import dataclasses
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from transformers import DynamicCache

from oscar_x.evals import fidelity
from oscar_x.evals.corpus import load_text
from oscar_x.evals.fidelity import run_fidelity
from oscar_x.evals.fidelity_report import FidelityReport
from oscar_x.evals.methods import FULL
from oscar_x.evals.phases import compare_logits
from oscar_x.evals.plots import pareto_front, pareto_plot
from oscar_x.evals.preset_bits import preset_bits

SMALL = {"sequences": 2, "prefix": 160, "continuation": 24}


@pytest.fixture(scope="module")
def report(tiny_pair: Any) -> FidelityReport:
    return run_fidelity(tiny_pair, load_text(), **SMALL, text_name="python-reference")


def test_full_cache_is_the_zero_of_the_scale(report: FidelityReport) -> None:
    row = report.rows[0]
    assert row["method"] == "full"
    assert row["kl"] == pytest.approx(0, abs=1e-6)
    assert (row["top1"], row["bits_per_element"], row["compression"]) == (1.0, 16.0, 1.0)


def test_every_method_reads_packed_tokens(report: FidelityReport) -> None:
    for row in report.rows[1:]:
        assert row["packed_reads"] > 0, row["method"]
        assert 0 < row["kl"] < 10, row["method"]
        assert row["bits_per_element"] < 6, row["method"]
        assert row["kl_low"] <= row["kl"] <= row["kl_high"]
        assert row["perplexity"] == pytest.approx(math.exp(sum(row["samples"]["nll"]) / 2))


def test_more_bits_come_closer(report: FidelityReport) -> None:
    kl = {row["method"]: row["kl"] for row in report.rows}
    assert kl["quanto-4"] < kl["quanto-2"]
    assert kl["turboquant-3.5"] < kl["turboquant-2.5"]
    assert report.ratio("quanto-4", "quanto-2").high < 1


def test_json_and_table(report: FidelityReport, tmp_path: Path) -> None:
    report.save_json(tmp_path / "report.json")
    read = json.loads((tmp_path / "report.json").read_text())
    assert read["settings"]["prefix"] == 160
    assert {"method", "bits_per_element", "compression", "perplexity", "kl", "top1", "packed_reads"} <= set(
        read["rows"][0]
    )
    assert report.table().row_count == len(read["rows"])


def test_table_fits_80_columns(report: FidelityReport) -> None:
    wide = dataclasses.replace(report)
    wide.__dict__["rows"] = [
        {**row, "packed_reads": 125_337_600, "perplexity": 123.4, "perplexity_low": 100, "perplexity_high": 130}
        for row in report.rows
    ]
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(wide.table())
    lines = console.export_text().splitlines()
    assert sum(line.rstrip().endswith("125.3M") for line in lines) == len(report.rows)
    assert not any("…" in line for line in lines)


def test_plot_is_written_twice(report: FidelityReport, tmp_path: Path) -> None:
    written = pareto_plot(report.rows, tmp_path / "pareto")
    assert [path.name for path in written] == ["pareto.png", "pareto.svg"]
    assert written[0].read_bytes().startswith(b"\x89PNG")
    assert "<svg" in written[1].read_text()
    with pytest.raises(ValueError, match="nothing to draw"):
        pareto_plot(report.rows[:1], tmp_path / "empty")


def test_front_keeps_what_nothing_beats() -> None:
    points = [(3.0, 0.2), (2.0, 0.5), (2.5, 0.6), (3.5, 0.2), (4.0, 0.1)]
    rows = [{"bits_per_element": bits, "kl": kl} for bits, kl in points]
    assert pareto_front(rows) == [(2.0, 0.5), (3.0, 0.2), (4.0, 0.1)]


def test_repeated_run_gives_the_same_report(tiny_pair: Any) -> None:
    runs = [run_fidelity(tiny_pair, load_text(), ["ott", "oscar-max"], **SMALL).to_dict() for _ in range(2)]
    assert runs[0] == runs[1]


def test_no_packed_reads_is_an_error(tiny_pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetful(DynamicCache):
        packed_reads = 0

        def flush(self) -> None:
            """Compresses nothing."""

    idle = dataclasses.replace(FULL, name="idle", packs=True, new_cache=lambda model: Forgetful(config=model.config))
    monkeypatch.setattr(fidelity, "all_methods", lambda *_: [idle])
    with pytest.raises(RuntimeError, match="method idle read no packed tokens"):
        run_fidelity(tiny_pair, load_text(), **SMALL)


def test_progress_counts_every_step(tiny_pair: Any) -> None:
    seen: list[tuple[int, int, str]] = []
    run_fidelity(tiny_pair, load_text(), ["full", "kivi"], **SMALL, progress=lambda *step: seen.append(step))
    assert [done for done, _, _ in seen] == list(range(7))
    assert {total for _, total, _ in seen} == {6}


def test_more_tokens_than_positions_are_refused(tiny_pair: Any) -> None:
    with pytest.raises(ValueError, match=r"prefix \+ continuation = 5255 tokens.*4096 positions"):
        run_fidelity(tiny_pair, load_text(), sequences=1, prefix=5000)


def test_mixed_sliding_and_full_layers(support: Any) -> None:
    tiny = support("tiny")
    pair = tiny.tiny_model("gemma3"), tiny.tiny_tokenizer()
    report = run_fidelity(pair, load_text(), ["full", "rotatekv", "kivi", "oscar-balanced"], **SMALL)
    assert report["full"].intervals["kl"].value == pytest.approx(0, abs=1e-6)
    assert report["kivi"].intervals["kl"].value > 0


def test_comparison_of_logits_by_hand() -> None:
    reference = torch.tensor([[0.5, 0.5], [0.9, 0.1]]).log()
    method = torch.tensor([[0.25, 0.75], [0.8, 0.2]]).log()
    nll, kl, top1 = compare_logits(method, reference, torch.tensor([0, 0]))
    assert nll == pytest.approx(-(math.log(0.25) + math.log(0.8)) / 2)
    by_hand = 0.5 * math.log(2) + 0.5 * math.log(0.5 / 0.75) + 0.9 * math.log(0.9 / 0.8) + 0.1 * math.log(0.1 / 0.2)
    assert kl == pytest.approx(by_hand / 2, rel=1e-5)
    assert top1 == 0.5


@pytest.mark.parametrize(
    ("preset", "head_dim", "most"),
    [("paper", 128, 3.02), ("balanced", 128, 2.60), ("max", 128, 2.32), ("balanced", 64, 2.65), ("max", 64, 2.38)],
)
def test_bits_of_the_presets(preset: str, head_dim: int, most: float) -> None:
    assert preset_bits(head_dim, preset=preset).bits_per_element <= most


def test_bits_of_the_presets_refuse_partial_blocks() -> None:
    with pytest.raises(ValueError, match="tokens=100"):
        preset_bits(tokens=100)


def test_real_weights_keep_the_order_of_the_methods(smollm2: Any) -> None:
    report = run_fidelity(
        smollm2, load_text(), ["full", "kivi", "oscar-paper", "oscar-balanced"], sequences=2, prefix=1024
    )
    kl = {row["method"]: row["kl"] for row in report.rows}
    assert kl["oscar-balanced"] < kl["oscar-paper"] < 0.6 * kl["kivi"]
    assert kl["oscar-paper"] < 0.12
    assert report["oscar-balanced"].intervals["top1"].value > 0.85
