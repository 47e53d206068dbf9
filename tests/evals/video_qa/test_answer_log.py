from __future__ import annotations

import json
from pathlib import Path

import pytest

from oscar_x.evals.video_qa.answer_log import AnswerLog, RunError, Shard, read_records

SETTINGS = {"model": "m", "limit": None}


def answer(question: int, method: str = "full") -> dict:
    return {"record": "answer", "clip": "é", "question": str(question), "method": method, "choice": question}


def test_a_file_cut_at_any_byte_keeps_its_whole_lines_and_goes_on(tmp_path: Path):
    with AnswerLog(tmp_path / "whole", SETTINGS) as log:
        log.append(answer(0), answer(1))
        log.append(answer(2))
    content = log.path.read_bytes()
    for end in range(len(content)):
        folder = tmp_path / str(end)
        folder.mkdir()
        (folder / "settings.json").write_text(json.dumps(SETTINGS))
        (folder / log.path.name).write_bytes(content[:end])
        whole = content[:end].count(b"\n")
        with AnswerLog(folder, SETTINGS) as cut:
            assert cut.records == [answer(i) for i in range(whole)]
            cut.append(*(answer(i) for i in range(whole, 3)))
        assert cut.path.read_bytes() == content


def test_a_last_line_of_zeros_is_dropped(tmp_path: Path):
    with AnswerLog(tmp_path, SETTINGS) as log:
        log.append(answer(0))
    with log.path.open("ab") as file:
        file.write(b"\0" * 20 + b"\n")
    with AnswerLog(tmp_path, SETTINGS) as again:
        assert again.records == [answer(0)]
    assert b"\0" not in log.path.read_bytes()


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path):
    with AnswerLog(tmp_path, SETTINGS) as log:
        log.append(answer(0), answer(1))
    log.path.write_bytes(log.path.read_bytes().replace(b'{"record"', b'{"rec\n"', 1))
    with pytest.raises(RunError, match=r"answers-0-of-1\.jsonl, line 1 is damaged"):
        AnswerLog(tmp_path, SETTINGS)


def test_other_settings_are_refused_by_name_and_nothing_changes(tmp_path: Path):
    with AnswerLog(tmp_path, SETTINGS) as log:
        log.append(answer(0))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(RunError, match="begun with other settings: limit was None and is now 5") as caught:
        AnswerLog(tmp_path, {**SETTINGS, "limit": 5})
    assert "model" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_answers_without_settings_are_refused(tmp_path: Path):
    (tmp_path / "answers-0-of-1.jsonl").write_text("")
    with pytest.raises(RunError, match=r"holds answers but no settings\.json"):
        AnswerLog(tmp_path, SETTINGS)


def test_nothing_is_written_twice(tmp_path: Path):
    with AnswerLog(tmp_path, SETTINGS) as log:
        log.append(answer(0))
        for again in ((answer(0),), (answer(1), answer(1))):
            with pytest.raises(RunError, match="already"):
                log.append(*again)
        log.append(answer(0, "kivi"))
    assert [record["method"] for record in read_records(tmp_path)] == ["full", "kivi"]


def test_one_process_a_file_and_one_way_to_cut_a_run_at_a_time(tmp_path: Path):
    with AnswerLog(tmp_path, SETTINGS, Shard(0, 2)), AnswerLog(tmp_path, SETTINGS, Shard(1, 2)):
        with pytest.raises(RunError, match=r"answers-0-of-2\.jsonl is being written by another process"):
            AnswerLog(tmp_path, SETTINGS, Shard(0, 2))
        with pytest.raises(RunError, match="cut in other shards"):
            AnswerLog(tmp_path, SETTINGS)
    with AnswerLog(tmp_path, SETTINGS) as log:
        log.append(answer(0))


def test_every_shard_knows_what_the_others_have_answered(tmp_path: Path):
    with AnswerLog(tmp_path, SETTINGS, Shard(1, 2)) as log:
        log.append(answer(0))
    with AnswerLog(tmp_path, SETTINGS, Shard(0, 3)) as log, pytest.raises(RunError, match="already"):
        log.append(answer(0))


@pytest.mark.parametrize("text", ["1", "1/", "2/2", "-1/2", "a/b", "0/0"])
def test_shards_that_are_none(text: str):
    with pytest.raises(RunError, match="shard"):
        Shard.parse(text)
    assert Shard.parse("1/3") == Shard(1, 3)
