"""Rendered conversations and their media through the model's own processor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers.video_utils import VideoMetadata

from ..adapters.base import Adapter, MediaFacts
from ..errors import MediaError, first_line
from ..media import Video
from ..modality import Span, stream_of_tokens
from .loading import Media
from .prompt import KINDS, Prompt, placeholders
from .soundtracks import audio_arguments, heard_in_video, rate_arguments, time_grids
from .spans import aligned_spans, replaced_spans
from .text import encode_text, tokenizer_of


def process(processor: Any, adapter: Adapter, texts: Sequence[str], media: Media, *, continues: bool = False) -> Prompt:
    """The processor's output for rendered conversations, with its modality stream.

    Args:
        continues: the texts go on from what a cache holds, so that no token is put before them.

    Raises:
        MediaError: media and placeholders that do not fit; the processor's own words.
    """
    if adapter.media is None:
        # a chat template writes the first token itself, and a turn behind a cache has none
        first = not continues and getattr(processor, "chat_template", None) is None
        tensors = encode_text(processor, texts, add_special_tokens=first)
        return Prompt(tensors, stream_of_tokens(tensors["input_ids"], tensors["attention_mask"], {}))
    arguments = _arguments(processor, adapter.media, texts, media, continues)
    try:
        output = processor(**arguments)
    except (ValueError, IndexError, StopIteration) as error:
        raise MediaError(f"messages: {type(processor).__name__} refuses the media: {first_line(error)}") from error
    offsets, replaced = output.pop("offset_mapping"), output.pop("text_replacement_offsets", None)
    time_grids(output, adapter.media, media.flat("video"), processor)
    if heard_in_video(media.slots):
        output["use_audio_in_video"] = True
    mask = output.get("attention_mask")
    spans = _spans(processor, texts, output, offsets.tolist(), replaced)
    return Prompt(output, stream_of_tokens(output["input_ids"], mask, placeholders(processor), spans))


def _spans(
    processor: Any, texts: Sequence[str], output: Mapping[str, Any], offsets: Any, replaced: Any
) -> list[list[Span]] | None:
    """The tokens of each medium, row by row; None where nobody knows."""
    if replaced is not None:
        return [replaced_spans(*row, KINDS) for row in zip(offsets, replaced, strict=True)]
    marks = {token: kind for name, kind in KINDS.items() if (token := getattr(processor, f"{name}_token", None))}
    rows = []
    for text, ids, mask in zip(texts, output["input_ids"], output["attention_mask"], strict=True):
        padding = int((mask == 0).sum())
        spans = aligned_spans(tokenizer_of(processor), text, ids[padding:].tolist(), marks)
        if spans is None:
            return None
        rows.append([Span(span.kind, span.start + padding, span.stop + padding) for span in spans])
    return rows


def _arguments(
    processor: Any, facts: MediaFacts, texts: Sequence[str], media: Media, continues: bool
) -> dict[str, Any]:
    many = len(texts) > 1
    arguments: dict[str, Any] = {
        "text": list(texts),
        "return_tensors": "pt",
        "padding_side": "left",
        "return_offsets_mapping": True,
        "return_text_replacement_offsets": True,
    }
    if many:  # said of one conversation, it would keep sounds of unequal length from being padded, too
        arguments["padding"] = True
    bos = getattr(tokenizer_of(processor), "bos_token", None)
    # most chat templates write the first token themselves
    if continues or (bos and texts[0].startswith(bos)):
        arguments["add_special_tokens"] = False
    if media.flat("image"):
        # a list a conversation, also for one: LLaVA-OneVision shows a lone image in tiles and several without
        arguments["images"] = media["image"]
    if videos := media.flat("video"):
        arguments["videos"] = [
            [torch.from_numpy(video.frames).permute(0, 3, 1, 2) for video in row] for row in media["video"]
        ]
        arguments |= {"video_metadata": [_metadata(video) for video in videos], "do_sample_frames": False}
        arguments |= rate_arguments(facts, videos, media.slots)
    return arguments | audio_arguments(processor, media.slots) | facts.processor_arguments(media)


def _metadata(video: Video) -> VideoMetadata:
    height, width = video.frames.shape[1:3]
    return VideoMetadata(
        total_num_frames=video.total_num_frames,
        fps=video.source_fps,
        width=width,
        height=height,
        duration=video.duration,
        frames_indices=video.frames_indices,
    )
