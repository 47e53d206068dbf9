"""Scenes, their drawing and their questions; the splits have nothing in common."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from oscar_x.evals.embedded_vlm.drawing import IMAGE_SIZE, MAT, MAT_COLOR, draw
from oscar_x.evals.embedded_vlm.questions import CHANCE, KINDS, ask, caption
from oscar_x.evals.embedded_vlm.scenes import (
    COLORS,
    FIELD,
    HELD_OUT_PAIRS,
    MOST_THINGS,
    SHAPES,
    Background,
    Scene,
    Thing,
    scenes,
)


def some(split: str, count: int = 400, seed: int = 0) -> list[Scene]:
    return list(itertools.islice(scenes(split, seed), count))


def test_splits_share_no_scene():
    trained = {thing.pair for scene in some("train") for thing in scene.things}
    assert not trained & HELD_OUT_PAIRS
    assert trained == {(color, shape) for color in COLORS for shape in SHAPES} - HELD_OUT_PAIRS
    assert all({thing.pair for thing in scene.things} & HELD_OUT_PAIRS for scene in some("held-out"))


def test_every_color_and_shape_is_trained_and_held_out():
    assert {color for color, _ in HELD_OUT_PAIRS} == set(COLORS)
    assert {shape for _, shape in HELD_OUT_PAIRS} == set(SHAPES)


def test_training_questions_name_no_held_out_pair():
    names = [f"{color} {shape}" for color, shape in HELD_OUT_PAIRS]
    rng = np.random.default_rng(0)
    texts = [q.text for scene in some("train") for q in ask(scene, "train", rng)] + [caption(s) for s in some("train")]
    assert len(texts) > 1000
    assert not [text for text in texts if any(name in text for name in names)]


@pytest.mark.parametrize("split", ["train", "held-out"])
def test_stream_is_reproducible(split):
    assert some(split, 20) == some(split, 20)
    assert some(split, 20) != some(split, 20, seed=1)


def test_things_lie_apart_inside_the_field():
    counts = set()
    for scene in some("held-out"):
        counts.add(len(scene.things))
        assert len({t.color for t in scene.things}) == len({t.shape for t in scene.things}) == len(scene.things)
        for thing in scene.things:
            assert thing.radius <= min(thing.x, thing.y, FIELD - thing.x, FIELD - thing.y)
        for a, b in itertools.combinations(scene.things, 2):
            assert np.hypot(a.x - b.x, a.y - b.y) > a.radius + b.radius
    assert counts == set(range(1, MOST_THINGS + 1))


def test_unknown_split_is_refused():
    with pytest.raises(ValueError, match=r"split='test' is not allowed.*'train', 'held-out'"):
        next(scenes("test"))


@pytest.mark.parametrize("shape", SHAPES)
def test_drawn_where_and_as_said(shape):
    background = Background("plain", (120, 120, 120), (120, 120, 120), 0)
    image = np.asarray(draw(Scene((Thing("red", shape, 60.0, 150.0, 30.0, 0.0),), background)))
    assert image.shape == (IMAGE_SIZE, IMAGE_SIZE, 3)
    red = np.argwhere((image[..., 0] > 180) & (image[..., 1] < 80)) - MAT
    top, left = red.min(axis=0)
    bottom, right = red.max(axis=0)
    assert abs((left + right) / 2 - 60) < 2
    assert 116 <= top < bottom <= 184
    areas = {"circle": np.pi, "square": 2.0, "triangle": 1.299, "star": 1.234}
    assert len(red) == pytest.approx(areas[shape] * 30**2, rel=0.08)
    edge = np.concatenate([image[:MAT].reshape(-1, 3), image[:, :MAT].reshape(-1, 3)])
    assert (edge == MAT_COLOR).all()


def test_answers_follow_from_the_scene():
    things = (Thing("red", "star", 40.0, 160.0, 30.0, 0.0), Thing("blue", "circle", 160.0, 50.0, 30.0, 0.0))
    scene = Scene(things, Background("plain", (120, 120, 120), (120, 120, 120), 0))
    assert caption(scene) == "two shapes: a red star at the bottom left, a blue circle at the top right."
    rng = np.random.default_rng(0)
    answers = {(q.text, q.answer) for _ in range(60) for q in ask(scene, "held-out", rng)}
    assert ("What color is the star?", "red") in answers
    assert ("What shape is the blue thing?", "circle") in answers
    assert ("How many shapes are there?", "two") in answers
    assert ("Is the blue circle at the left or the right?", "right") in answers
    assert ("Is the red star at the top or the bottom?", "bottom") in answers
    assert {a for t, a in answers if t == "Is there a red star?"} <= {"yes"}
    assert {a for t, a in answers if t == "Is there a red circle?"} <= {"no"}
    assert {a for t, a in answers if t.startswith("Is there")} == {"yes", "no"}


def test_no_answer_is_favoured():
    rng = np.random.default_rng(0)
    given: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for scene in some("held-out", 1500):
        for question in ask(scene, "held-out", rng):
            assert question.answer in question.choices
            given[question.kind].append(question.answer)
    for kind, answers in given.items():
        most = max(answers.count(answer) for answer in set(answers)) / len(answers)
        assert most < CHANCE[kind] + 0.1, kind
