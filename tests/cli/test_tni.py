from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from oscar_x.tni import TniReport

TEXT = "Norms of tokens that share a scale should not differ. " * 4


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


def test_table_findings_json_html_and_pictures(oscar_x, tiny, text, tmp_path):
    out, page, prefix = tmp_path / "tni.json", tmp_path / "tni.html", tmp_path / "figure"
    outcome = oscar_x("tni", tiny("llama"), "--text", text, "--json", out, "--html", page, "--plot", prefix)
    assert outcome.status == 0, outcome.errors
    assert "216 text tokens, groups of 16" in outcome.output
    report = TniReport.load(out)
    assert report.tokens == {"text": len(TEXT)}
    for sentence in report.findings():
        assert sentence[:40] in outcome.output
    assert page.read_text().startswith("<!DOCTYPE html>")
    written = {path.name for path in tmp_path.glob("figure-*")}
    assert written == {f"figure-{n}.{e}" for n in ("norms", "violins", "sinks", "causes") for e in ("png", "svg")}


def test_json_on_standard_output(oscar_x, tiny, text):
    outcome = oscar_x("tni", tiny("llama"), "--text", text, "--max-tokens", 60, "--group-size", 8, "--json", "-")
    assert outcome.status == 0, outcome.errors
    report = TniReport.from_dict(json.loads(outcome.output))
    assert (report.tokens, report.settings.group_size) == ({"text": 60}, 8)


def test_media(oscar_x, support, tiny_media, tmp_path):
    from PIL import Image

    make = support("tiny_media")
    Image.fromarray(make.image(112, 84)).save(tmp_path / "picture.png")
    outcome = oscar_x("tni", tiny_media("llava"), "--image", tmp_path / "picture.png", "--json", tmp_path / "tni.json")
    assert outcome.status == 0, outcome.errors
    assert "image tokens' median norm" in outcome.output
    assert TniReport.load(tmp_path / "tni.json").tokens["image"] == 16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--text", "nowhere.txt"], "text='nowhere.txt' is neither a file nor one of python-reference, kjv"),
        (["--html", "nowhere/tni.html"], "--html nowhere/tni.html: folder nowhere does not exist"),
        (["--plot", "nowhere/tni"], "--plot nowhere/tni: folder nowhere does not exist"),
        (["--json", "nowhere/tni.json"], "--json nowhere/tni.json: folder nowhere does not exist"),
        (["--group-size", "12"], "12 is not allowed; choose 8, 16, 32, 64, 128, 256"),
    ],
)
def test_mistakes_are_told_in_one_line_before_the_model_is_loaded(oscar_x, arguments, message):
    outcome = oscar_x("tni", "no-such-model", *arguments)
    assert outcome.status == 2
    assert message in outcome.errors
    assert outcome.errors.count("\n") == 1


def test_pictures_without_matplotlib_are_told_in_one_line(oscar_x, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    outcome = oscar_x("tni", "no-such-model", "--html", tmp_path / "tni.html")
    assert outcome.status == 1
    assert "--html needs matplotlib; install it with: pip install matplotlib" in outcome.errors


def test_media_for_a_text_model_are_told_in_one_line(oscar_x, tiny, tmp_path):
    (tmp_path / "picture.png").write_bytes(b"no picture")
    outcome = oscar_x("tni", tiny("llama"), "--image", tmp_path / "picture.png")
    assert outcome.status != 0
    assert outcome.errors.count("\n") == 1, outcome.errors


def test_short_text_is_told_in_one_line(oscar_x, tiny, tmp_path):
    (tmp_path / "short.txt").write_text("too short")
    outcome = oscar_x("tni", tiny("llama"), "--text", tmp_path / "short.txt")
    assert outcome.status == 2
    assert "data is too short: no sequence has 20 tokens" in outcome.errors
