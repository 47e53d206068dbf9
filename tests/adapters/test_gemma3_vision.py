"""Gemma 3 with vision: tokens of an image see one another both ways, in whatever turn it comes."""

from __future__ import annotations

import pytest
import torch

import oscar_x
from oscar_x.errors import MediaError
from oscar_x.generation import complete
from oscar_x.modality import Modality


@pytest.fixture(scope="module")
def loaded(tiny_media):
    return oscar_x.load(tiny_media("gemma3_vision"), device="cpu")


@pytest.fixture
def picture(support):
    return {"type": "image", "image": support("tiny_media").image(56, 56)}


def ask(*parts):
    return [{"role": "user", "content": [*parts, {"type": "text", "text": "Well? " * 40}]}]


def test_token_types_cover_what_the_cache_holds(loaded, picture):
    cache = loaded.new_cache()
    loaded.generate(loaded.prepare(ask(picture)), past_key_values=cache, max_new_tokens=3, do_sample=False)
    held, prompt = cache.modalities, loaded.prepare(ask(picture))
    columns = held.shape[1] + prompt["input_ids"].shape[1]
    mask = torch.ones(1, columns, dtype=torch.int64)
    arguments = complete(loaded, {**prompt, "attention_mask": mask}, {"past_key_values": cache})
    expected = torch.cat([held.modalities, prompt.stream.modalities], dim=1) == Modality.IMAGE
    assert arguments["token_type_ids"].shape == (1, columns)
    assert torch.equal(arguments["token_type_ids"] == 1, expected)


def test_text_needs_no_token_types(loaded):
    prompt = loaded.prepare(ask())
    assert "token_type_ids" in prompt
    assert "token_type_ids" not in complete(loaded, prompt, {})


@pytest.mark.parametrize("token", ["<start_of_image>", "<image_soft_token>"])
def test_text_that_would_be_taken_for_an_image_is_refused(loaded, picture, token):
    text = {"type": "text", "text": f"What is {token}?"}
    with pytest.raises(MediaError, match=rf"content\[1\] \(text\): the text contains '{token}'"):
        loaded.chat([{"role": "user", "content": [picture, text]}])


def test_an_image_in_a_later_turn_needs_a_transformers_that_can(loaded, picture, monkeypatch):
    """Read one way only, without a word, is what earlier ones would do."""
    session = loaded.new_session([picture])
    session.ask("Well?", max_new_tokens=2)
    monkeypatch.setattr("oscar_x.prompts.checks.types_whole_sequence", lambda: False)
    with pytest.raises(
        MediaError, match=r"question\[0\] \(image\): image in a later turn is not allowed here.* 5.23.0"
    ):
        session.ask([picture])
    assert session.ask("And?", max_new_tokens=2, min_new_tokens=2) is not None
    loaded.new_session([picture]).ask("Well?", max_new_tokens=2)
