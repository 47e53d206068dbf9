"""A small Qwen2.5-Omni trained on generated clips: the generator, the model, its training and measurement."""

from .clips import Clip, clips
from .questions import Question
from .words import CHANCE, KINDS

__all__ = ["CHANCE", "KINDS", "Clip", "Question", "clips"]
