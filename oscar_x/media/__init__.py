"""From the media of chat messages to loaded images, videos and sounds, bounded in size and time."""

from ..errors import MediaError
from .limits import MediaLimits
from .load import Video, load_audio, load_image, load_video
from .messages import MediaPart, Message, TextPart, parse_messages, parse_parts

__all__ = [
    "MediaError",
    "MediaLimits",
    "MediaPart",
    "Message",
    "TextPart",
    "Video",
    "load_audio",
    "load_image",
    "load_video",
    "parse_messages",
    "parse_parts",
]
