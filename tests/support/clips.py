"""Small video files with a sound track, and what transformers' omni processors make of them by themselves."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from oscar_x import MediaLimits
from oscar_x.media import load_audio, load_image, load_video, parse_messages
from oscar_x.media.messages import MediaPart


def clip(path: Path, seconds: float = 4.0, sound: bool = True, seed: int = 0, fps: int = 4) -> Path:
    """A file of 64 x 64 frames of noise, and of a noisy tone as long."""
    noise = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=fps)
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=16_000, layout="mono") if sound else None
        for _ in range(round(seconds * fps)):
            frame = av.VideoFrame.from_ndarray(noise.integers(0, 256, (64, 64, 3), np.uint8), format="rgb24")
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if audio is not None:
            time = np.arange(round(seconds * 16_000)) / 16_000
            wave = 0.3 * np.sin(2 * np.pi * 300 * time) + 0.05 * noise.standard_normal(len(time))
            samples = av.AudioFrame.from_ndarray(wave[None].astype(np.float32), format="fltp", layout="mono")
            samples.sample_rate, samples.time_base = 16_000, Fraction(1, 16_000)
            container.mux(audio.encode(samples))
            container.mux(audio.encode())
    return path


def omni_inputs(processor: Any, facts: Any, texts: list[str], conversations: list[Any], sound: bool) -> dict[str, Any]:
    """The processor's own output for rendered texts; the media are those of the conversations, in their order."""
    images, videos, metadata, sounds, of_video = [], [], [], [], []
    rate, limits = processor.feature_extractor.sampling_rate, MediaLimits()
    for conversation in conversations:
        for message in parse_messages(conversation):
            for part in (part for part in message.parts if isinstance(part, MediaPart)):
                if part.kind == "image":
                    images.append(load_image(part, limits))
                elif part.kind == "audio":
                    sounds.append(load_audio(part, limits, rate))
                    of_video.append(None)
                else:
                    video = load_video(part, limits, fps=facts.fps, sound_rate=rate if sound else None)
                    if sound:
                        sounds.append(video.sound)
                        of_video.append(len(videos))
                    videos.append(torch.from_numpy(video.frames).permute(0, 3, 1, 2))
                    metadata.append({"total_num_frames": len(video.frames), "fps": video.fps})
    given: dict[str, Any] = {"images": images} if images else {}
    if videos:
        given |= {"videos": videos, "video_metadata": metadata, "do_sample_frames": False, "fps": facts.fps}
    if sounds:
        given |= {"audio": sounds, "sampling_rate": rate}
    if sound and videos and hasattr(processor, "load_audio_from_video"):
        given |= {"load_audio_from_video": True, "audio_from_video_indices": of_video}
    elif sound and videos:
        given["use_audio_in_video"] = True
    if len(texts) > 1:
        given["padding"] = True
    return processor(text=list(texts), return_tensors="pt", padding_side="left", **given)
