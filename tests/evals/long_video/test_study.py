"""The study's parts: limits are kept, answers are paired, and the command writes what it found."""

from __future__ import annotations

import json

import pytest
from PIL import Image

import oscar_x
from oscar_x.cli.app import main
from oscar_x.cli.long_video import read_size
from oscar_x.evals.long_video import Study, contenders, run_needles, run_study, run_sweep, weights_bytes
from oscar_x.evals.long_video.accuracy import Answer, by_length, cells


def test_lengths_go_to_the_memory_limit_of_each_cache(omni):
    caches, room = contenders(omni, ["full", "kivi", "oscar-balanced"]), 3_000_000
    sweep = run_sweep(omni, caches, [4.0, 6.0], weights_bytes(omni) + room, steps=1)
    assert sweep.lengths("full") == []
    assert sweep.lengths("oscar-balanced") == [4.0, 6.0]
    assert all(row.peak_bytes <= room for row in sweep.rows)
    assert {stop.method for stop in sweep.stopped} == {"full", "kivi"}
    for row in sweep.rows:
        assert row.steady_bytes == pytest.approx(row.predicted_bytes, rel=0.001)
        assert row.first_token_seconds > 0 < row.decode_tokens_per_second
    with pytest.raises(ValueError, match="memory=1000"):
        run_sweep(omni, caches, [4.0], 1000)
    with pytest.raises(ValueError, match="lengths="):
        run_sweep(omni, caches, [8.0, 4.0])


def test_the_sweep_ends_where_the_model_does(omni):
    sweep = run_sweep(omni, contenders(omni, ["oscar-max"]), [4.0, 40.0], steps=1)
    assert sweep.lengths("oscar-max") == [4.0]
    assert "8192 positions" in sweep.stopped[0].reason


def test_every_cache_answers_the_same_clips(omni):
    caches = contenders(omni, ["full", "oscar-balanced"])
    asked = {"needles": ("visual", "both"), "depths": (0.0, 1.0), "clips": 1}
    answers = run_needles(omni, caches, {cache.name: [4.0] for cache in caches}, **asked)
    by_method = [[a.clip for a in answers if a.method == cache.name] for cache in caches]
    assert by_method[0] == by_method[1]
    assert len(set(by_method[0])) == 4
    assert all((answer.packed_reads > 0) is (answer.method != "full") for answer in answers)
    # without the full cache the clip is read by the cache itself: the same answers
    alone = run_needles(omni, caches[1:], {"oscar-balanced": [4.0]}, **asked)
    assert alone == [answer for answer in answers if answer.method == "oscar-balanced"]


def test_differences_are_paired_over_clips():
    def answers(method, right):
        return [Answer(method, "visual", 8.0, 0.0, str(i), 100, i < right, 0.125, 0) for i in range(8)]

    both = answers("full", 6) + answers("other", 5)
    rows = {row.method: row for row in by_length(both)}
    assert rows["full"].accuracy == 0.75
    assert (rows["full"].difference, rows["full"].difference_low) == (0, 0)
    assert rows["other"].difference == -0.125
    assert rows["other"].difference_low <= -0.125 < rows["other"].difference_high
    assert {(cell.method, cell.accuracy) for cell in cells(both)} == {("full", 0.75), ("other", 0.625)}


@pytest.mark.parametrize(("size", "count"), [("2GB", 2 * 10**9), ("512MiB", 2**29), ("1.5 kb", 1500), ("77", 77)])
def test_sizes(size, count):
    assert read_size(size) == count


def test_the_command_writes_what_it_found(omni, tiny_media, tmp_path, capsys):
    settings = {
        "model": tiny_media("qwen2_5_omni"),
        "methods": "full,oscar-balanced",
        "lengths": "4",
        "clips": 1,
        "depths": "0,1",
        "needles": "visual",
        "steps": 2,
        "stream": 8,
        "chunk": 4,
        "ask-every": 8,
        "device": "cpu",
        "json": tmp_path / "study.json",
        "plot": tmp_path / "study",
    }
    options = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    status = main(["eval", "long-video", "--silent", *options])
    printed = capsys.readouterr()
    assert status == 0, printed.err
    found = json.loads((tmp_path / "study.json").read_text())
    assert [row["method"] for row in found["sweep"]] == ["full", "oscar-balanced"]
    assert len(found["answers"]) == 4
    assert [stream["method"] for stream in found["streams"]] == ["full", "oscar-balanced"]
    assert all(stream["deviation"] < 0.01 and len(stream["answers"]) == 1 for stream in found["streams"])
    assert {row["method"] for row in found["hours"]} == {"full", "oscar-balanced"}
    assert found["settings"]["weights_bytes"] == weights_bytes(omni)
    for name in ("accuracy", "memory", "stream", "hours"):
        assert len(Image.open(tmp_path / f"study-{name}.png").convert("RGB").getcolors(maxcolors=2**24) or []) > 20
        assert (tmp_path / f"study-{name}.svg").read_text().rstrip().endswith("</svg>")
    for title in ("Memory and speed", "Needles found", "Streams", "Hours of video"):
        assert title in printed.out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--memory", "much"], "much"),
        (["--frame", "640"], "640"),
        (["--depths", "a"], "--depths"),
        (["--clips", "-1"], "--clips"),
    ],
)
def test_what_is_wrong_is_an_error_at_once(arguments, named, capsys):
    assert main(["eval", "long-video", *arguments]) == 2
    assert named in capsys.readouterr().err


def test_a_model_that_sees_nothing_is_refused(tiny):
    with pytest.raises(ValueError, match="reads no videos"):
        run_study(oscar_x.load(tiny("llama"), device="cpu"), Study())
