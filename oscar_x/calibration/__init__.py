"""Calibration: chooses the settings of every layer under a budget. docs/calibration.md."""

from .calibrate import Calibration, calibrate
from .candidates import Candidates

__all__ = ["Calibration", "Candidates", "calibrate"]
