"""A whole memory study: sweep, needles, streams, and the hours that fit at published shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ..bench.bandwidth import dtype_name
from ..bench.clock import Progress
from ..methods import FULL
from .accuracy import DEPTHS, run_needles
from .contenders import contenders
from .hours import HEIGHT, WIDTH, hours_table
from .needles import NEEDLES
from .reading import check_sees_video, hears_video
from .report import LongVideoReport
from .stream import ASK_EVERY, CHUNK_SECONDS, run_stream
from .sweep import run_sweep, weights_bytes

if TYPE_CHECKING:
    from ...model import OscarModel
    from ...profile import Profile


@dataclass(frozen=True)
class Study:
    """What to measure.

    Attributes:
        methods: names of caches; None for the full one, the presets and all profiles.
        lengths, memory, steps: of sweep.run_sweep.
        needles: kinds; None for all that the model can notice.
        depths, clips: of accuracy.run_needles; without clips nothing is asked.
        stream: seconds of a video that arrives over time; 0 for none.
        chunk, ask_every, heard: of stream.run_stream.
        listed: whether questions name their options.
        frame: width and height of frames where hours are counted.
        seed: of the clips.
    """

    methods: Sequence[str] | None = None
    lengths: Sequence[float] | None = None
    memory: int | None = None
    steps: int = 16
    needles: Sequence[str] | None = None
    depths: Sequence[float] | None = DEPTHS
    clips: int = 8
    stream: float = 0.0
    chunk: float = CHUNK_SECONDS
    ask_every: float = ASK_EVERY
    heard: bool | None = None
    listed: bool = False
    frame: tuple[int, int] = (WIDTH, HEIGHT)
    seed: int = 0


def run_study(
    model: OscarModel,
    study: Study,
    *,
    model_name: str = "",
    profiles: Mapping[str, Profile] | None = None,
    progress: Progress = lambda done, total, what: None,
) -> LongVideoReport:
    """Run it.

    Args:
        model_name: what the report calls the model.
        profiles: calibrated settings, cache "oscar-NAME" for each name.
        progress: called with steps done, steps in all and what goes on, from 0 again for every part.

    Raises:
        ValueError: a model that sees no videos, or a value that is not allowed.
    """
    check_sees_video(model)
    caches = contenders(model, study.methods, profiles)
    needles = _needles(study.needles, hears_video(model))
    own = {cache.name: cache.settings for cache in caches if cache.settings is not None and cache.name != FULL.name}
    asking = {"listed": study.listed, "seed": study.seed, "progress": progress}
    sweep = run_sweep(model, caches, study.lengths, study.memory, steps=study.steps, **asking)  # type: ignore[arg-type]
    reached = {cache.name: sweep.lengths(cache.name) for cache in caches}
    depths = DEPTHS if study.depths is None else study.depths
    answers = run_needles(model, caches, reached, needles=needles, depths=depths, clips=study.clips, **asking)  # type: ignore[arg-type]
    arriving = {"chunk": study.chunk, "ask_every": study.ask_every, "heard": study.heard, **asking}
    streams = [
        run_stream(model, cache, study.stream, **arriving)  # type: ignore[arg-type]
        for cache in caches
        if study.stream and cache.settings is not None
    ]
    settings = {
        **asdict(study),
        "needles": list(needles),
        "depths": list(depths),
        "weights_bytes": weights_bytes(model),
        "dtype": dtype_name(model.model.dtype),
        "device": str(model.model.device),
    }
    width, height = study.frame
    hours = hours_table(own, height=height, width=width)
    return LongVideoReport(model_name or model.adapter.name, settings, sweep, answers, streams, hours)


def _needles(asked: Sequence[str] | None, hears: bool) -> Sequence[str]:
    """The kinds asked for.

    Raises:
        ValueError: an unknown one, or one that the model cannot notice.
    """
    able = NEEDLES if hears else NEEDLES[:1]
    for kind in asked or ():
        if kind not in able:
            raise ValueError(f"needles={kind!r} is not allowed here; choose from {', '.join(able)}")
    return asked or able
