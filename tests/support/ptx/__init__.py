"""Emulates compiled Triton kernels on a CPU: a test tool. launch.py says how a kernel is exchanged for it."""

from .machine import Machine
from .memory import Global
from .parse import parse
from .registry import EmulationError

__all__ = ["EmulationError", "Global", "Machine", "parse"]
