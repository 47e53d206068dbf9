"""Where time-aligned rotary positions (TMRoPE) stand, beside the model's own placing of the whole conversation."""

from __future__ import annotations

import pytest
import torch

import oscar_x
from oscar_x.prompts import Prompt

GREEDY = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}
FAMILIES = ["qwen2_5_omni", "qwen3_omni_moe"]


@pytest.fixture(scope="module", params=FAMILIES)
def loaded(tiny_media, request):
    return oscar_x.load(tiny_media(request.param), kv_bits=2, device="cpu")


@pytest.fixture
def parts(support, tmp_path):
    """Media by name; the videos are files with sound."""
    make, clips = support("tiny_media"), support("clips")
    return {
        "image": {"type": "image", "image": make.image(80, 112)},
        "audio": {"type": "audio", "audio": make.tone(1.4)},
        "other audio": {"type": "audio", "audio": make.tone(0.6, 1)},
        "video": {"type": "video", "video": str(clips.clip(tmp_path / "a.mp4", 5.0))},
        "other video": {"type": "video", "video": str(clips.clip(tmp_path / "b.mp4", 3.0, seed=1))},
    }


def turn(*content):
    return [{"role": "user", "content": [*content, {"type": "text", "text": "What is this? " * 8}]}]


def by_model(support, loaded, tokens, mask, conversations, sound):
    """[3, batch, columns], of all tokens at once; what processor and model themselves make of the media."""
    facts = loaded.adapter.media
    show = support("tiny_media").load_family(loaded.model.config.model_type).show
    text = "".join(show[p["type"]] for c in conversations for p in c if p["type"] in show)
    whole = [{"role": "user", "content": [p for c in conversations for p in c if p["type"] != "text"]}]
    media = support("clips").omni_inputs(loaded.processor, facts, [text], [whole], sound)
    frames = media.get("feature_attention_mask")
    positions, _ = loaded.generator.get_rope_index(
        input_ids=tokens,
        image_grid_thw=media.get("image_grid_thw"),
        video_grid_thw=media.get("video_grid_thw"),
        attention_mask=mask,
        use_audio_in_video=sound,
        audio_seqlens=None if frames is None else frames.sum(-1),
        second_per_grids=media.get("video_second_per_grid"),
    )
    return positions


def check(support, loaded, cache, tokens, mask, conversations, sound):
    columns = cache.get_seq_length()
    expected = by_model(support, loaded, tokens[:, :columns], mask[:, :columns], conversations, sound)
    found = cache.modalities.positions
    kept = mask[:, :columns].bool().expand(3, -1, -1)
    assert found.shape == expected.shape
    assert torch.equal(found[kept].float(), expected[kept].float())


@pytest.mark.parametrize("sound", [False, True])
@pytest.mark.parametrize(
    "names", [["image", "video", "audio"], ["audio", "video", "other audio", "other video", "image"]]
)
def test_first_turn(support, loaded, parts, names, sound):
    content = [parts[name] for name in names]
    prompt = loaded.prepare(turn(*content), use_audio_in_video=sound)
    cache = loaded.new_cache()
    tokens = loaded.generate(prompt, past_key_values=cache, **GREEDY)
    check(support, loaded, cache, tokens, torch.ones_like(tokens), [content], sound)


@pytest.mark.parametrize("sound", [False, True])
@pytest.mark.parametrize(
    "names",
    [
        ["video", "audio", "image"],
        ["audio", "video", "other video"],
        ["image", "other audio", "video"],
    ],
)
def test_later_turns_with_new_media(support, loaded, parts, names, sound):
    session = loaded.new_session([parts[names[0]]], use_audio_in_video=sound)
    session.ask("What is it?", **GREEDY)
    for name in names[1:]:
        session.ask([parts[name], {"type": "text", "text": "And this?"}], **GREEDY)
    tokens = torch.tensor([session.tokens])
    content = [parts[name] for name in names]
    check(support, loaded, session.cache, tokens, torch.ones_like(tokens), [content], sound)


@pytest.mark.parametrize("sound", [False, True])
def test_ragged_batch(support, loaded, parts, sound):
    contents = [[parts[n] for n in names] for names in (["video", "audio"], ["image"], ["other audio", "other video"])]
    prompt = loaded.prepare([turn(*content) for content in contents], use_audio_in_video=sound)
    cache = loaded.new_cache()
    tokens = loaded.generate(prompt, past_key_values=cache, **GREEDY)
    mask = torch.cat([prompt["attention_mask"], torch.ones(3, 6, dtype=torch.int64)], 1)
    check(support, loaded, cache, tokens, mask, contents, sound)


def test_after_crop(support, loaded, parts):
    """Cut behind a video that is heard, another medium read in its place."""
    first = loaded.prepare(turn(parts["video"]), use_audio_in_video=True)
    cache = loaded.new_cache()
    tokens = loaded.generate(first, past_key_values=cache, **GREEDY)
    keep = first["input_ids"].shape[1] - 60
    assert int((first.stream.segments[0] > 0).nonzero().max()) < keep
    cache.crop(keep - cache.get_seq_length())
    then = loaded.prepare(turn(parts["audio"], parts["image"]))
    mask = torch.ones(1, keep + then["input_ids"].shape[1], dtype=torch.int64)
    rest = loaded.generate(Prompt({**then, "attention_mask": mask}, then.stream), past_key_values=cache, **GREEDY)
    tokens = torch.cat([tokens[:, :keep], rest], 1)
    content = [parts[name] for name in ("video", "audio", "image")]
    check(support, loaded, cache, tokens, torch.ones_like(tokens), [content], True)
