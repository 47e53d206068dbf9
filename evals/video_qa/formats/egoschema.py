"""EgoSchema (Mangalam et al., 2023, arXiv 2308.09126).

    FOLDER/questions.json        q_uid, question, option 0 ... option 4
    FOLDER/subset_answers.json   {q_uid: number of the right option}
    FOLDER/videos/Q_UID.mp4      or good_clips_git/, or the folder itself

The answers of 500 questions are public; the others cannot be scored here. One video a question, no question types.
"""

from __future__ import annotations

import json
from pathlib import Path

from ..media_parts import ClipBuilder, MediaSettings
from ..questions import Clip
from ..tables import AnnotationError, find_file, find_media, read_rows
from .base import Format, left_out

OPTIONS = tuple(f"option {number}" for number in range(5))


def read(folder: Path, settings: MediaSettings) -> tuple[list[Clip], list[str]]:
    """See Format.read."""
    answers = _answers(find_file(folder, "subset_answers.json", "*answers*.json"))
    rows = read_rows(find_file(folder, "questions.json"))
    builder = ClipBuilder(settings)
    for row in (row for row in rows if row.text("q_uid") in answers):
        video = row.text("q_uid")
        options = tuple(row.text(field) for field in OPTIONS)
        question = row.question(video, "all", options, answers[video])
        places = (f"videos/{video}.mp4", f"good_clips_git/{video}.mp4", f"{video}.mp4")
        builder.add(video, [("video", find_media(folder, *places))], question)
    clips = builder.clips()
    return clips, left_out(len(rows) - len(clips), "their answers are not published")


def _answers(path: Path) -> dict[str, int]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise AnnotationError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict) or not all(type(answer) is int and 0 <= answer < 5 for answer in content.values()):
        raise AnnotationError(f"{path} must hold {{q_uid: number of the right option, 0 to 4}}")
    return content


FORMAT = Format("egoschema", "EgoSchema", read)
