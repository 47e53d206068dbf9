"""Chat templates that write all images of a message, then its videos, then its texts, as LLaVA checkpoints have."""

from __future__ import annotations

import pytest
import torch

import oscar_x
from oscar_x.errors import MediaError
from oscar_x.modality import Modality

GREEDY = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False}
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] | upper }}: "
    "{% for kind in ['image', 'video'] %}{% for part in message['content'] | selectattr('type', 'equalto', kind) %}"
    "{{ '<' + kind + '>\n' }}{% endfor %}{% endfor %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}{{ part['text'] }}{% endfor %} "
    "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


@pytest.fixture(params=["llava", "llava_next", "llava_next_video", "llava_onevision"])
def loaded(request, tiny_media):
    loaded = oscar_x.load(tiny_media(request.param), kv_bits=16, device="cpu")
    loaded.processor.chat_template = TEMPLATE
    return loaded


@pytest.fixture
def parts(support, loaded):
    make, part = support("tiny_media"), support("media_cases").part
    return [part(make, kind, loaded.adapter.media, 1) for kind in reversed(loaded.adapter.media.kinds)]


def text(words):
    return {"type": "text", "text": words}


def test_media_are_counted_where_they_are_written(support, loaded, parts):
    """Given as text, video, image: written, and so counted, as image, video, text."""
    conversation = [{"role": "user", "content": [text("Well?"), *parts]}]
    prompt = loaded.prepare(conversation)
    written = [Modality[part["type"].upper()] for part in reversed(parts)]
    kinds = [set(prompt.stream.modalities[prompt.stream.segments == n].tolist()) for n in range(1, len(parts) + 1)]
    assert kinds == [{kind} for kind in written]
    theirs = support("media_cases").by_processor(loaded.processor, loaded.adapter.media, [conversation])
    assert torch.equal(prompt["input_ids"], theirs["input_ids"])
    assert torch.equal(prompt["pixel_values"], theirs["pixel_values"])


def test_sessions(loaded, parts):
    """Media of a later turn come behind what was read; beside a question of the first they would come before."""
    session = loaded.new_session(parts)
    read = session.tokens
    with pytest.raises(
        MediaError, match=r"question\[1\].*: the chat template does not put media where the question is"
    ):
        session.ask([text("And this?"), parts[-1]], **GREEDY)
    assert session.tokens == read
    session.ask("What is it?", **GREEDY)
    session.ask([text("And this?"), parts[-1]], **GREEDY)
    assert session.tokens[: len(read)] == read
    assert int(session.cache.modalities.segments.max()) == len(parts) + 1
