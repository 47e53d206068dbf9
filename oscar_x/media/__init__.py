"""From the media of chat messages to loaded images, videos and sounds, bounded in size and time."""

from ..errors import MediaError
from .limits import MediaLimits
from .messages import MediaPart, Message, TextPart, parse_messages, parse_parts

__all__ = ["MediaError", "MediaLimits", "MediaPart", "Message", "TextPart", "parse_messages", "parse_parts"]
