"""MLVU (Zhou et al., 2024, arXiv 2406.04264).

    FOLDER/json/1_plotQA.json ... 7_topic_reasoning.json   video, question, candidates, answer, question_type
    FOLDER/video/1_plotQA/VIDEO                            a folder for each annotation file

Answers are the words of an option. Files 8 and 9 ask for written summaries and have no candidates. Videos of equal
names in different folders are different ones.
"""

from __future__ import annotations

from pathlib import Path

from ..media_parts import ClipBuilder, MediaSettings
from ..questions import Clip
from ..tables import find_media, read_rows
from .base import Format, left_out


def read(folder: Path, settings: MediaSettings) -> tuple[list[Clip], list[str]]:
    """See Format.read."""
    files = sorted((folder / "json").glob("*.json")) or sorted(folder.glob("*.json"))
    if not files:
        raise FileNotFoundError(f"{folder} has no annotation files json/*.json")
    builder, open_ended = ClipBuilder(settings), 0
    for file in files:
        for number, row in enumerate(read_rows(file)):
            if not row.get("candidates"):
                open_ended += 1
                continue
            kind, video, options = row.text("question_type"), row.text("video"), tuple(row.texts("candidates"))
            right = row.words("answer", options)
            question = row.question(f"{file.stem}-{number}", kind, options, right)
            places = (f"video/{file.stem}/{video}", f"video/{kind}/{video}", f"video/{video}", video)
            builder.add(f"{file.stem}/{video}", [("video", find_media(folder, *places))], question)
    return builder.clips(), left_out(open_ended, "their answers are written freely")


FORMAT = Format("mlvu", "MLVU", read)
