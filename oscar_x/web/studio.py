"""What the page does, without the web: clips read into both caches, questions answered, pictures of the tokens."""

from __future__ import annotations

import base64
import io
import secrets
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

from PIL import Image

from ..cli.demo_media import MediaSide, answer_in_turn, read_sides, warm_up
from ..cli.demo_omni import chosen_questions, shipped_clip
from ..errors import MediaError
from ..media.containers import VIDEO_FORMATS, open_container
from ..modality import Modality
from .limits import WebLimits

if TYPE_CHECKING:
    from ..model import OscarModel

KINDS = ("video", "audio", "image")
THUMBNAILS, THUMBNAIL_HEIGHT = 8, 96


@dataclass
class HeldClip:
    """A clip that both caches have read.

    Attributes:
        parts: message parts it came as.
        heard: whether its sound track is heard.
        sides: the full cache, the compressed one.
        tni: the picture of its key norms, once it was asked for.
    """

    parts: list[dict[str, Any]]
    heard: bool
    sides: tuple[MediaSide, ...]
    tni: bytes | None = None


class Studio:
    """A model and the clips that its visitors brought. One thing is done at a time.

    Attributes:
        model, name: the model and what the page calls it.
        limits: of uploads and questions.
    """

    def __init__(self, model: OscarModel, name: str, limits: WebLimits | None = None) -> None:
        self.model, self.name, self.limits = model, name, limits or WebLimits()
        self.model.media_limits = self.limits.media
        self._clips: OrderedDict[str, HeldClip] = OrderedDict()
        self._busy = Lock()
        warm_up(model)

    def reads(self) -> list[str]:
        """Kinds of media that the model takes."""
        facts = self.model.adapter.media
        return [kind for kind in KINDS if facts is not None and kind in facts.kinds]

    def example(self) -> dict[str, Any]:
        """Read the clip that comes with the project; its questions have known answers."""
        clip, heard = shipped_clip(), self._hears()
        described = self._read(clip.content(), heard, thumbnails(clip.frames))
        questions = chosen_questions(clip, heard)
        return {**described, "questions": [{"text": q.text, "answer": q.answer} for q in questions]}

    def upload(self, data: bytes, kind: str) -> dict[str, Any]:
        """Read an uploaded file.

        Raises:
            MediaError: a file that is broken, too large, or not for this model.
        """
        if kind not in self.reads():
            raise MediaError(f"{kind}: not allowed here; the model reads {', '.join(self.reads())}")
        heard = kind == "video" and self._hears() and has_sound(data)
        return self._read([{"type": kind, kind: data}], heard, [])

    def _hears(self) -> bool:
        return self.model.adapter.media is not None and self.model.adapter.media.sound_in_video

    def _read(self, parts: list[dict[str, Any]], heard: bool, pictures: list[str]) -> dict[str, Any]:
        with self._busy:
            sides = read_sides(self.model, parts, use_audio_in_video=heard)
            name = secrets.token_urlsafe(16)
            self._clips[name] = HeldClip(parts, heard, sides)
            while len(self._clips) > self.limits.clips:
                self._clips.popitem(last=False)
        return {
            "clip": name,
            "pictures": pictures,
            "band": band(sides[1]),
            "sides": [{"name": s.name, "read_seconds": s.read_seconds, "memory": s.memory.to_dict()} for s in sides],
        }

    def find(self, name: str) -> HeldClip:
        """A clip that was read.

        Raises:
            KeyError: no such clip, or it was forgotten.
        """
        return self._clips[name]

    def answer(self, clip: HeldClip, question: str) -> Iterator[dict[str, Any]]:
        """Both answers as they come: {"side", "text", "seconds"}, then {"done": True}.

        Raises:
            ValueError: no question, or one too long.
        """
        question = question.strip()
        if not 0 < len(question) <= self.limits.question:
            raise ValueError(f"question has {len(question)} characters; use 1 to {self.limits.question}")
        return self._answer(clip, question)

    def _answer(self, clip: HeldClip, question: str) -> Iterator[dict[str, Any]]:
        with self._busy:
            for _ in answer_in_turn(clip.sides, question, self.limits.max_new_tokens):
                for number, side in enumerate(clip.sides):
                    yield {"side": number, "text": side.answer, "seconds": side.seconds[:1]}
        yield {"done": True}

    def tni(self, clip: HeldClip) -> bytes:
        """PNG of the clip's key norms by layer and token.

        Raises:
            ImportError: matplotlib is not installed.
        """
        from ..evals.tni_report.maps import norm_heatmap
        from ..tni import measure_tni

        with self._busy:
            if clip.tni is None:
                conversation = [{"role": "user", "content": [*clip.parts, "Describe this."]}]
                report = measure_tni(self.model, self.model.prepare(conversation, use_audio_in_video=clip.heard))
                file = io.BytesIO()
                norm_heatmap(report).savefig(file, format="png", dpi=130)
                clip.tni = file.getvalue()
        return clip.tni


def band(side: MediaSide) -> list[list[Any]]:
    """Runs of equal modality in order: [name, tokens]."""
    runs: list[list[Any]] = []
    for value in side.session.cache.modalities.modalities[0].tolist():
        kind = Modality(value).name.lower()
        if runs and runs[-1][0] == kind:
            runs[-1][1] += 1
        else:
            runs.append([kind, 1])
    return runs


def has_sound(data: bytes) -> bool:
    """Whether a video has a sound track; False where it cannot be opened, which reading it will say better."""
    try:
        with open_container(io.BytesIO(data), VIDEO_FORMATS, "video") as container:
            return bool(container.streams.audio)
    except MediaError:
        return False


def thumbnails(frames: Any, count: int = THUMBNAILS) -> list[str]:
    """Some frames, uint8 [n, height, width, 3], evenly over the clip, as data addresses."""
    count = min(count, len(frames))
    pictures = []
    for index in range(count):
        image = Image.fromarray(frames[(2 * index + 1) * len(frames) // (2 * count)])
        width = max(1, round(image.width * THUMBNAIL_HEIGHT / image.height))
        file = io.BytesIO()
        image.resize((width, THUMBNAIL_HEIGHT), Image.Resampling.NEAREST).save(file, "PNG")
        pictures.append("data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii"))
    return pictures
