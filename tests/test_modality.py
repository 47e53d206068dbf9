"""The modality stream as plain data: joined, cut, repeated, gone on with."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oscar_x.modality import Modality, ModalityStream, Span, stream_of_tokens

IMAGE, VIDEO, AUDIO = 90, 91, 92
PLACEHOLDERS = {IMAGE: Modality.IMAGE, VIDEO: Modality.VIDEO, AUDIO: Modality.AUDIO}
MEDIA = st.lists(st.tuples(st.sampled_from([IMAGE, VIDEO, AUDIO]), st.integers(1, 5), st.integers(0, 3)), max_size=5)


def written(media, padding: int = 0) -> tuple[torch.Tensor, torch.Tensor, list[Span]]:
    """Token ids of media with text behind each, the mask, and the spans of the media."""
    ids, spans = [0] * padding + [7], []
    for token, count, text in media:
        spans.append(Span(PLACEHOLDERS[token], len(ids), len(ids) + count))
        ids += [token] * count + [7] * text
    mask = torch.ones(1, len(ids), dtype=torch.int64)
    mask[:, :padding] = 0
    return torch.tensor([ids]), mask, spans


@given(MEDIA, st.integers(0, 4))
def test_every_token_has_its_medium(media, padding):
    ids, mask, spans = written(media, padding)
    stream = stream_of_tokens(ids, mask, PLACEHOLDERS, [spans])
    for number, (token, count, _) in enumerate(media, start=1):
        inside = stream.segments[0] == number
        assert int(inside.sum()) == count
        assert set(stream.modalities[0][inside].tolist()) == {PLACEHOLDERS[token]}
    assert int((stream.modalities == Modality.PADDING).sum()) == padding
    assert int((stream.segments > 0).sum()) == sum(count for _, count, _ in media)


@given(MEDIA, MEDIA)
def test_join_counts_media_on(first, second):
    parts = []
    for media in (first, second):
        ids, mask, spans = written(media)
        parts.append(stream_of_tokens(ids, mask, PLACEHOLDERS, [spans]))
    joined = parts[0].join(parts[1])
    assert joined.shape[1] == parts[0].shape[1] + parts[1].shape[1]
    assert int(joined.segments.max()) == len(first) + len(second)
    apart = joined.last(parts[1].shape[1])
    assert torch.equal(apart.modalities, parts[1].modalities)
    assert torch.equal(apart.segments, parts[1].segments)


@given(MEDIA, st.integers(0, 3), st.integers(1, 3), st.integers(-6, 6))
def test_fit_repeats_cuts_and_goes_on(media, padding, repeats, change):
    ids, mask, spans = written(media, padding)
    stream = stream_of_tokens(ids, mask, PLACEHOLDERS, [spans])
    columns = max(1, stream.shape[1] + change)
    fitted = stream.fit(repeats, columns, Modality.CODEC)
    known = min(columns, stream.shape[1])
    assert fitted.shape == (repeats, columns)
    for row in range(repeats):
        assert torch.equal(fitted.modalities[row, :known], stream.modalities[0, :known])
    assert (fitted.modalities[:, known:] == Modality.CODEC).all()
    assert (fitted.segments[:, known:] == 0).all()


def test_without_spans_a_run_is_a_medium():
    ids = torch.tensor([[1, IMAGE, IMAGE, 2, VIDEO, AUDIO, VIDEO, IMAGE, 3]])
    stream = stream_of_tokens(ids, None, PLACEHOLDERS)
    assert stream.segments.tolist() == [[0, 1, 1, 0, 2, 3, 4, 5, 0]]


def test_a_video_shown_as_images_is_video():
    ids = torch.tensor([[1, IMAGE, 5, IMAGE, AUDIO, IMAGE]])
    spans = [[Span(Modality.VIDEO, 1, 5), Span(Modality.IMAGE, 5, 6)]]
    stream = stream_of_tokens(ids, None, PLACEHOLDERS, spans)
    video, image = Modality.VIDEO, Modality.IMAGE
    assert stream.modalities.tolist() == [[0, video, 0, video, Modality.AUDIO, image]]
    assert stream.segments.tolist() == [[0, 1, 1, 1, 1, 2]]


def test_positions_go_on_behind_the_largest():
    ids = torch.tensor([[1, IMAGE, IMAGE, IMAGE, IMAGE, 2]])
    plain = stream_of_tokens(ids, None, PLACEHOLDERS)
    grid = torch.tensor([[0, 1, 1, 1, 1, 3], [0, 1, 1, 2, 2, 3], [0, 1, 2, 1, 2, 3]], dtype=torch.int32)
    stream = ModalityStream(plain.modalities, plain.segments, grid[:, None])
    assert stream.next_positions().tolist() == [4]
    assert stream.crop(3).next_positions().tolist() == [3]
    assert stream.crop(4).next_positions().tolist() == [3]
    assert stream.fit(1, 8).positions[:, 0, 6:].tolist() == [[4, 5]] * 3
    later = stream_of_tokens(torch.tensor([[3, 3]]), None, {})
    assert stream.join(later).positions[:, 0, 6:].tolist() == [[4, 5]] * 3
    assert later.join(stream).positions[:, 0, :2].tolist() == [[0, 1]] * 3


def test_a_prompt_goes_on_behind_its_last_text():
    """A video of three grids of one token: transformers puts text behind its frames' sides, answers behind its end."""
    video = stream_of_tokens(torch.tensor([[1, VIDEO, VIDEO, VIDEO, 2]]), None, PLACEHOLDERS)
    axes = torch.tensor([[0, 1, 5, 9, 2], [0, 1, 1, 1, 2], [0, 1, 1, 1, 2]], dtype=torch.int32)
    stream = ModalityStream(video.modalities, video.segments, axes[:, None])
    assert stream.prompt_positions().tolist() == [3]
    assert stream.next_positions().tolist() == [10]
    assert stream.crop(4).prompt_positions().tolist() == [10]  # cut inside the video: no text to go on from
    answered = stream.fit(1, 7)
    assert answered.prompt_positions().tolist() == answered.next_positions().tolist() == [12]
    assert video.prompt_positions().tolist() == [5]  # tokens that are only counted


def test_padding_has_no_position():
    ids, mask, spans = written([(IMAGE, 2, 1)], padding=3)
    stream = stream_of_tokens(ids, mask, PLACEHOLDERS, [spans])
    assert stream.next_positions().tolist() == [4]
    assert stream.counted(3)[0, 0, 3:].tolist() == [0, 1, 2, 3]


def test_shapes_that_do_not_fit():
    flat = torch.zeros(2, 4, dtype=torch.int8)
    with pytest.raises(ValueError, match="segments"):
        ModalityStream(flat, torch.zeros(2, 3, dtype=torch.int32))
    with pytest.raises(ValueError, match="positions"):
        ModalityStream(flat, flat.int(), torch.zeros(3, 2, 5, dtype=torch.int32))
    stream = ModalityStream(flat, flat.int())
    with pytest.raises(ValueError, match="rows=3"):
        stream.fit(3, 4)
    with pytest.raises(ValueError, match="later has 1 rows"):
        stream.join(stream.select(torch.tensor([0])))
