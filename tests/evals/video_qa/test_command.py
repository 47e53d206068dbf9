"""The command line, alone and under accelerate."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig
from typer.testing import CliRunner

from oscar_x.cache.serialize import model_signature
from oscar_x.cache_settings import CacheSettings
from oscar_x.cli.eval_command import eval_app
from oscar_x.cli.failures import explain
from oscar_x.cli.video_qa_progress import LogLines, duration
from oscar_x.config import OscarConfig
from oscar_x.evals.video_qa.answer_log import key_of, read_records
from oscar_x.profile import Measured, Profile

METHODS = ("--methods", "kivi,oscar-balanced")


def call(*arguments: object) -> Any:
    return CliRunner().invoke(eval_app, ["video-qa", *map(str, arguments)])


def test_a_folder_of_questions_to_a_report(tiny_media: Callable[..., Path], pictures: Path, tmp_path: Path):
    out, target = tmp_path / "run", tmp_path / "report.json"
    arguments = ("--model", tiny_media("qwen2_5_vl"), "--data", pictures.parent, "--out", out, "--device", "cpu")
    result = call(*arguments, *METHODS, "--json", target)
    assert result.exit_code == 0, result.exception
    assert "OScaR balanced" in result.output
    plain = json.loads(target.read_text())
    assert plain == json.loads((out / "report.json").read_text())
    assert [row["method"] for row in plain["rows"]] == ["full", "kivi", "oscar-balanced"]
    assert (plain["questions"], plain["unfinished"], plain["clips"]) == (9, 0, 3)
    assert all(row["packed_reads"] > 0 for row in plain["rows"][1:])
    assert "color" in (out / "report.html").read_text()

    before = {path.name: path.read_bytes() for path in out.glob("answers-*")}
    again = call(*arguments, *METHODS)
    assert "27 answers were there already, 0 are new" in again.output
    assert {path.name: path.read_bytes() for path in out.glob("answers-*")} == before
    merged = call("--merge", out, "--html", tmp_path / "page.html")
    assert (merged.exit_code, (tmp_path / "page.html").is_file()) == (0, True)
    other = call(*arguments, "--methods", "kivi")
    assert "was begun with other settings: methods was ['full', 'kivi', 'oscar-bal" in explain(other.exception)[0]


def test_a_profile_is_a_method_beside_others(tiny_media: Callable[..., Path], pictures: Path, tmp_path: Path):
    model, out = tiny_media("qwen2_5_vl"), tmp_path / "run"
    config = AutoConfig.from_pretrained(model)
    origin = {"data_hash": "0" * 16, "library_version": "0.1.0", "date": "2026-11-23", "target": {"kl_target": 0.1}}
    costs = {"before": Measured(2.7, 0.05), "after": Measured(2.9, 0.02)}
    settings = CacheSettings(OscarConfig(key_bits=4, value_bits=4))
    profile = Profile(settings, model_signature(config), config.model_type, **origin, **costs)
    profile.save(tmp_path / "fitted.json")
    arguments = ("--model", model, "--data", pictures.parent, "--out", out, "--device", "cpu", "--limit", 2)
    result = call(*arguments, "--methods", "oscar-balanced", "--profile", tmp_path / "fitted.json")
    assert result.exit_code == 0, result.exception
    _, balanced, fitted = json.loads((out / "report.json").read_text())["rows"]
    assert (balanced["method"], fitted["method"]) == ("oscar-balanced", "oscar-fitted")
    assert fitted["bits_per_element"] > balanced["bits_per_element"] + 1.5

    dataclasses.replace(profile, signature="0" * 16).save(tmp_path / "fitted.json")
    refused = call(*arguments, "--profile", tmp_path / "fitted.json")
    assert "made for another model" in explain(refused.exception)[0]


def test_generated_clips(tiny_media: Callable[..., Path], tmp_path: Path):
    arguments = ("--model", tiny_media("qwen2_5_omni"), "--out", tmp_path, "--lengths", "2,1", "--limit", 5)
    result = call(*arguments, "--methods", "oscar-max", "--device", "cpu")
    assert result.exit_code == 0, result.exception
    plain = json.loads((tmp_path / "report.json").read_text())
    assert (plain["questions"], plain["settings"]["split"]) == (5, "held-out")
    counts = {name: cell["questions"] for name, cell in plain["rows"][1]["groups"].items()}
    assert counts == {"2 events": 3, "1 events": 2}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--model and --out are needed"),
        (("--data", "nowhere"), "--data nowhere does not exist"),
        (("--format", "mme", "--data", "."), "format='mme' is not known"),
        (("--methods", "kivy"), "methods='kivy' is not known"),
        (("--lengths", "a"), "--lengths a is not understood"),
        (("--answer-form", "songs"), "--answer-form 'songs' is unknown; choose letters or words"),
        (("--shard", "3/2"), "shard 3/2 is not allowed"),
        (("--merge", "nowhere"), "nowhere is no run"),
        (("--profile", "nowhere.json"), "nowhere.json"),
    ],
)
def test_mistakes_are_told_before_the_model_is_loaded(arguments: tuple[str, ...], message: str, tmp_path: Path):
    needed = ("--model", "no-such-model", "--out", tmp_path) if arguments else ()
    assert message in explain(call(*needed, *arguments).exception)[0]
    assert list(tmp_path.iterdir()) == []


PROGRAM = """
import sys
from oscar_x.evals.video_qa.processes import find_processes
from oscar_x.evals.video_qa.run import run
sys.path.insert(0, sys.argv[1])
import conftest
processes = find_processes(None, "cpu")
outcome = run(conftest._source(clips=7), conftest.FakeAnswerer(), sys.argv[2], {}, shard=processes.shard)
processes.wait()
assert processes.shard.count == 2
if processes.first:
    from oscar_x.evals.video_qa.answer_log import read_records
    from pathlib import Path
    assert sum(r["record"] == "answer" for r in read_records(Path(sys.argv[2]))) == 7 * 4 * 3
"""


def test_accelerate_shares_the_clips_out(tmp_path: Path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    # accelerate's name for several processes of one machine, also without a GPU
    launch = [sys.executable, "-P", "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    options = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    arguments = [str(program), str(Path(__file__).parent), str(tmp_path / "run")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launch, *options, *arguments], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    files = {path.name: path.read_text().splitlines() for path in (tmp_path / "run").glob("*.jsonl")}
    assert set(files) == {"answers-0-of-2.jsonl", "answers-1-of-2.jsonl"}
    assert min(map(len, files.values())) == 3 * (12 + 3)  # every second of the seven clips
    keys = [key_of(record) for record in read_records(tmp_path / "run")]
    assert len(keys) == len(set(keys)) == 7 * (12 + 3)


def test_lines_of_a_log_tell_the_time_that_is_left():
    now, lines = [0.0], []
    note = LogLines(lines.append, clock=lambda: now[0])
    note(50, 150, "a")  # what was there before does not count as fast
    for second, done in ((10.0, 60), (20.0, 70), (21.0, 71), (40.0, 90)):
        now[0] = second
        note(done, 150, "b")
    assert lines == ["70 of 150 answers, about 1:20 left (b)", "90 of 150 answers, about 1:00 left (b)"]
    assert duration(3725.4) == "1:02:05"
