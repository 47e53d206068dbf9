"""Every reader on small files in the published layout. The contents are made up."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from oscar_x.errors import MissingPackageError
from oscar_x.evals.video_qa.formats.registry import all_formats
from oscar_x.evals.video_qa.media_parts import MediaSettings
from oscar_x.evals.video_qa.questions import Clip, Source
from oscar_x.evals.video_qa.sources import file_source, format_names
from oscar_x.evals.video_qa.tables import AnnotationError

MEDIA = MediaSettings(fps=2.0, max_frames=8)

VIDEO_MME = {
    **{"video_id": "001", "duration": "short", "domain": "Knowledge", "sub_category": "Biology", "url": "-"},
    **{"videoID": "aB_9", "question_id": "001-1", "task_type": "Counting Problem", "question": "How many?"},
    **{"options": ["A. C", "B. Two.", "C. 3", "D. A: four"], "answer": "C"},
}
MLVU = {"video": "movie.mp4", "duration": 480.0, "question": "What coat?", "candidates": ["Red", "Yellow"]}
MLVU |= {"answer": "Yellow", "question_type": "plotQA"}
LVB = {
    **{"video_id": "v1", "video_path": "v1.mp4", "question": "When?", "question_wo_referring_query": "When?"},
    **{"candidates": ["1", "0", "2", "3", "5"], "correct_choice": 0, "position": [8], "question_category": "TOS"},
    **{"level": "L2-Relation", "id": "v1_0", "subtitle_path": "v1_en.json", "duration_group": 600},
}
EGO = {"q_uid": "u-1", "google_drive_id": "x", "question": "Why?", **{f"option {i}": f"because {i}" for i in range(5)}}
NEXT = {
    **{"video": "4010069381", "frame_count": "369", "width": "640", "height": "480", "question": "how do they"},
    **{"answer": "3", "qid": "6", "type": "CH", **{f"a{i}": f"by {i}" for i in range(5)}},
}
MMAU = {
    **{"id": "m1", "audio_path": ["data/a.wav", "data/b.wav"], "question": "Which?", "answer": "rain"},
    **{"choices": ["wind", "rain"], "category": "sound", "length_type": "short", "transcription": None},
}


def write_csv(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow to read parquet")
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def read(folder: Path, name: str) -> tuple[Source, list[Clip]]:
    source = file_source(folder, name, MEDIA)
    return source, list(source.clips())


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_video_mme(tmp_path: Path):
    other = {**VIDEO_MME, "question_id": "001-2", "answer": "D", "task_type": "Action Recognition"}
    write_parquet(tmp_path / "videomme" / "test-00000-of-00001.parquet", [VIDEO_MME, other])
    video = touch(tmp_path / "data" / "aB_9.mp4")
    source, (clip,) = read(tmp_path, "video-mme")
    assert (source.name, source.questions) == ("Video-MME", 2)
    assert clip.content() == [{"type": "video", "path": str(video), "fps": 2.0, "max_frames": 8}]
    assert (clip.id, clip.group) == ("aB_9", "short")
    first, second = clip.questions
    # an option's words may be a letter; answers are letters of places
    assert (first.options, first.answer) == (("C", "Two.", "3", "A: four"), 2)
    assert (second.kind, second.answer) == ("Action Recognition", 3)


def test_mlvu(tmp_path: Path):
    summary = {"video": "movie.mp4", "duration": 1.0, "question": "Tell.", "answer": "...", "question_type": "summary"}
    write_json(tmp_path / "json" / "1_plotQA.json", [MLVU, {**MLVU, "answer": "Red"}])
    write_json(tmp_path / "json" / "2_needle.json", [{**MLVU, "question_type": "findNeedle"}])
    write_json(tmp_path / "json" / "9_summary.json", [summary])
    plot = touch(tmp_path / "video" / "1_plotQA" / "movie.mp4")
    needle = touch(tmp_path / "video" / "findNeedle" / "movie.mp4")
    source, clips = read(tmp_path, "mlvu")
    # videos of one name in two folders are two
    assert [clip.content()[0]["path"] for clip in clips] == [str(plot), str(needle)]
    assert [[(q.kind, q.answer) for q in clip.questions] for clip in clips] == [
        [("plotQA", 1), ("plotQA", 0)],
        [("findNeedle", 1)],
    ]
    assert source.notes == ("1 questions left out: their answers are written freely",)


def test_longvideobench(tmp_path: Path):
    write_json(tmp_path / "lvb_val.json", [LVB, {**LVB, "id": "v1_1", "correct_choice": 4}])
    _, (clip,) = read(tmp_path, "longvideobench")
    # 0 is the number of the right candidate, although another one says "0"
    assert [question.answer for question in clip.questions] == [0, 4]
    assert (clip.group, clip.questions[0].kind) == ("600 s", "TOS")
    assert clip.content()[0]["path"] == str(tmp_path / "videos" / "v1.mp4")


def test_egoschema(tmp_path: Path):
    write_json(tmp_path / "questions.json", [EGO, {**EGO, "q_uid": "u-2"}])
    write_json(tmp_path / "subset_answers.json", {"u-1": 4})
    source, (clip,) = read(tmp_path, "egoschema")
    assert clip.questions[0].options[clip.questions[0].answer] == "because 4"
    assert source.notes == ("1 questions left out: their answers are not published",)
    write_json(tmp_path / "subset_answers.json", {"u-1": 5})
    with pytest.raises(AnnotationError, match=r"subset_answers\.json must hold"):
        read(tmp_path, "egoschema")


def test_next_qa(tmp_path: Path):
    write_csv(tmp_path / "val.csv", [NEXT, {**NEXT, "qid": "7", "type": "TN", "answer": "0"}])
    write_json(tmp_path / "map_vid_vidorID.json", {"4010069381": "1164/4010069381"})
    video = touch(tmp_path / "NExTVideo" / "1164" / "4010069381.mp4")
    _, (clip,) = read(tmp_path, "next-qa")
    assert clip.content()[0]["path"] == str(video)
    assert [(q.kind, q.answer) for q in clip.questions] == [("causal how", 3), ("temporal next", 0)]


def test_mmau_pro(tmp_path: Path):
    free = {**MMAU, "id": "m2", "choices": [], "answer": "a free text"}
    unclear = {**MMAU, "id": "m3", "answer": "snow"}
    write_parquet(tmp_path / "test.parquet", [MMAU, free, unclear])
    source, (clip,) = read(tmp_path, "mmau-pro")
    paths = [str(tmp_path / "data" / name) for name in ("a.wav", "b.wav")]
    assert clip.content() == [{"type": "audio", "path": path} for path in paths]
    assert (clip.questions[0].kind, clip.questions[0].answer, clip.group) == ("sound", 1, "short")
    assert len(source.notes) == 2


WRITERS: dict[str, tuple[str, Callable[[Path, Any], None], dict[str, Any], str]] = {
    "video-mme": ("annotations.json", write_json, VIDEO_MME, "videoID"),
    "mlvu": ("json/1_plotQA.json", write_json, MLVU, "question"),
    "longvideobench": ("lvb_val.json", write_json, LVB, "correct_choice"),
    "egoschema": ("questions.json", write_json, EGO, "option 3"),
    "next-qa": ("test.csv", write_csv, NEXT, "a2"),
    "mmau-pro": ("test.json", write_json, MMAU, "audio_path"),
}


@pytest.mark.parametrize("name", sorted(all_formats()))
def test_what_is_missing_is_named(tmp_path: Path, name: str):
    file, write, row, field = WRITERS[name]
    if name == "egoschema":
        write_json(tmp_path / "subset_answers.json", {"u-1": 0})
    else:
        with pytest.raises(FileNotFoundError, match="has no"):
            read(tmp_path, name)
    (tmp_path / file).parent.mkdir(exist_ok=True)
    write(tmp_path / file, [row])
    read(tmp_path, name)
    write(tmp_path / file, [row, {key: value for key, value in row.items() if key != field}][::-1][:1])
    with pytest.raises(AnnotationError, match=rf"{Path(file).name}, row 1: field '{field}' is missing; there are"):
        read(tmp_path, name)
    with pytest.raises(NotADirectoryError, match="needs the folder of its local copy"):
        read(tmp_path / file, name)


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("video-mme", {**VIDEO_MME, "answer": "E"}, "'answer' is 'E'; a letter from A to D is needed"),
        ("video-mme", {**VIDEO_MME, "options": "A. one"}, "'options' is 'A. one'; a list is needed"),
        ("video-mme", {**VIDEO_MME, "options": ["A. x", "B. x"], "answer": "A"}, "must be two or more different texts"),
        ("mlvu", {**MLVU, "answer": "Blue"}, "'answer' is 'Blue', which is none of"),
        ("longvideobench", {**LVB, "correct_choice": 5}, "'correct_choice' is '5'; a number from 0 to 4 is needed"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, name: str, row: dict[str, Any], message: str):
    file, write, *_ = WRITERS[name]
    write(tmp_path / file, [row])
    with pytest.raises(AnnotationError) as caught:
        read(tmp_path, name)
    assert message in str(caught.value)
    assert f"{Path(file).name}, row 1" in str(caught.value)


def test_own_questions(tmp_path: Path):
    rows = [
        {"video": "a.mp4", "question": "What?", "options": ["x", "y"], "answer": "y", "kind": "thing"},
        {"video": "a.mp4", "question": "And?", "options": ["2", "1"], "answer": 1},
        {"audio": ["b.wav", "c.wav"], "question": "Who?", "options": ["x", "y", "z"], "answer": "C", "id": "last"},
        {"video": "a.mp4", "question": "Number?", "options": ["x", "y"], "answer": "1"},
    ]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    for path in (tmp_path, tmp_path / "q.jsonl"):
        source, (video, audio) = read(path, "own")
        assert source.questions == 4
        # words go before numbers: 1 is the second option here
        assert [(q.id, q.kind, q.answer) for q in video.questions] == [
            ("0", "thing", 1),
            ("1", "all", 1),
            ("3", "all", 1),
        ]
        assert [part["path"] for part in audio.content()] == [str(tmp_path / "b.wav"), str(tmp_path / "c.wav")]
        assert (audio.questions[0].id, audio.questions[0].answer) == ("last", 2)


def test_own_questions_in_a_table(tmp_path: Path):
    row = {"video": "a.mp4", "image": "", "question": "What?", "options": '["x", "y"]', "answer": "x"}
    write_csv(tmp_path / "q.csv", [row])
    _, (clip,) = read(tmp_path, "own")
    assert clip.questions[0].options == ("x", "y")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"question": "?", "options": ["a", "b"], "answer": 0}', "row 1: none of the fields video, audio, image"),
        ('{"video": "a.mp4", "question": "?", "answer": 0}', "row 1: field 'options' is missing"),
        ('{"video": "a.mp4", "question": "?", "options": ["a", "b"], "answer": 2}', "a number from 0 to 1 is needed"),
        (
            '{"video": "a.mp4", "question": "?", "options": ["a", "b"], "answer": "no"}',
            "a letter from A to B is needed",
        ),
        ('{"video": ', "line 1 is no JSON"),
        ("[1]", "row 1: [1] has no fields"),
        ("", "has no question that can be asked"),
    ],
)
def test_own_questions_that_are_wrong(tmp_path: Path, line: str, message: str):
    (tmp_path / "q.jsonl").write_text(line)
    with pytest.raises(AnnotationError) as caught:
        read(tmp_path, "own")
    assert message in str(caught.value)


def test_the_limit_takes_questions_from_the_beginning(tmp_path: Path):
    write_json(tmp_path / "lvb_val.json", [LVB, {**LVB, "id": "b"}, {**LVB, "id": "c", "video_id": "v2"}])
    source = file_source(tmp_path, "longvideobench", MEDIA, 2)
    assert ([len(clip.questions) for clip in source.clips()], source.questions) == ([2], 2)


def test_unknown_places_and_formats(tmp_path: Path):
    with pytest.raises(ValueError, match="format='mme' is not known; choose from own, egoschema"):
        file_source(tmp_path, "mme", MEDIA)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        file_source(tmp_path / "nowhere", "own", MEDIA)
    assert set(format_names()) == {"own", *WRITERS}


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "q.parquet").touch()
    with pytest.raises(MissingPackageError, match="needs the package pyarrow"):
        read(tmp_path, "own")
