"""Videos that are heard: their sound track among the other sounds of a prompt."""

from __future__ import annotations

import pytest
import torch
import transformers

import oscar_x
from oscar_x import MediaError
from oscar_x.media import parse_parts
from oscar_x.modality import Modality

GREEDY = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False}
FAMILIES = ["qwen2_5_omni", "qwen3_omni_moe"]
ORDERS = [["video"], ["audio", "video"], ["video", "audio", "other video"], ["image", "other audio", "video", "audio"]]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def load(tiny_media, family):
    loaded = {}

    def once(kv_bits=2):
        if kv_bits not in loaded:
            loaded[kv_bits] = oscar_x.load(tiny_media(family), kv_bits=kv_bits, device="cpu")
        return loaded[kv_bits]

    return once


@pytest.fixture(scope="module")
def parts(support, tmp_path_factory):
    make, clips, folder = support("tiny_media"), support("clips"), tmp_path_factory.mktemp("clips")
    return {
        "image": {"type": "image", "image": make.image(80, 112)},
        "audio": {"type": "audio", "audio": make.tone(1.4)},
        "other audio": {"type": "audio", "audio": make.tone(0.6, 1)},
        "video": {"type": "video", "video": str(clips.clip(folder / "a.mp4", 5.0))},
        "other video": {"type": "video", "video": str(clips.clip(folder / "b.mp4", 3.0, seed=1))},
        "silent": {"type": "video", "video": str(clips.clip(folder / "c.mp4", 2.0, sound=False))},
        "long": {"type": "video", "video": str(clips.clip(folder / "d.mp4", 9.0))},
        "fast": {"type": "video", "video": str(clips.clip(folder / "a.mp4", 5.0)), "fps": 4.0},
    }


def turn(parts, *names):
    question = {"type": "text", "text": "What is there to see and to hear? " * 4}
    return [{"role": "user", "content": [*(parts[name] for name in names), question]}]


def rendered(processor, conversation):
    shown = [
        {**m, "content": [p if p["type"] == "text" else {"type": p["type"]} for p in m["content"]]}
        for m in conversation
    ]
    return processor.apply_chat_template(shown, add_generation_prompt=True, tokenize=False)


@pytest.mark.parametrize("batch", [*([order] for order in ORDERS), [ORDERS[1], ["other video"], ORDERS[3]]])
def test_16_bits_is_transformers(support, tiny_media, family, load, parts, batch):
    loaded, conversations = load(16), [turn(parts, *names) for names in batch]
    texts = [rendered(loaded.processor, conversation) for conversation in conversations]
    theirs = support("clips").omni_inputs(loaded.processor, loaded.adapter.media, texts, conversations, True)
    model = getattr(transformers, support("tiny_media").load_family(family).model)
    plain = model.from_pretrained(tiny_media(family), dtype="auto").eval()
    expected = plain.thinker.generate(**theirs, use_audio_in_video=True, **GREEDY)
    found = loaded.generate(loaded.prepare(conversations, use_audio_in_video=True), **GREEDY)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("names", ORDERS)
def test_stream_knows_frames_from_sound(support, load, parts, names):
    """One medium a part; inside it every token is what the processor's own text says."""
    loaded, conversation = load(), turn(parts, *names)
    prompt = loaded.prepare(conversation, use_audio_in_video=True)
    processor, stream, ids = loaded.processor, prompt.stream, prompt["input_ids"][0]
    theirs = support("clips").omni_inputs(
        processor, loaded.adapter.media, [rendered(processor, conversation)], [conversation], True
    )
    assert torch.equal(ids, theirs["input_ids"][0])
    assert stream.segments.max() == len(names)
    for number, name in enumerate(names, start=1):
        inside = (stream.segments[0] == number).nonzero()[:, 0]
        assert len(inside) == inside[-1] - inside[0] + 1
        kinds = set(stream.modalities[0][inside].tolist()) - {Modality.TEXT}
        wanted = {"image": {Modality.IMAGE}, "audio": {Modality.AUDIO}, "video": {Modality.VIDEO, Modality.AUDIO}}
        assert kinds == wanted[name.split()[-1]]
    for kind, token in (("video", processor.video_token), ("audio", processor.audio_token)):
        of_kind = ids == processor.tokenizer.convert_tokens_to_ids(token)
        assert torch.equal(stream.modalities[0] == Modality[kind.upper()], of_kind)
    heard = stream.modalities[0][stream.segments[0] == 1 + names.index("video")]
    changes = int((heard[1:] != heard[:-1]).sum())
    assert changes > 4  # frames and sound take turns


