"""The demo of a clip with sound: it runs, what it shows is what it measured."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from rich.console import Console

from oscar_x.cli import demo_omni
from oscar_x.cli.app import main
from oscar_x.cli.demo_pictures import filmstrip, heat, modality_band, norm_picture
from oscar_x.tni.parts import NormMap


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(demo_omni, "EVENTS", 3)  # random weights read a frame as many tokens


def test_the_demo_answers_from_both_caches(short, tiny_media, tmp_path, capsys):
    file = tmp_path / "demo.json"
    words = ["--omni", "--model", str(tiny_media("qwen2_5_omni")), "--max-new-tokens", "3", "--device", "cpu"]
    assert main(["demo", *words, "--json", str(file)]) == 0, capsys.readouterr().err
    printed, found = capsys.readouterr().out, json.loads(file.read_text())
    full, packed = found["sides"]
    assert full["memory"]["packed_elements"] == 0 < packed["memory"]["packed_elements"]
    assert packed["memory"]["residual"] == 0
    assert found["tokens"].keys() >= {"text", "video", "audio"}
    assert found["answers"]
    for line in found["answers"]:
        assert line["question"] in printed
        assert line.keys() == {"question", "right", "full cache", "2-bit cache"}
    for shown in ("times smaller", "audio: ", "Token Norm Imbalance", found["findings"][0][:20]):
        assert shown in printed


def test_the_clip_is_the_same_every_time_and_has_questions_of_every_kind():
    one, other = demo_omni.shipped_clip(), demo_omni.shipped_clip()
    assert np.array_equal(one.frames, other.frames)
    assert np.array_equal(one.waveform, other.waveform)
    assert [question.kind for question in demo_omni.chosen_questions(one, True)] == list(demo_omni.ASKED)
    assert all(q.kind not in ("sound", "beeps") for q in demo_omni.chosen_questions(one, False))


def drawn(text) -> str:
    console = Console(width=100, color_system="truecolor", force_terminal=True, record=True, file=io.StringIO())
    console.print(text)
    return console.export_text()


def test_pictures_are_as_wide_as_what_they_show():
    frames = np.zeros((10, 28, 28, 3), np.uint8)
    assert len(drawn(filmstrip(frames, count=2, height=14)).splitlines()[0].rstrip()) == 2 * 14 + 1
    band = drawn(modality_band(["text", "video", "audio", "audio"]))
    assert "audio: 2" in band
    norms = NormMap(1, (0, 1), ((1.0, 1.0, 4.0), (1.0, 1.0, 1.0)), ((1.0, 1.0, 4.0), (1.0, 1.0, 1.0)), ("text",) * 3)
    assert [len(line.split()[-1]) for line in drawn(norm_picture(norms)).splitlines()[:2]] == [3, 3]
    picture = norm_picture(norms)
    colors = [str(span.style.color.name) for span in picture.spans][:6]
    assert colors[2] != colors[0] == colors[1] == colors[5]


def test_heat_is_blue_below_and_red_above():
    red, _, blue = heat(4.0)
    assert red > blue
    red, _, blue = heat(0.25)
    assert red < blue
    assert len(set(heat(1.0))) == 1
