from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from oscar_x.errors import MediaError
from oscar_x.evals.video_qa.answer_log import RunError, Shard, read_records
from oscar_x.evals.video_qa.page import render
from oscar_x.evals.video_qa.report import read_report
from oscar_x.evals.video_qa.run import run


def test_a_second_call_asks_nothing(tmp_path: Path, make_source: Callable[..., Any], fake: Any, settings: Any):
    first = run(make_source(), fake(), tmp_path, settings)
    assert (first.written, first.kept) == (72, 0)
    asked: list[str] = []
    again = run(make_source(), fake(asked=asked.append), tmp_path, settings)
    assert (again.written, again.kept, asked) == (0, 72, [])


def test_shards_in_folders_of_their_own_make_the_report_of_one_run(
    tmp_path: Path, make_source: Callable[..., Any], fake: Any, settings: Any
):
    run(make_source(), fake(), tmp_path / "whole", settings)
    folders = [tmp_path / f"machine{index}" for index in range(3)]
    for index, folder in enumerate(folders):
        run(make_source(), fake(), folder, settings, shard=Shard(index, 3))
    whole, parts = read_report([tmp_path / "whole"]), read_report(folders)
    assert {c: len(q) for c, q in parts.common.items()} == {c: len(q) for c, q in whole.common.items()}
    for one, other in zip(parts.rows, whole.rows, strict=True):
        assert one["overall"]["accuracy"]["value"] == other["overall"]["accuracy"]["value"]
        assert one["packed_reads"] == other["packed_reads"]
    left = read_report(folders[:2]).to_dict()
    assert (left["questions"], left["unfinished"]) == (16, 8)
    (folders[1] / "settings.json").write_text(json.dumps({**settings, "model": "other"}))
    with pytest.raises(RunError, match="are not one run: model differ"):
        read_report(folders)


def test_two_different_answers_to_one_question_are_an_error(
    tmp_path: Path, make_source: Callable[..., Any], fake: Any, settings: Any
):
    for folder in ("one", "other"):
        run(make_source(), fake(), tmp_path / folder, settings)
    assert read_report([tmp_path / "one", tmp_path / "other"]).results.repeated == 72 + 18
    path = tmp_path / "other" / "answers-0-of-1.jsonl"
    path.write_text(path.read_text().replace('"choice":1', '"choice":2', 1))
    with pytest.raises(RunError, match="answered twice, with different results"):
        read_report([tmp_path / "one", tmp_path / "other"])


def test_clips_that_cannot_be_read(tmp_path: Path, make_source: Callable[..., Any], fake: Any, settings: Any):
    source = make_source(broken=(2,))
    with pytest.raises(MediaError, match="clipxxbroken"):
        run(source, fake(), tmp_path, settings)
    assert {record["clip"] for record in read_records(tmp_path)} == {"clip", "clipx"}
    for _ in range(2):  # tried again, noted once
        assert run(source, fake(), tmp_path, settings, skip_broken=True).failures == 1
    plain = read_report([tmp_path]).to_dict()
    assert plain["failures"] == {"clipxxbroken": "clip clipxxbroken[0] (video): cannot be opened"}
    assert (plain["questions"], plain["unfinished"]) == (20, 4)


def test_the_report_counts_what_the_records_say(
    tmp_path: Path, make_source: Callable[..., Any], fake: Any, settings: Any
):
    run(make_source(), fake(), tmp_path, settings)
    answers = [record for record in read_records(tmp_path) if record["record"] == "answer"]

    def share(method: str, **wanted: str) -> float:
        chosen = [r for r in answers if r["method"] == method and all(r[k] == v for k, v in wanted.items())]
        return sum(r["choice"] == r["answer"] for r in chosen) / len(chosen)

    report = read_report([tmp_path])
    for row in report.rows:
        assert row["overall"]["accuracy"]["value"] == pytest.approx(share(row["method"]))
        assert row["kinds"]["shape"]["accuracy"]["value"] == pytest.approx(share(row["method"], kind="shape"))
        assert row["groups"]["long"]["accuracy"]["value"] == pytest.approx(share(row["method"], group="long"))
        if row["method"] != "full":
            found = row["overall"]["against_full"]["difference"]["value"]
            assert found == pytest.approx(share(row["method"]) - share("full"))
            assert row["bits_per_element"] == 2.0
            assert row["overall"]["against_full"]["kl"]["value"] > 0
    (pair,) = report.pairs
    assert (pair["one"], pair["other"]) == ("oscar-balanced", "kivi")
    ours, peer = (row["overall"]["against_full"]["kl"]["value"] for row in report.rows[:0:-1])
    assert pair["kl_difference"]["value"] == pytest.approx(ours - peer)
    assert json.loads(json.dumps(report.to_dict()))["questions"] == 24


def test_the_page_is_whole_and_fetches_nothing(
    tmp_path: Path, make_source: Callable[..., Any], fake: Any, settings: Any
):
    run(make_source(), fake(), tmp_path, {**settings, "source": "<script>alert(1)</script>"})
    page = render(read_report([tmp_path]))
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    for text in ("KIVI", "color", "short", "<svg", "Content-Security-Policy", "oscar-balanced"):
        assert text in page


def test_a_run_without_a_whole_answer_has_no_report(tmp_path: Path, settings: Any):
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    with pytest.raises(RunError, match="no question has been answered by all methods"):
        read_report([tmp_path])
    with pytest.raises(RunError, match="is no run"):
        read_report([tmp_path / "nowhere"])
