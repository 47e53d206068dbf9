"""NExT-QA, multiple choice (Xiao et al., CVPR 2021).

    FOLDER/test.csv (or val.csv)         video, question, answer, qid, type, a0 ... a4
    FOLDER/map_vid_vidorID.json          {video: path below the videos' folder, without ending}; may be missing
    FOLDER/NExTVideo/1234/5678.mp4       or videos/

answer counts from 0. Types are causal (CW, CH), temporal (TN, TC, TP) and descriptive (DC, DL, DO).
"""

from __future__ import annotations

import json
from pathlib import Path

from ..media_parts import ClipBuilder, MediaSettings
from ..questions import Clip
from ..tables import AnnotationError, find_file, find_media, read_rows
from .base import Format, left_out

OPTIONS = tuple(f"a{number}" for number in range(5))
TYPES = {
    "CW": "causal why",
    "CH": "causal how",
    "TN": "temporal next",
    "TC": "temporal current",
    "TP": "temporal previous",
    "DC": "descriptive count",
    "DL": "descriptive location",
    "DO": "descriptive other",
}


def read(folder: Path, settings: MediaSettings) -> tuple[list[Clip], list[str]]:
    """See Format.read."""
    paths, alike = _paths(folder / "map_vid_vidorID.json"), 0
    builder = ClipBuilder(settings)
    for row in read_rows(find_file(folder, "test.csv", "val.csv", "*.csv", "*.parquet")):
        video, options = row.text("video"), tuple(row.text(field) for field in OPTIONS)
        right = row.number("answer", len(options))
        if len(set(options)) < len(options):
            alike += 1
            continue
        kind = row.text("type")
        question = row.question(f"{video}-{row.text('qid')}", TYPES.get(kind, kind), options, right)
        names = [paths[video], video] if video in paths else [video]
        places = [f"{parent}/{name}.mp4" for name in names for parent in ("NExTVideo", "videos", ".")]
        builder.add(video, [("video", find_media(folder, *places))], question)
    return builder.clips(), left_out(alike, "two of their options are the same")


def _paths(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise AnnotationError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise AnnotationError(f"{path} must hold {{video: path}}")
    return {str(video): str(place) for video, place in content.items()}


FORMAT = Format("next-qa", "NExT-QA", read)
