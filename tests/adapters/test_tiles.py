"""Families that cut an image into tiles: each image costs what its shape says, and touching images stay apart."""

from __future__ import annotations

import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import oscar_x
from oscar_x.errors import MediaError
from oscar_x.modality import Modality

GREEDY = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False}
SIZES = st.lists(st.tuples(st.integers(20, 240), st.integers(20, 240)), min_size=1, max_size=3)
OFTEN = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def load(tiny_media):
    return lambda family, kv_bits=16: oscar_x.load(tiny_media(family), kv_bits=kv_bits, device="cpu")


@pytest.fixture
def make(support):
    return support("tiny_media")


def pictures(make, sizes):
    return [{"type": "image", "image": make.image(*size, seed)} for seed, size in enumerate(sizes)]


def ask(*parts):
    return [{"role": "user", "content": [*parts, {"type": "text", "text": "Well? " * 20}]}]


def video(make, frames, seed=0):
    return {"type": "video", "video": make.frames(frames, 56, 56, seed), "fps": 4.0}


def costs(prompt, row=0):
    """Tokens of every medium of a row."""
    return torch.bincount(prompt.stream.segments[row])[1:].tolist()


def plain(tiny_media, make, family):
    return getattr(transformers, make.load_family(family).model).from_pretrained(tiny_media(family)).eval()


@pytest.mark.parametrize("family", ["llava_next", "llava_next_video", "internvl"])
@given(sizes=SIZES)
@OFTEN
def test_images_cost_what_the_processor_says(load, make, family, sizes):
    loaded = load(family)
    said = loaded.processor._get_num_multimodal_tokens(image_sizes=[list(size) for size in sizes])
    assert costs(loaded.prepare(ask(*pictures(make, sizes)))) == said["num_image_tokens"]


@given(sizes=SIZES)
@OFTEN
def test_onevision_tiles_a_lone_image_only(load, make, sizes):
    """Several images of one conversation have one tile and a line break each, whatever other conversations hold."""
    loaded = load("llava_onevision")
    said = loaded.processor._get_num_multimodal_tokens(image_sizes=[list(size) for size in sizes])["num_image_tokens"]
    expected = said if len(sizes) == 1 else [17] * len(sizes)
    several, lone = ask(*pictures(make, sizes)), ask(*pictures(make, sizes[:1]))
    assert costs(loaded.prepare(several)) == expected
    batch = loaded.prepare([lone, several, ask()])
    assert [costs(batch, row) for row in range(3)] == [said[:1], expected, []]


@pytest.mark.parametrize("family", ["llava_next", "llava_next_video", "llava_onevision", "internvl"])
@pytest.mark.parametrize("between", ["", "\n"], ids=["touching", "apart"])
def test_shapes_of_every_kind(load, make, support, tiny_media, family, between):
    """Square, wide, tall, very wide and very tall images, with and without anything between them."""
    loaded = load(family)
    written = repr(make.load_family(family).show["image"])
    assert written in loaded.processor.chat_template
    template = loaded.processor.chat_template.replace(written, repr(loaded.processor.image_token + between))
    loaded.processor.chat_template = template
    parts = pictures(make, [(80, 80), (60, 150), (150, 60), (24, 400), (400, 24)])
    prompt = loaded.prepare(ask(*parts))
    numbers, kinds = prompt.stream.segments[0], prompt.stream.modalities[0]
    assert len(costs(prompt)) == 5
    assert (len(set(costs(prompt))) > 2) is (family != "llava_onevision")
    starts = [int((numbers == number).nonzero()[0]) for number in range(1, 6)]
    stops = [int((numbers == number).nonzero()[-1]) + 1 for number in range(1, 6)]
    assert [start - stop for start, stop in zip(starts[1:], stops[:-1], strict=True)] == [len(between)] * 4
    assert torch.equal(kinds == Modality.IMAGE, numbers > 0)
    theirs = support("media_cases").by_processor(loaded.processor, loaded.adapter.media, [ask(*parts)])
    expected = plain(tiny_media, make, family).generate(**theirs, **GREEDY)
    assert torch.equal(loaded.generate(prompt, **GREEDY), expected)


def test_onevision_tiles_an_image_of_a_later_turn(load, make, support, tiny_media):
    """What a session has read stays; what comes later is read as if it came alone."""
    loaded = load("llava_onevision")
    first, later = pictures(make, [(80, 80), (60, 150)]), pictures(make, [(150, 60)])
    session = loaded.new_session(first)
    session.ask("What is it?", **GREEDY)
    session.ask([*later, {"type": "text", "text": "And this?"}], **GREEDY)
    (alone,) = costs(loaded.prepare(ask(*later)))
    assert costs_of(session.cache.modalities) == [17, 17, alone]
    read = [support("media_cases").by_processor(loaded.processor, None, [ask(*parts)]) for parts in (first, later)]
    tiles = max(output["pixel_values"].shape[1] for output in read)
    padded = [torch.nn.functional.pad(o["pixel_values"], [0] * 7 + [tiles - o["pixel_values"].shape[1]]) for o in read]
    tokens = torch.tensor([session.tokens])
    expected = plain(tiny_media, make, "llava_onevision").generate(
        input_ids=tokens[:, :-8],
        attention_mask=torch.ones_like(tokens[:, :-8]),
        pixel_values=torch.cat(padded),
        image_sizes=torch.cat([output["image_sizes"] for output in read]),
        batch_num_images=torch.cat([output["batch_num_images"] for output in read]),
        **GREEDY,
    )
    assert torch.equal(tokens, expected)


