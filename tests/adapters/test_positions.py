"""Where tokens stand on the rotary axes, against the model's own placing of the whole conversation at once."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import oscar_x
from oscar_x.modality import Modality

FAMILIES = ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"]
GRIDS = ("image_grid_thw", "video_grid_thw", "second_per_grid_ts")
ANSWER = {"max_new_tokens": 3, "min_new_tokens": 3, "do_sample": False}

sides = st.sampled_from([56, 84, 112])
images = st.tuples(st.just("image"), sides, sides)
# frames a second and frames: from a video within the width of its frames to one far longer
videos = st.tuples(st.just("video"), sides, sides, st.sampled_from([2, 5, 48]), st.sampled_from([1.0, 2.0, 8.0]))
texts = st.tuples(st.just("text"), st.text("abc ", min_size=1, max_size=9))
turns = st.lists(st.one_of(images, videos, texts), min_size=1, max_size=4)
few = settings(max_examples=12, deadline=None, derandomize=True)


@pytest.fixture(params=FAMILIES)
def loaded(tiny_media, request):
    return oscar_x.load(tiny_media(request.param), kv_bits=16, device="cpu")


@pytest.fixture
def parts_of(support):
    make = support("tiny_media")

    @cache
    def part(kind, *settings):
        if kind == "text":
            return {"type": "text", "text": settings[0]}
        if kind == "image":
            return {"type": "image", "image": make.image(*settings)}
        height, width, count, fps = settings
        return {"type": "video", "video": make.frames(count, height, width), "fps": fps}

    return lambda turn: [part(*drawn) for drawn in turn]


def ask(parts):
    return [{"role": "user", "content": parts}]


def by_model(loaded, ids, parts):
    """The model's own positions of one prompt [3, tokens], and how far generated tokens are from their columns."""
    grids = {}
    for part in (part for part in parts if part["type"] != "text"):
        for name, value in loaded.prepare(ask([part])).items():
            if name in GRIDS:
                grids.setdefault(name, []).append(torch.as_tensor(value))
    types = torch.tensor(loaded.processor.create_mm_token_type_ids(ids.tolist()))
    media = {name: torch.cat(values) for name, values in grids.items()}
    positions, delta = loaded.model.model.get_rope_index(ids, mm_token_type_ids=types, **media)
    return positions[:, 0], int(delta)


def settled(positions):
    """Whether text stands behind everything before it: not so behind a video longer than its frames are wide."""
    return bool(positions[:, -1].max() == positions.max())


def test_first_turn_and_answer(loaded, parts_of):
    @few
    @given(turns)
    def check(turn):
        parts, held = parts_of(turn), loaded.new_cache()
        prompt = loaded.prepare(ask(parts))
        loaded.generate(prompt, past_key_values=held, **ANSWER)
        length, found = prompt["input_ids"].shape[1], held.modalities.counted(3)[:, 0]
        expected, delta = by_model(loaded, prompt["input_ids"], parts)
        assert torch.equal(found[:, :length].long(), expected)
        answer = torch.arange(length, found.shape[1]) + delta
        assert torch.equal(found[:, length:].long(), answer.expand(3, -1))

    check()


def test_ragged_batch(loaded, parts_of):
    @few
    @given(st.lists(turns, min_size=2, max_size=3))
    def check(batch):
        rows, held = [parts_of(turn) for turn in batch], loaded.new_cache()
        prompt = loaded.prepare([ask(parts) for parts in rows])
        loaded.generate(prompt, past_key_values=held, **ANSWER)
        stream, length = held.modalities, prompt["input_ids"].shape[1]
        for row, parts in enumerate(rows):
            tokens = stream.modalities[row, :length] != Modality.PADDING
            ids = prompt["input_ids"][row][tokens][None]
            expected, delta = by_model(loaded, ids, parts)
            found = stream.counted(3)[:, row].long()
            assert torch.equal(found[:, :length][:, tokens], expected)
            answer = torch.arange(found.shape[1] - length) + ids.shape[1] + delta
            assert torch.equal(found[:, length:], answer.expand(3, -1))

    check()


