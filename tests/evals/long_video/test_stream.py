"""A video that arrives over time: bytes as predicted, nothing disturbed by questions, read as it would be at once."""

from __future__ import annotations

import pytest
import torch

from oscar_x.cache import OscarCache
from oscar_x.errors import MediaError
from oscar_x.evals.long_video import contenders, needle_clip, run_stream
from oscar_x.evals.long_video.contenders import FULL_SETTINGS
from oscar_x.evals.long_video.stream import named_option
from oscar_x.session import Session, SessionState


def piece(number: int, seconds: float = 4.0):
    return needle_clip("visual", seconds, 0.0, number, heard=False).content()


@pytest.mark.parametrize("name", ["full", "oscar-balanced"])
def test_a_stream_stays_on_its_predicted_line(omni, name):
    [cache] = contenders(omni, [name])
    report = run_stream(omni, cache, 12.0, chunk=4.0, ask_every=8.0, heard=False)
    assert [point.seconds for point in report.points] == [4.0, 8.0, 12.0]
    assert report.deviation < 0.01
    assert report.above_line < 0.03
    assert [answer.seconds for answer in report.answers] == [8.0]
    last = report.points[-1]
    assert last.frames == 48
    if name != "full":
        assert last.allocated < last.full / 4
    [other] = contenders(omni, ["kivi"])
    with pytest.raises(ValueError, match="kivi"):
        run_stream(omni, other, 12.0)


def test_questions_leave_no_trace_in_a_stream(omni):
    def watch(asking: bool) -> Session:
        session = Session(omni, omni.new_cache(), SessionState())
        for number in range(3):
            session.add(piece(number))
            if asking:
                session.ask("Which letter is shown?", keep=False, max_new_tokens=3)
        return session

    asked, quiet = watch(True), watch(False)
    assert asked.tokens == quiet.tokens
    for one, other in zip(asked.cache.packed_layers, quiet.cache.packed_layers, strict=True):
        assert one.rows[0].lengths == other.rows[0].lengths
        assert torch.equal(one.pool.records[one.rows[0].blocks], other.pool.records[other.rows[0].blocks])
        end = one.rows[0].exact
        assert torch.equal(one.exact.keys[:, :, :end], other.exact.keys[:, :, :end])


def test_pieces_are_read_as_one_prompt_would_be(omni):
    sessions = [Session(omni, OscarCache(omni.model.config, FULL_SETTINGS), SessionState()) for _ in range(2)]
    for number in range(2):
        sessions[0].add(piece(number))
    sessions[1].add([*piece(0), *piece(1)])
    one, other = sessions
    assert one.tokens == other.tokens
    assert torch.equal(one.cache.modalities.positions, other.cache.modalities.positions)
    assert torch.equal(one.cache.modalities.segments, other.cache.modalities.segments)
    for layer, whole in zip(one.cache.layers, other.cache.layers, strict=True):
        torch.testing.assert_close(layer.keys, whole.keys, atol=1e-4, rtol=1e-3)


def test_more_may_come_after_an_answer_and_what_fails_leaves_the_session_as_it_was(omni):
    session = omni.new_session(piece(0))
    session.ask("Which letter is shown?", max_new_tokens=3)
    session.add(piece(1))
    tokens, held = session.tokens, session.cache.get_seq_length()
    assert held == len(tokens)
    with pytest.raises(MediaError, match=r"media\[0\]"):
        session.add([{"type": "video", "video": b"nothing"}])
    with pytest.raises(ValueError, match="8192"):
        session.add([*piece(2, 30.0), *piece(3, 30.0)])
    assert (session.tokens, session.cache.get_seq_length()) == (tokens, held)
    assert isinstance(session.ask("And now?", max_new_tokens=3), str)


def test_answers_in_words_name_one_option():
    question = needle_clip("audio", 8.0, 0.5, 0).questions[0]
    assert named_option("There are 3 beeps.", question) == "3"
    assert named_option("2 or 3", question) is None
    assert named_option("", question) is None
