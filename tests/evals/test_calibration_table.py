"""The calibration table: rows, ratios, the ablation's directions, honest lines, the command line."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

import oscar_x
from oscar_x import PRESETS, CacheSettings, OscarConfig
from oscar_x.calibration import Candidates
from oscar_x.evals.ablation import ablation
from oscar_x.evals.calibration_markdown import markdown
from oscar_x.evals.calibration_run import make_profiles, run_calibration_table
from oscar_x.evals.calibration_table import BALANCED, CALIBRATED, EQUAL_KL, PAPER, CalibrationTable
from oscar_x.evals.corpus import load_text
from oscar_x.evals.fidelity_report import FidelityReport, MethodScores
from oscar_x.evals.method import Footprint, Method
from oscar_x.evals.phases import Scores

SETTINGS = {"sequences": 3, "prefix": 1, "continuation": 1, "text": "kjv", "dtype": "float32", "device": "cpu"}
FEW = Candidates(bits=(2, 3), group_sizes=(16, 32), scale_bits=(4,))


@pytest.fixture(scope="module")
def llama(tiny):
    return oscar_x.load(tiny("llama"), device="cpu")


@pytest.fixture(scope="module")
def profiles(llama):
    text = load_text("python-reference")[:9000]
    return make_profiles(llama, text, sequences=3, prefix=160, continuation=16, candidates=FEW)


def test_rows_and_ablation_of_a_text(llama, profiles):
    table = run_calibration_table(llama, load_text("kjv"), profiles, sequences=2, prefix=250, continuation=24)
    assert [row["method"] for row in table.rows] == [PAPER, BALANCED, CALIBRATED, EQUAL_KL]
    paper, balanced, calibrated, _ = table.rows
    assert paper["bits"]["value"] > balanced["bits"]["value"] > 2
    assert balanced["kl_ratio"]["value"] == balanced["bytes_ratio"]["value"] == 1
    assert calibrated["bytes_ratio"]["value"] == pytest.approx(1, abs=0.05)
    parts = {row["label"]: row for row in table.ablation}
    assert list(parts) == ["rotation", "token scaling", "exact first tokens", "calibration"]
    assert parts["rotation"]["bytes_ratio"]["value"] == 1
    assert parts["exact first tokens"]["bytes_ratio"]["value"] < 1
    ratio = parts["calibration"]["kl_ratio"]["value"]
    assert ratio == pytest.approx(1 / calibrated["kl_ratio"]["value"])
    assert json.loads(json.dumps(table.to_dict()))["profiles"]["calibrated"]["data_hash"]
    assert [shown.row_count for shown in table.tables()] == [4, 4]


def test_modalities_are_split_where_there_are_some():
    settings = CacheSettings(PRESETS["balanced"])
    parts, methods = ablation(CALIBRATED, settings, media=True)
    assert (parts[-1].whole, parts[-1].without) == ("oscar-modality-split", CALIBRATED)
    assert len(methods) == len(parts) == 4
    parts, _ = ablation(CALIBRATED, settings.map(lambda own: replace(own, modality_split=2.0)), media=True)
    assert (parts[-1].whole, parts[-1].without) == (CALIBRATED, "oscar-no-modality-split")
    assert "modality split" not in [part.name for part in ablation(CALIBRATED, settings, media=False)[0]]


def test_token_norms_are_put_in_where_no_layer_has_them():
    plain, scaled = OscarConfig(token_norm="none"), OscarConfig()
    for layers, put_in in (({0: plain, 1: plain}, True), ({0: plain, 1: replace(scaled, key_bits=3)}, False)):
        parts, methods = ablation(CALIBRATED, CacheSettings(scaled, layers), media=False)
        part = next(part for part in parts if part.name == "token scaling")
        other = "oscar-token-scaling" if put_in else "oscar-no-token-scaling"
        assert (part.whole, part.without) == ((other, CALIBRATED) if put_in else (CALIBRATED, other))
        assert other in [method.name for method in methods]


def made_up(kls, sizes):
    """A table of given KLs and bytes a sequence; methods by name."""
    methods = []
    for name, own in kls.items():
        scores = [
            Scores(1.0, kl, 0.9, 5, Footprint(size, 100, 0, 1600)) for kl, size in zip(own, sizes[name], strict=True)
        ]
        methods.append(MethodScores(Method(name, name, "", lambda model: None, lambda cache: None), scores, 0))
    return FidelityReport("m", {"sequences": 3, "prefix": 1, "continuation": 1, "seed": 0}, methods)


def test_lines_say_what_was_missed_and_what_does_not_help():
    from oscar_x.evals.ablation import Part

    same = [300] * 3
    kls = {
        PAPER: [0.2, 0.4, 0.3],
        BALANCED: [0.1, 0.2, 0.15],
        CALIBRATED: [0.05, 0.1, 0.075],
        EQUAL_KL: [0.1, 0.2, 0.15],
        "oscar-no-a": [0.04, 0.08, 0.06],
        "oscar-no-b": [0.04, 0.12, 0.07],
        "oscar-no-c": [0.1, 0.2, 0.15],
    }
    sizes = dict.fromkeys(kls, same) | {EQUAL_KL: [290] * 3}
    kls["oscar-no-d"], sizes["oscar-no-d"] = kls[CALIBRATED], same
    parts = [Part(name, CALIBRATED, f"oscar-no-{name}") for name in "abcd"]
    table = CalibrationTable(made_up(kls, sizes), parts)
    assert [row["verdict"] for row in table.ablation] == [
        "hurts",
        "no measurable difference",
        "helps",
        "changes nothing",
    ]
    first, second, *others = table.lines
    assert "KL is 0.50 (0.50-0.50) of balanced's: target reached (at most 0.75)" in first
    assert "bytes are 0.967 of balanced's: target missed (at most 0.88)" in second
    assert others[0].startswith("A: hurts here; KL without it is 0.80")
    assert others[1].startswith("B: no measurable difference here")
    assert len(others) == 3
    text = markdown(table.to_dict() | {"fidelity": table.report.to_dict() | {"settings": SETTINGS}})
    assert "| calibrated, equal bytes | 3.00 | 1.000 | 0.0750 (0.0500-0.1000) | 0.50 | 0.900 |" in text
    assert "| a | 3.00 | 1.000 | 0.0600 (0.0400-0.0800) | 0.80 | 0.900 | hurts |" in text
    assert text.count("\n- ") == 5
    console = Console(width=80, record=True, file=io.StringIO())
    for shown in table.tables():
        console.print(shown)
    assert "…" not in console.export_text()


def test_bytes_are_not_saved_at_a_higher_kl_and_a_part_that_takes_bytes_says_so():
    from oscar_x.evals.ablation import Part

    kls = {name: [0.1, 0.2, 0.15] for name in (PAPER, BALANCED, CALIBRATED)}
    kls |= {EQUAL_KL: [0.13, 0.26, 0.2], "oscar-split": [0.05, 0.1, 0.08]}
    sizes = dict.fromkeys(kls, [300] * 3) | {EQUAL_KL: [200] * 3, "oscar-split": [600] * 3}
    table = CalibrationTable(made_up(kls, sizes), [Part("split", "oscar-split", CALIBRATED)])
    assert "target missed, since KL is higher" in table.lines[1]
    assert table.ablation[0]["verdict"] == "helps, but takes 2.00 times the bytes"
    assert table.lines[2].startswith("Split: helps, but takes 2.00 times the bytes here")


def test_command(tiny, tmp_path, monkeypatch, profiles):
    from typer.testing import CliRunner

    from oscar_x.cli.eval_command import eval_app

    monkeypatch.setenv("COLUMNS", "120")
    for name, profile in profiles.items():
        profile.save(tmp_path / f"{name}.json")
    files = ["--profile", str(tmp_path / "calibrated.json"), "--equal-kl", str(tmp_path / "equal-kl.json")]
    sizes = ["--sequences", "1", "--prefix", "200", "--continuation", "16", "--json", str(tmp_path / "out.json")]
    result = CliRunner().invoke(eval_app, ["calibration", str(tiny("llama")), *files, *sizes])
    assert result.exit_code == 0, result.exception
    assert "calibrated, equal bytes" in result.output
    assert "target" in result.output
    assert len(json.loads((tmp_path / "out.json").read_text())["ablation"]) == 4


def test_profiles_that_are_made_are_kept_in_a_new_folder(tiny, tmp_path, monkeypatch, profiles):
    from typer.testing import CliRunner

    from oscar_x.cli.eval_command import eval_app

    folder = tmp_path / "new" / "profiles"
    monkeypatch.setattr("oscar_x.evals.calibration_run.make_profiles", lambda *data, **arguments: profiles)
    sizes = ["--sequences", "1", "--prefix", "200", "--continuation", "16", "--save", str(folder)]
    result = CliRunner().invoke(eval_app, ["calibration", str(tiny("llama")), *sizes])
    assert result.exit_code == 0, result.exception
    assert {path.stem: oscar_x.Profile.load(path) for path in folder.iterdir()} == profiles


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--text", "kjv", "--made-on", "kjv"], "made on kjv and judged on it"),
        (["--text", "python-reference"], "made on python-reference and judged on it"),
        (["--conversations", "mine.jsonl"], "needs --made-on"),
        (["--profile", "a.json"], "--profile and --equal-kl go together"),
        (["--text", "kjv", "--conversations", "tiny-omni"], "exclude each other"),
        (["--save", __file__], "is a file; give a folder"),
    ],
)
def test_wrong_arguments(arguments, message, monkeypatch):
    from typer.testing import CliRunner

    from oscar_x.cli.eval_command import eval_app

    monkeypatch.setenv("COLUMNS", "200")
    result = CliRunner().invoke(eval_app, ["calibration", "no-such-model", *arguments])
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