def test_media_read_first_and_asked_about_later(loaded, parts_of):
    """What new_session() reads and the first question stand where one prompt with both would put them."""

    @few
    @given(turns)
    def check(turn):
        parts = parts_of(turn)
        session = loaded.new_session(parts)
        session.ask("Well?", **ANSWER)
        found = session.cache.modalities.counted(3)[:, 0].long()
        length = len(session.tokens) - 3
        expected, delta = by_model(loaded, torch.tensor([session.tokens[:length]]), parts)
        assert torch.equal(found[:, :length], expected)
        answer = torch.arange(length, found.shape[1]) + delta
        assert torch.equal(found[:, length:], answer.expand(3, -1))

    check()


def test_second_turn(loaded, parts_of):
    @few
    @given(turns, turns)
    def check(first, second):
        session = loaded.new_session(parts_of(first))
        session.ask("Well?", **ANSWER)
        before = len(session.tokens)
        session.ask([*parts_of(second), {"type": "text", "text": "And?"}], **ANSWER)
        found = session.cache.modalities.counted(3)[:, 0].long()
        ids = torch.tensor([session.tokens])
        length = ids.shape[1] - 3
        whole, _ = by_model(loaded, ids[:, :length], [*parts_of(first), *parts_of(second)])
        # the turn by itself, behind the last token of the answer before it
        alone, _ = by_model(loaded, ids[:, before:length], parts_of(second))
        assert torch.equal(found[:, before:length], alone + found[:, before - 1].max() + 1)
        # behind a long video, generate() puts an answer elsewhere than the method puts it in a prompt
        if settled(by_model(loaded, ids[:, : before - 3], parts_of(first))[0]):
            assert torch.equal(found[:, :length], whole)

    check()


def test_rolled_back_and_read_again(loaded, parts_of):
    @few
    @given(turns, st.integers(1, 20), turns)
    def check(first, back, second):
        parts, held = parts_of([*first, ("text", "and so on and on")]), loaded.new_cache()
        prompt = loaded.prepare(ask(parts))
        ids = prompt["input_ids"]
        loaded.generate(prompt, past_key_values=held, **ANSWER)
        keep = ids.shape[1] - back  # in the text behind the last medium
        held.crop(keep - held.get_seq_length())
        other = loaded.prepare(ask(parts_of(second)))
        loaded.generate(
            {**other, "attention_mask": torch.ones(1, keep + other["input_ids"].shape[1], dtype=torch.int64)},
            past_key_values=held,
            **ANSWER,
        )
        joined = torch.cat([ids[:, :keep], other["input_ids"]], dim=1)
        expected, _ = by_model(loaded, joined, [*parts, *parts_of(second)])
        assert torch.equal(held.modalities.counted(3)[:, 0, : joined.shape[1]].long(), expected)

    check()


def test_rolled_back_into_a_medium(loaded, parts_of):
    """Half an image stays; the text behind it stands behind all that is left."""
    prompt, held = loaded.prepare(ask(parts_of([("image", 112, 112)]))), loaded.new_cache()
    loaded.generate(prompt, past_key_values=held, **ANSWER)
    inside = int((prompt.stream.modalities[0] == Modality.IMAGE).nonzero()[5])
    before = held.modalities.positions[:, 0, :inside].clone()
    held.crop(inside - held.get_seq_length())
    text = torch.full((1, 4), 40)
    loaded.generate(
        input_ids=text, attention_mask=torch.ones(1, inside + 4, dtype=torch.int64), past_key_values=held, **ANSWER
    )
    found = held.modalities.positions[:, 0]
    assert torch.equal(found[:, :inside], before)
    assert torch.equal(
        found[:, inside:], (before.max() + 1 + torch.arange(found.shape[1] - inside)).int().expand(3, -1)
    )


def test_some_videos_are_longer_than_wide(loaded, parts_of):
    """The families differ in this, and the tests above see both."""
    parts = parts_of([("video", 56, 56, 48, 1.0), ("text", "So")])
    positions, _ = by_model(loaded, loaded.prepare(ask(parts))["input_ids"], parts)
    assert settled(positions) == (loaded.adapter.name == "Qwen3-VL")
