"""Questions on held-out images, answered by real weights from exact tokens and from packed ones."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from oscar_x.evals.embedded_vlm.build import TOKENS_PER_IMAGE
from oscar_x.evals.embedded_vlm.drawing import draw
from oscar_x.evals.embedded_vlm.measure import FULL, measure
from oscar_x.evals.embedded_vlm.questions import CHANCE, ask
from oscar_x.evals.embedded_vlm.scenes import scenes
from oscar_x.modality import Modality

SCENES = 8
MARGIN = 0.12  # above chance, as a share of some 45 answers: twice the standard error; measured 0.26 and more


def asked_and_answered(session, questions) -> list[bool]:
    right = []
    for question in questions:
        fork = session.fork()
        answer = fork.ask(question.text, max_new_tokens=2, do_sample=False)
        right.append(answer.split()[:1] == [question.answer])
        assert (fork.cache.packed_reads > session.cache.packed_reads) == (session.cache.memory().packed_elements > 0)
    return right


def test_sessions_answer_about_an_image(vlm):
    """Through the public surface: an image in a message, words out; its tokens exact, then packed at 2 bits."""
    exact, packed, guessed = [], [], []
    rng = np.random.default_rng(3)
    for scene in itertools.islice(scenes("held-out", 11), SCENES):
        questions = ask(scene, "held-out", rng)
        session = vlm.new_session([{"type": "image", "image": draw(scene)}])
        assert session.cache.modalities.counts()[0][Modality.IMAGE] == TOKENS_PER_IMAGE
        assert session.cache.memory().packed_elements == 0
        exact += asked_and_answered(session, questions)
        session.cache.flush()
        assert session.cache.memory().packed_elements > 0
        packed += asked_and_answered(session, questions)
        guessed += [CHANCE[question.kind] for question in questions]
    print(
        f"of {len(guessed)}: {np.mean(exact):.2f} exact, {np.mean(packed):.2f} packed, {np.mean(guessed):.2f} by chance"
    )
    assert len(guessed) >= 5 * SCENES
    assert np.mean(exact) > np.mean(guessed) + MARGIN
    assert np.mean(packed) > np.mean(guessed) + MARGIN


def test_measurement(vlm):
    rows = {row.method: row for row in measure(vlm, count=2, images=2, seed=7)}
    assert list(rows) == [FULL, "paper", "balanced", "max"]
    full = rows.pop(FULL)
    assert full.kl.value == pytest.approx(0, abs=1e-9)
    assert (full.top1.value, full.packed_reads, full.bits_per_element) == (1, 0, 16)
    for row in rows.values():
        print(row)
        assert row.questions == full.questions
        assert row.packed_reads > 0
        assert row.packed_bytes < full.packed_bytes / 2  # the last block of so short a context is half empty
        assert 0 < row.kl.value < 2
        assert 0.3 < row.top1.value <= 1
