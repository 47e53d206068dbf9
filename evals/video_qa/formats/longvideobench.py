"""LongVideoBench (Wu et al., 2024, arXiv 2407.15754).

    FOLDER/lvb_val.json       id, video_id, video_path, question, candidates, correct_choice, question_category,
                              duration_group
    FOLDER/videos/VIDEO_PATH

correct_choice counts from 0; questions have three to five candidates. Subtitles are not read. The test split has no
answers, so it cannot be scored.
"""

from __future__ import annotations

from pathlib import Path

from ..media_parts import ClipBuilder, MediaSettings
from ..questions import Clip
from ..tables import find_file, find_media, read_rows
from .base import Format


def read(folder: Path, settings: MediaSettings) -> tuple[list[Clip], list[str]]:
    """See Format.read."""
    builder = ClipBuilder(settings)
    for row in read_rows(find_file(folder, "lvb_val.json", "*val*.json", "*val*.parquet")):
        video, options = row.text("video_path"), tuple(row.texts("candidates"))
        right = row.number("correct_choice", len(options))
        question = row.question(row.text("id"), row.text("question_category"), options, right)
        path = find_media(folder, f"videos/{video}", video)
        builder.add(row.text("video_id"), [("video", path)], question, f"{row.text('duration_group')} s")
    return builder.clips(), []


FORMAT = Format("longvideobench", "LongVideoBench", read)
