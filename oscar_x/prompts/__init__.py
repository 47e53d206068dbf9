"""Texts and conversations to model inputs, and what every token of them is."""

from .checks import check_parts
from .conversations import Messages, encode
from .loading import load_media
from .processing import process
from .prompt import Prompt, placeholder_tokens, placeholders
from .rendering import render
from .text import encode_text, tokenizer_of

__all__ = [
    "Messages",
    "Prompt",
    "check_parts",
    "encode",
    "encode_text",
    "load_media",
    "placeholder_tokens",
    "placeholders",
    "process",
    "render",
    "tokenizer_of",
]
