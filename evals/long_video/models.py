"""Models that see videos, as data: what a second of video costs them in tokens, and their weights in parameters."""

from __future__ import annotations

from dataclasses import dataclass

from ..bench.shapes import Shape, find_shape


@dataclass(frozen=True)
class VideoModel:
    """How a published model reads videos. Figures are those of its published config and processor files.

    Attributes:
        shape: its text decoder.
        tower_parameters: of vision and audio towers and projectors, loaded beside the decoder; a talker is not counted.
        fps: frames a second that its processor keeps by default, or that its authors name for video.
        pixels: side of the square of a frame that becomes one token; 0 where every frame has `frame_tokens`.
        frames_a_token: frames that share their tokens.
        frame_tokens: tokens of a frame whatever its size; 0 where the size decides.
        audio_tokens: tokens of a second of sound; 0 where it does not hear.
        positions: the longest context of its config.
    """

    shape: Shape
    tower_parameters: int
    fps: float
    pixels: int
    frames_a_token: int
    frame_tokens: int
    audio_tokens: float
    positions: int

    @property
    def name(self) -> str:
        """The decoder's name, which is the model's."""
        return self.shape.name

    @property
    def parameters(self) -> int:
        """Of everything that is loaded to answer in text."""
        return self.shape.parameters + self.tower_parameters

    def tokens_per_frame(self, height: int, width: int) -> float:
        """Tokens of a frame of this size in pixels; sides are rounded to whole squares, as its processor does."""
        if self.frame_tokens:
            return float(self.frame_tokens)
        rows, columns = (max(1, round(side / self.pixels)) for side in (height, width))
        return rows * columns / self.frames_a_token

    def tokens_per_second(self, height: int, width: int, fps: float | None = None, sound: bool = True) -> float:
        """Tokens of a second of video, with its sound where the model hears."""
        seen = self.tokens_per_frame(height, width) * (self.fps if fps is None else fps)
        return seen + (self.audio_tokens if sound else 0.0)


# tests/evals/long_video/test_models.py builds the towers from these configs and counts their parameters again
VIDEO_MODELS: dict[str, VideoModel] = {
    model.name: model
    for model in (
        VideoModel(find_shape("Qwen2.5-VL-7B"), 676_550_144, 2.0, 28, 2, 0, 0.0, 128_000),
        # 40 ms of sound a token
        VideoModel(find_shape("Qwen2.5-Omni-7B"), 676_550_144 + 639_647_232, 2.0, 28, 2, 0, 25.0, 32_768),
        # 27 x 27 patches of a frame pooled to 14 x 14; 32 frames of a video, here one a second
        VideoModel(find_shape("LLaVA-OneVision-7B"), 414_732_320, 1.0, 0, 1, 196, 0.0, 32_768),
        VideoModel(find_shape("Qwen3-Omni-30B-A3B"), 538_631_408 + 647_927_168, 2.0, 32, 2, 0, 13.0, 65_536),
    )
}
