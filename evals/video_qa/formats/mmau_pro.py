"""MMAU-Pro (Kumar et al., 2025, arXiv 2508.13992): sounds, music and speech.

    FOLDER/test.parquet        id, audio_path (a list), question, choices, answer, category, length_type
    FOLDER/data/....wav        audio_path counts from FOLDER

Answers are the words of a choice. Open-ended and instruction-following questions have none and are judged by another
model in the publication; they are left out here. The publication finds the choice of a written answer by embeddings,
here the choices are weighed by likelihood, so figures are not to be compared with its table.
"""

from __future__ import annotations

from pathlib import Path

from ..media_parts import ClipBuilder, Kind, MediaSettings
from ..questions import Clip
from ..tables import find_file, find_media, read_rows
from .base import Format, left_out


def read(folder: Path, settings: MediaSettings) -> tuple[list[Clip], list[str]]:
    """See Format.read."""
    builder, free, unclear = ClipBuilder(settings), 0, 0
    for row in read_rows(find_file(folder, "test.parquet", "*.parquet", "test.json", "*.jsonl")):
        options = tuple(row.texts("choices")) if row["choices"] else ()
        if len(options) < 2 or row["answer"] is None:
            free += 1
            continue
        if len(set(options)) < len(options) or row.text("answer") not in options:
            unclear += 1
            continue
        right = row.words("answer", options)
        question = row.question(row.text("id"), row.text("category"), options, right)
        sounds = [row.text("audio_path")] if isinstance(row["audio_path"], str) else row.texts("audio_path")
        media: list[tuple[Kind, Path]] = [("audio", find_media(folder, sound)) for sound in sounds]
        builder.add(" ".join(sounds), media, question, row.get("length_type") or "")
    notes = left_out(free, "their answers are written freely")
    return builder.clips(), notes + left_out(unclear, "their answer is not one of their different choices")


FORMAT = Format("mmau-pro", "MMAU-Pro", read)
