from itertools import islice

import numpy as np
import pytest

from oscar_x.evals.tiny_omni import CHANCE, KINDS, Clip, clips
from oscar_x.evals.tiny_omni.events import draw_events
from oscar_x.evals.tiny_omni.questions import ask
from oscar_x.evals.tiny_omni.words import ANSWERS, COLORS, DIRECTIONS, LOOKS, SHAPES, SOUNDS
from oscar_x.media import MediaLimits, load_video, parse_parts


def take(count: int, *arguments: object, **keywords: object) -> list[Clip]:
    return list(islice(clips(*arguments, **keywords), count))  # type: ignore[arg-type]


def same(one: Clip, other: Clip) -> bool:
    sounds = one.waveform is not None and other.waveform is not None
    return (
        one.id == other.id
        and one.questions == other.questions
        and np.array_equal(one.frames, other.frames)
        and sounds
        and np.array_equal(one.waveform, other.waveform)
    )


def test_the_same_arguments_give_the_same_clips_from_any_start() -> None:
    first, later = take(5, "train", length=3), take(2, "train", length=3, start=3)
    assert all(same(one, other) for one, other in zip(first[3:], later, strict=True))
    assert not same(first[0], first[1])
    assert not np.array_equal(first[0].frames, take(1, "train", length=3, seed=1)[0].frames)


@pytest.mark.parametrize("heard", [True, False])
@pytest.mark.parametrize("needle", [False, True])
@pytest.mark.parametrize("length", [1, 2, 4, 9, 30])
def test_splits_are_disjoint(length: int, needle: bool, heard: bool) -> None:
    """No training clip has a held-out combination, and every held-out clip has one: none of them can be the same."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        trained = draw_events(rng, "train", length, needle, heard)
        held_out = draw_events(rng, "held-out", length, needle, heard)
        assert not any(event.unheard or event.unseen for event in trained)
        assert any(event.held_out(heard) for event in held_out)


@pytest.mark.parametrize("heard", [True, False])
def test_streams_keep_the_splits_apart(heard: bool) -> None:
    for clip in take(15, "train", length=4, heard=heard):
        assert not any(event.unheard or event.unseen for event in clip.events)
    for clip in take(15, "held-out", length=4, heard=heard):
        assert any(event.held_out(heard) for event in clip.events)


def test_each_look_is_trained_in_every_color_and_with_every_sound() -> None:
    """What is held out are combinations of three: a sixth of those there are."""
    rng = np.random.default_rng(0)
    events = [event for _ in range(3000) for event in draw_events(rng, "train", 6)]
    assert len({(event.color, event.look) for event in events}) == len(COLORS) * len(LOOKS)
    assert len({(event.sound, event.look) for event in events}) == len(SOUNDS) * len(LOOKS)
    assert len({(event.color, event.look, event.sound) for event in events}) == 5 * len(SOUNDS) * len(LOOKS)
    moving = [event for event in events if event.direction is not None]
    assert len({(event.color, event.look, event.direction) for event in moving}) == 5 * len(SHAPES) * len(DIRECTIONS)


@pytest.mark.parametrize("split", ["train", "held-out"])
@pytest.mark.parametrize("kind", KINDS)
def test_questions_of_a_kind_have_one_answer_among_their_options(split: str, kind: str) -> None:
    for clip in take(4, split, kind, 9):
        assert {question.kind for question in clip.questions} == {kind}
        for question in clip.questions:
            assert question.answer in question.options
            assert question.text.endswith("?")
            assert CHANCE[kind] == pytest.approx(1 / len(question.options))


def test_ids_are_unique() -> None:
    ids = [question.id for clip in take(5, "held-out", length=5) for question in clip.questions]
    assert len(set(ids)) == len(ids)


def test_answers_are_spread() -> None:
    """No answer is so frequent that always giving it would be worth much."""
    rng = np.random.default_rng(0)
    answers: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for _ in range(400):
        for question in ask("", draw_events(rng, "held-out", 9, needle=rng.random() < 0.5), rng, heard=True):
            answers[question.kind].append(question.answer)
    for kind, given in answers.items():
        most = max(given.count(answer) for answer in set(given)) / len(given)
        assert most < 1.6 / len(ANSWERS[kind]), (kind, most)


def test_needles_lie_early() -> None:
    for clip in take(4, "train", "needle", 24):
        places = [place for place, event in enumerate(clip.events) if event.thing == "letter"]
        assert len(places) == 1
        assert places[0] < 6


def test_sound_lasts_as_long_as_the_frames() -> None:
    heard, silent = take(1, "train", length=3)[0], take(1, "train", length=3, heard=False)[0]
    assert heard.waveform is not None
    assert len(heard.frames) / heard.fps == len(heard.waveform) / heard.sampling_rate == 6
    assert heard.use_audio_in_video
    assert silent.waveform is None
    assert not silent.use_audio_in_video
    assert not {"sound", "beeps"} & {question.kind for question in silent.questions}


@pytest.mark.parametrize("heard", [True, False])
def test_the_file_holds_frames_and_samples_exactly(heard: bool) -> None:
    clip = take(1, "held-out", length=2, heard=heard)[0]
    part = parse_parts(clip.content())[0]
    video = load_video(part, MediaLimits(), fps=2.0, sound_rate=clip.sampling_rate if heard else None)  # type: ignore[arg-type]
    assert np.array_equal(video.frames, clip.frames)
    assert video.fps == clip.fps
    if heard:
        assert video.sound is not None
        assert np.array_equal(video.sound, clip.waveform)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"split": "test"}, "split='test'"),
        ({"split": "train", "kind": "smell"}, "kind='smell'"),
        ({"split": "train", "kind": "needle", "length": 4}, "length=4"),
        ({"split": "train", "length": 0}, "length=0"),
        ({"split": "train", "start": -1}, "start=-1"),
        ({"split": "train", "kind": "sound", "heard": False}, "heard=False"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        clips(**arguments)