def costs_of(stream):
    return torch.bincount(stream.segments[0])[1:].tolist()


def test_onevision_shrinks_what_takes_more_than_nine_tiles(load, make, support, tiny_media):
    """A lone large image costs at most 16 tokens for the whole, as many for each of nine tiles, and line breaks."""
    loaded = load("llava_onevision")
    conversation = ask(*pictures(make, [(300, 280)]))
    prompt = loaded.prepare(conversation)
    assert costs(prompt) == [16 + 12 * 11 + 12]
    theirs = support("media_cases").by_processor(loaded.processor, loaded.adapter.media, [conversation])
    expected = plain(tiny_media, make, "llava_onevision").generate(**theirs, **GREEDY)
    assert torch.equal(loaded.generate(prompt, **GREEDY), expected)


def test_onevision_pools_video_frames(load, make):
    """A quarter of an image's tokens a frame, and one line break behind the last."""
    for frames in (1, 3, 8):
        assert costs(load("llava_onevision").prepare(ask(video(make, frames)))) == [4 * frames + 1]


def test_internvl_writes_a_video_as_numbered_frames(load, make):
    """The words between frames belong to the video, but are text; its frames are no images."""
    loaded = load("internvl")
    prompt = loaded.prepare(ask(video(make, 3), *pictures(make, [(80, 80)]), video(make, 3, 1)))
    ids, numbers, kinds = prompt["input_ids"][0], prompt.stream.segments[0], prompt.stream.modalities[0]
    frame = "<img>" + 4 * "<IMG_CONTEXT>" + "</img>"
    written = "\n".join(f"Frame{number}: {frame}" for number in (1, 2, 3))
    for number in (1, 3):
        inside = numbers == number
        assert loaded.processor.tokenizer.decode(ids[inside]) == written
        assert set(kinds[inside].tolist()) == {Modality.TEXT, Modality.VIDEO}
        words = loaded.processor.tokenizer.decode(ids[inside & (kinds == Modality.TEXT)])
        assert words == "\n".join(f"Frame{number}: " for number in (1, 2, 3))
    assert set(kinds[numbers == 2].tolist()) == {Modality.IMAGE}


@pytest.mark.parametrize("family", ["llava_next_video", "llava_onevision", "internvl"])
def test_order_of_images_and_videos(load, make, support, tiny_media, family):
    """A video before an image, and both twice in turn."""
    loaded, model = load(family), plain(tiny_media, make, family)
    image, other = pictures(make, [(80, 80), (60, 150)])
    for parts in ([video(make, 4), image], [image, video(make, 4), other, video(make, 4, 1)]):
        theirs = support("media_cases").by_processor(loaded.processor, loaded.adapter.media, [ask(*parts)])
        found = loaded.generate(loaded.prepare(ask(*parts)), **GREEDY)
        assert torch.equal(found, model.generate(**theirs, **GREEDY))


@pytest.mark.parametrize("family", ["llava_next_video", "llava_onevision", "internvl"])
def test_videos_of_other_lengths(load, make, support, family):
    """transformers cannot stack them; should it learn to, this fails and the fact ``equal_frames`` can go."""
    loaded, long, short = load(family), video(make, 8), video(make, 5)
    with pytest.raises(ValueError, match="stack expects each tensor to be equal size"):
        support("media_cases").by_processor(loaded.processor, loaded.adapter.media, [ask(long, short)])
    told = r"content\[{}\] \(video\): a video of 5 frames beside one of 8 is not allowed here: .* set num_frames"
    with pytest.raises(MediaError, match=told.format(1)):
        loaded.prepare(ask(long, short))
    with pytest.raises(MediaError, match=told.format(0)):
        loaded.prepare([ask(long), ask(short)])
    session = loaded.new_session([long])
    with pytest.raises(MediaError, match=told.format(1).replace("content", "question")):
        session.ask([long, short], max_new_tokens=2)
    session.ask([short, {"type": "text", "text": "And this?"}], max_new_tokens=2)
    before, after = costs_of(session.cache.modalities)
    assert before > after
    assert len(costs(loaded.prepare(ask({"type": "video", "video": long["video"], "num_frames": 5}, short)))) == 2
