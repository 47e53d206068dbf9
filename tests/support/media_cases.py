"""Conversations that every multimodal family is tried on, and the same inputs made by its processor alone."""

from __future__ import annotations

from typing import Any

import torch

from oscar_x import MediaLimits
from oscar_x.media import load_audio, load_image, load_video, parse_messages
from oscar_x.media.messages import MediaPart

LONG = "Look at this closely and remember every detail of it. " * 5


def part(make: Any, kind: str, facts: Any, seed: int = 0) -> dict[str, Any]:
    """A message part with a small random medium; ``make`` is tests/support/tiny_media.py."""
    if kind == "image":
        return {"type": "image", "image": make.image(60 + 20 * seed, 84, seed)}
    if kind == "audio":
        return {"type": "audio", "audio": make.tone(1.0 + 0.3 * seed, seed)}
    count = facts.num_frames or 8
    return {"type": "video", "video": make.frames(count, 56, 56 + 28 * seed, seed), "fps": facts.fps or 4.0}


def cases(make: Any, kinds: tuple[str, ...], facts: Any) -> dict[str, list[Any]]:
    """Case name -> batch of conversations."""

    def turn(*parts: Any) -> list[dict[str, Any]]:
        return [{"role": "user", "content": [*parts, {"type": "text", "text": LONG}]}]

    found = {"text": [turn()]}
    for kind in kinds:
        found[f"one {kind}"] = [turn(part(make, kind, facts))]
    if "image" in kinds:
        found["several images"] = [turn(*(part(make, "image", facts, seed) for seed in range(3)))]
    if "audio" in kinds:
        found["several sounds"] = [turn(*(part(make, "audio", facts, seed) for seed in range(3)))]
    if len(kinds) > 1 and facts.mixes:
        found["mixed"] = [turn(*(part(make, kind, facts, 1) for kind in kinds))]
    kind = kinds[0]
    short = [{"role": "user", "content": [part(make, kind, facts, 2), {"type": "text", "text": "And this?"}]}]
    two = turn(part(make, kind, facts, 0), {"type": "text", "text": "Then:"}, part(make, kind, facts, 1))
    found["ragged batch"] = [turn(part(make, kind, facts)), short, two]
    return found


def by_processor(processor: Any, facts: Any, conversations: list[Any], **options: Any) -> Any:
    """What transformers' processor makes of the conversations, without oscar_x's encoding."""
    texts, media = [], {"images": [], "videos": [], "audio": [], "metadata": []}
    for conversation in conversations:
        shown = [
            {"role": m["role"], "content": [p if p["type"] == "text" else {"type": p["type"]} for p in m["content"]]}
            for m in conversation
        ]
        texts.append(processor.apply_chat_template(shown, add_generation_prompt=True, tokenize=False))
        pictures, films = [], []
        for message in parse_messages(conversation):
            for piece in (p for p in message.parts if isinstance(p, MediaPart)):
                if piece.kind == "image":
                    pictures.append(load_image(piece, MediaLimits()))
                elif piece.kind == "audio":
                    rate = processor.feature_extractor.sampling_rate
                    media["audio"].append(load_audio(piece, MediaLimits(), rate))
                else:
                    video = load_video(piece, MediaLimits(), fps=facts.fps, num_frames=facts.num_frames)
                    films.append(torch.from_numpy(video.frames).permute(0, 3, 1, 2))
                    media["metadata"].append(
                        {
                            "total_num_frames": video.total_num_frames,
                            "fps": video.source_fps,
                            "frames_indices": video.frames_indices,
                            "duration": video.duration,
                        }
                    )
        media["images"].append(pictures)
        media["videos"].append(films)
    given = {}
    if any(media["images"]):
        given["images"] = media["images"]  # a list a conversation, as transformers' own apply_chat_template does
    if any(media["videos"]):
        given |= {"videos": media["videos"], "video_metadata": media["metadata"], "do_sample_frames": False}
        if facts.grid_seconds is not None:
            given["fps"] = facts.fps  # what the processor takes for granted is not the rate of every family
    if media["audio"]:
        given |= {"audio": media["audio"], "sampling_rate": processor.feature_extractor.sampling_rate}
    if processor.tokenizer.bos_token and texts[0].startswith(processor.tokenizer.bos_token):
        given["add_special_tokens"] = False  # as transformers does after its own chat template
    if len(texts) > 1:
        given["padding"] = True
    return processor(text=texts, return_tensors="pt", padding_side="left", **given, **options)


def features(processor: Any, facts: Any, parts: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """What the processor makes of media in one prompt, without what it makes of the text around them."""

    def read(some: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        output = by_processor(processor, facts, [[{"role": "user", "content": some}]])
        text = ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids")
        return {name: value for name, value in output.items() if name not in text}

    if facts.mixes:
        return read(parts)
    # a processor that cannot: one by one, put together by hand, [batch, images or frames, ...]
    each = [read([part]) for part in parts]
    return {name: torch.cat([output[name] for output in each], dim=1) for name in each[0]}


def token_types(processor: Any, ids: Any) -> dict[str, Any]:
    """The token types that the processor would give for these ids, under the names it uses."""
    names = set(processor.model_input_names) & {"mm_token_type_ids", "token_type_ids"}
    return {name: torch.tensor(processor.create_mm_token_type_ids(ids.tolist())) for name in names}
