"""SmolVLM: what its processor cannot do is refused before anything is read."""

from __future__ import annotations

import pytest
import torch

import oscar_x
from oscar_x.errors import MediaError, MissingPackageError
from oscar_x.modality import Modality


@pytest.fixture
def loaded(tiny_media):
    return oscar_x.load(tiny_media("smolvlm"), kv_bits=16, device="cpu")


@pytest.fixture
def parts(support, loaded):
    make, part = support("tiny_media"), support("media_cases").part
    return {kind: part(make, kind, loaded.adapter.media) for kind in ("image", "video")}


def ask(*parts):
    return [{"role": "user", "content": [*parts, {"type": "text", "text": "Well?"}]}]


def test_the_processor_forgets_images_beside_a_video(support, loaded, parts):
    """The reason for ``mixes=False``: should transformers learn it, this fails and the fact can go."""
    both = ask(parts["image"], parts["video"])

    def read():
        inputs = support("media_cases").by_processor(loaded.processor, loaded.adapter.media, [both])
        loaded.model.generate(**inputs, max_new_tokens=1)

    # what the model says, and what the processor says in earlier transformers
    words = "Image features and image tokens do not match|out of bounds"
    with pytest.raises((ValueError, IndexError), match=words):
        read()


@pytest.mark.parametrize("order", [("image", "video"), ("video", "image")])
def test_kinds_that_do_not_mix_are_refused(loaded, parts, order):
    second = rf"content\[1\] \({order[1]}\): {order[1]} beside {order[0]} is not allowed here: SmolVLM"
    with pytest.raises(MediaError, match=second):
        loaded.chat(ask(*(parts[kind] for kind in order)))
    with pytest.raises(MediaError, match=f"{order[1]} beside {order[0]}"):
        loaded.prepare([ask(parts[kind]) for kind in order])


def test_in_turns_they_mix(loaded, parts):
    session = loaded.new_session([parts["image"]])
    session.ask("What is it?", max_new_tokens=3)
    session.ask([parts["video"], {"type": "text", "text": "And this?"}], max_new_tokens=3)
    kinds = [set(session.cache.modalities.modalities[0][place].tolist()) for place in segments(session)]
    assert [kind - {Modality.TEXT} for kind in kinds] == [{Modality.IMAGE}, {Modality.VIDEO}]


def segments(session):
    numbers = session.cache.modalities.segments[0]
    return [numbers == number for number in range(1, int(numbers.max()) + 1)]


def test_long_videos_keep_the_frames_it_was_made_for(loaded):
    video = {"type": "video", "video": torch.zeros(90, 16, 16, 3, dtype=torch.uint8), "fps": 1.0}
    prompt = loaded.prepare(ask(video))
    assert prompt["pixel_values"].shape[1] == 64


def test_a_package_that_the_processor_lacks_is_named(tiny_media, monkeypatch):
    monkeypatch.setattr("transformers.models.smolvlm.processing_smolvlm.num2words", None)
    with pytest.raises(MissingPackageError, match=r"needs the package num2words: pip install 'oscar-x\[media\]'"):
        oscar_x.load(tiny_media("smolvlm"), device="cpu")