def test_sound_changes_the_answer_and_reaches_every_way_of_asking(load, parts):
    loaded, conversation = load(16), turn(parts, "video")
    heard = loaded.prepare(conversation, use_audio_in_video=True)
    assert heard["input_ids"].shape[1] > loaded.prepare(conversation)["input_ids"].shape[1]
    said = loaded.chat(conversation, use_audio_in_video=True, **GREEDY)
    assert "".join(loaded.stream(conversation, use_audio_in_video=True, **GREEDY)) == said
    session = loaded.new_session(conversation[0]["content"][:1], use_audio_in_video=True)
    assert session.ask(conversation[0]["content"][1:], **GREEDY) == said
    assert Modality.AUDIO in session.cache.modalities.counts()[0]


def test_as_many_tokens_as_frames_of_sound(load, parts):
    """Tensors of a sound may by chance have the shape of the token ids."""
    loaded = load(16)
    frames = loaded.prepare(turn(parts, "audio"))["feature_attention_mask"].shape[1]
    session = loaded.new_session([{"type": "text", "text": "Listen."}])
    session.ask("To what?", **GREEDY)
    bare = session._next_turn(parse_parts([parts["audio"]]))["input_ids"].shape[1]
    question = [parts["audio"], {"type": "text", "text": "x" * (frames - bare)}]
    assert session._next_turn(parse_parts(question))["input_ids"].shape[1] == frames
    assert session.ask(question, **GREEDY)


def test_a_video_without_sound(load, parts):
    loaded = load()
    with pytest.raises(MediaError, match=r"^messages\[0\]\.content\[1\] \(video\): has no sound"):
        loaded.prepare(turn(parts, "image", "silent"), use_audio_in_video=True)
    frames = {"type": "video", "video": torch.zeros(4, 64, 64, 3, dtype=torch.uint8).numpy()}
    with pytest.raises(MediaError, match=r"content\[0\] \(video\): given frames have no sound"):
        loaded.prepare([{"role": "user", "content": [frames]}], use_audio_in_video=True)
    session = loaded.new_session([parts["video"]], use_audio_in_video=True)
    before = session.tokens
    with pytest.raises(MediaError, match=r"question\[0\] \(video\): has no sound"):
        session.ask([parts["silent"], {"type": "text", "text": "And?"}])
    assert session.tokens == before
    assert session.ask("And?", **GREEDY)


def test_sound_longer_than_the_window(load, family, parts, support):
    loaded, tone = load(), support("tiny_media").tone(9.0)
    long = [{"role": "user", "content": [parts["image"], {"type": "audio", "audio": tone}]}]
    if family == "qwen3_omni_moe":  # its processor cuts nothing off
        counts = loaded.prepare(long).stream.counts()[0]
        assert counts[Modality.AUDIO] == 117
        return
    with pytest.raises(MediaError, match=r"content\[1\] \(audio\): 9\.0 s of sound; the model hears 8 s at a time"):
        loaded.prepare(long)
    with pytest.raises(MediaError, match=r"content\[0\] \(video\): 9\.\d s of sound"):
        loaded.prepare(turn(parts, "long"), use_audio_in_video=True)
    assert loaded.prepare(turn(parts, "long"))


def test_videos_of_different_rates(load, parts):
    loaded = load()
    prompt = loaded.prepare(turn(parts, "video", "fast"))
    assert prompt["video_second_per_grid"].tolist() == [1.0, 0.5]
    with pytest.raises(MediaError, match=r"content\[1\] \(video\): 4\.00 frames a second, the first video 2\.00"):
        loaded.prepare(turn(parts, "video", "fast"), use_audio_in_video=True)


def test_families_that_do_not_hear(tiny_media, parts):
    loaded = oscar_x.load(tiny_media("qwen2_5_vl"), device="cpu")
    with pytest.raises(MediaError, match=r"Qwen2\.5-VL does not hear videos"):
        loaded.prepare(turn(parts, "video"), use_audio_in_video=True)
