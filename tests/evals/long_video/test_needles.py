"""Needle clips: the same every time, one needle where it was asked for, one right answer."""

from __future__ import annotations

import numpy as np
import pytest

from oscar_x.evals.long_video import NEEDLES, needle_clip, stream_clips
from oscar_x.evals.long_video.needles import is_needle


@pytest.mark.parametrize("kind", NEEDLES)
@pytest.mark.parametrize("depth", [0.0, 0.4, 1.0])
def test_the_needle_lies_at_its_depth_and_is_alone(kind, depth):
    for number in range(5):
        clip = needle_clip(kind, 22.0, depth, number)
        places = [place for place, event in enumerate(clip.events) if is_needle(event, kind)]
        assert places == [round(10 * depth)]
        assert len(clip.frames) / clip.fps == 22.0
        assert len(clip.waveform) == 22 * clip.sampling_rate
        event, question = clip.events[places[0]], clip.questions[0]
        assert question.answer in question.options
        assert question.answer == {"visual": event.look, "audio": event.beeps, "both": event.sound}[kind]


def test_the_same_arguments_give_the_same_clip_and_others_another():
    first, again = (needle_clip("visual", 8.0, 0.5, 3, seed=1) for _ in range(2))
    assert np.array_equal(first.frames, again.frames)
    assert np.array_equal(first.waveform, again.waveform)
    assert first.questions == again.questions
    others = [needle_clip("visual", 8.0, 0.5, 4, seed=1), needle_clip("visual", 8.0, 0.5, 3, seed=2)]
    assert len({clip.frames.tobytes() for clip in (first, *others)}) == 3


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("seen", 8.0, 0.5), "kind='seen'"),
        (("visual", 8.0, 1.5), "depth=1.5"),
        (("visual", 2.0, 0.5), "seconds=2.0"),
    ],
)
def test_what_is_wrong_is_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        needle_clip(*arguments, 0)
    with pytest.raises(ValueError, match="heard=False"):
        needle_clip("audio", 8.0, 0.5, 0, heard=False)


@pytest.mark.parametrize("heard", [True, False])
def test_a_stream_is_whole_and_its_needles_are_in_the_first_piece(heard):
    pieces = list(stream_clips(50.0, 8.0, heard=heard))
    assert [len(piece.events) for piece in pieces] == [4, 4, 4, 4, 4, 4, 1]
    kinds = ("visual", "audio") if heard else ("visual",)
    assert [question.kind for question in pieces[0].questions] == list(kinds)
    for kind in kinds:
        found = [index for index, piece in enumerate(pieces) for event in piece.events if is_needle(event, kind)]
        assert found == [0]
    assert all((piece.waveform is not None) is heard for piece in pieces)
    with pytest.raises(ValueError, match=r"chunk=2\.0"):
        next(stream_clips(50.0, 2.0))
