"""How memory, speed and accuracy change with the length of a video, and what that means at the size of real models."""

from .accuracy import run_needles
from .contenders import contenders
from .figures import save_figures
from .hours import hours_table
from .models import VIDEO_MODELS, VideoModel
from .needles import NEEDLES, needle_clip, stream_clips
from .report import LongVideoReport
from .stream import run_stream
from .study import Study, run_study
from .sweep import run_sweep, weights_bytes

__all__ = [
    "NEEDLES",
    "VIDEO_MODELS",
    "LongVideoReport",
    "Study",
    "VideoModel",
    "contenders",
    "hours_table",
    "needle_clip",
    "run_needles",
    "run_stream",
    "run_study",
    "run_sweep",
    "save_figures",
    "stream_clips",
    "weights_bytes",
]
