"""A part of a message to the loaded medium, by its kind."""

from .audio import load_audio
from .image import load_image
from .video import Video, load_video

__all__ = ["Video", "load_audio", "load_image", "load_video"]
