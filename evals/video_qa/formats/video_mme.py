"""Video-MME (Fu et al., 2024, arXiv 2405.21075).

    FOLDER/*.parquet or FOLDER/videomme/*.parquet   videoID, question_id, task_type, question, options, answer, duration
    FOLDER/data/VIDEOID.mp4                         or videos/, or the folder itself

Options are written "A. ...", answers are letters, three questions a video. Reported by task_type, and by the video's
class of duration.
"""

from __future__ import annotations

import re
from pathlib import Path

from ..media_parts import ClipBuilder, MediaSettings
from ..questions import Clip
from ..tables import find_file, find_media, read_rows
from .base import Format


def read(folder: Path, settings: MediaSettings) -> tuple[list[Clip], list[str]]:
    """See Format.read."""
    annotations = find_file(folder, "videomme/test*.parquet", "*.parquet", "*.json", "*.jsonl")
    builder = ClipBuilder(settings)
    for row in read_rows(annotations):
        video = row.text("videoID")
        options = tuple(re.sub(r"^[A-Z]\s*[.):]\s*", "", option) for option in row.texts("options"))
        right = row.letter("answer", len(options))
        question = row.question(row.text("question_id"), row.text("task_type"), options, right)
        path = find_media(folder, f"data/{video}.mp4", f"videos/{video}.mp4", f"video/{video}.mp4", f"{video}.mp4")
        builder.add(video, [("video", path)], question, row.text("duration"))
    return builder.clips(), []


FORMAT = Format("video-mme", "Video-MME", read)
