"""Pictures of a TNI report, and the report as one HTML file."""

from __future__ import annotations

from .figures import draw_figures, save_figures
from .page import write_html

__all__ = ["draw_figures", "save_figures", "write_html"]
