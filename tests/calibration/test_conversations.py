"""Conversations with media as passages: the same tokens and logits as the whole conversation, forms, refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import DynamicCache

import oscar_x
from oscar_x import Modality
from oscar_x.calibration import Candidates
from oscar_x.calibration.conversation import ConversationError, parse_conversation, read_conversations
from oscar_x.calibration.data import passages_of
from oscar_x.calibration.questions import answered, conversation_passage
from oscar_x.calibration.replay import context_states, continuation_logits, fill
from oscar_x.generation import complete

KINDS = {
    "llava": ("image",),
    "gemma3_vision": ("image",),
    "qwen2_5_vl": ("image", "video"),
    "qwen2_5_omni": ("image", "video", "audio"),
}
FEW = Candidates(bits=(2, 3), group_sizes=(16, 32), scale_bits=(4,))
QUESTION, ANSWER = "What is shown here?", "Nothing but noise."


@pytest.fixture(scope="module")
def shown(support, tiny_media):
    """``shown(family, seed)``: a model and messages about one medium of every kind it reads, without a question."""
    make, cases, models = support("tiny_media"), support("media_cases"), {}

    def build(family, seed=0):
        if family not in models:
            models[family] = oscar_x.load(tiny_media(family), device="cpu")
        model = models[family]
        text = {"type": "text", "text": "Look at this, and remember it well. " * 4}
        parts = [cases.part(make, kind, model.adapter.media, seed) for kind in KINDS[family]]
        return model, [{"role": "user", "content": [text, *parts]}]

    return build


def whole(model, messages):
    """Token ids and logits of a conversation in one pass."""
    arguments = {"past_key_values": DynamicCache(config=model.model.config)}
    inputs = complete(model, model.prepare(messages), arguments)
    inputs.pop("pad_token_id", None)
    with torch.no_grad():
        return inputs["input_ids"][0], model.generator(**inputs).logits[0].float()


@pytest.mark.parametrize("family", KINDS)
def test_context_and_questions_are_the_conversation(shown, family):
    """Read in two parts, every token and its logits are those of the conversation read at once."""
    model, messages = shown(family)
    turns = [{"question": QUESTION, "answer": ANSWER}, {"question": "And why?", "answer": "Who knows."}]
    passage = conversation_passage(model, parse_conversation({"messages": messages, "turns": turns}))
    said = [("user", QUESTION), ("assistant", ANSWER), ("user", "And why?"), ("assistant", "Who knows.")]
    later = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in said]
    first = {"role": "user", "content": [*messages[0]["content"], *later[0]["content"]]}
    ids, logits = whole(model, [first, *later[1:]])
    count = passage.prefix + len(passage.continuation)
    assert torch.cat([passage.inputs["input_ids"][0], passage.continuation]).tolist() == ids[:count].tolist()
    cache = fill(DynamicCache(config=model.generator.config), context_states(model.generator, passage))
    with torch.no_grad():
        found = continuation_logits(model.generator, cache, passage.continuation, passage.positions)
    torch.testing.assert_close(found, logits[passage.prefix : count], atol=2e-3, rtol=0)
    decoded = model.processor.tokenizer.decode(passage.continuation[passage.answers])
    assert decoded == ANSWER + "Who knows."
    kinds = {kind.name.lower() for kind in passage.stream.counts()[0]} - {"text"}
    assert kinds == set(KINDS[family])


def test_a_missing_answer_is_the_models_own(shown, tiny_media):
    model, messages = shown("qwen2_5_vl")
    conversation = answered(model, parse_conversation({"messages": messages, "question": QUESTION}))
    asked = [{"role": "user", "content": [*messages[0]["content"], {"type": "text", "text": QUESTION}]}]
    full = oscar_x.load(tiny_media("qwen2_5_vl"), kv_bits=16, device="cpu")
    assert conversation.turns[0].answer == full.chat(asked, max_new_tokens=32, do_sample=False)


def test_a_list_of_messages_ends_in_its_question(shown):
    model, messages = shown("llava")
    asked = [{"role": "user", "content": [*messages[0]["content"], {"type": "text", "text": QUESTION}]}]
    found = parse_conversation([*asked, {"role": "assistant", "content": ANSWER}])
    named = parse_conversation({"messages": messages, "question": QUESTION, "answer": ANSWER})
    assert found.turns == named.turns
    passages = [conversation_passage(model, conversation) for conversation in (found, named)]
    assert passages[0].inputs["input_ids"].tolist() == passages[1].inputs["input_ids"].tolist()
    assert parse_conversation(asked).turns[0].answer is None
    with pytest.raises(ConversationError, match="there is nothing before its question"):
        parse_conversation([{"role": "user", "content": QUESTION}])


def test_text_models_converse_too(tiny):
    model = oscar_x.load(tiny("llama"), device="cpu")
    data = {"messages": "A long story about a cat. ", "question": "Whose?", "answer": " A cat's."}
    passage = conversation_passage(model, parse_conversation(data))
    assert int(passage.answers.sum()) == len(" A cat's.")
    assert passage.stream.counts()[0] == {Modality.TEXT: passage.prefix}


def test_profiles_from_conversations(shown):
    """The same twice, within the budget, and of another hash where a pixel differs."""
    model, messages = shown("qwen2_5_vl")
    data = {"messages": messages, "question": QUESTION, "answer": ANSWER}
    arguments = {"candidates": FEW, "bits_budget": 3.6}
    profile = oscar_x.calibrate(model, [data], **arguments)
    assert replace(oscar_x.calibrate(model, data, **arguments), date=profile.date) == profile
    assert profile.after.bits_per_element <= 3.6
    messages[0]["content"][1]["image"][0, 0, 0] ^= 128
    other = oscar_x.calibrate(model, [data], **arguments)
    assert other.data_hash != profile.data_hash


def test_texts_and_conversations_together(shown):
    model, messages = shown("llava")
    data = ["One text among others. " * 20, {"messages": messages, "question": QUESTION, "answer": ANSWER}]
    passages = passages_of(model, data, 2, 96, 16)
    assert [passage.answers is None for passage in passages] == [True, True, False]


def test_a_file_of_conversations(tmp_path: Path):
    Image.new("RGB", (8, 8)).save(tmp_path / "red.png")
    parts = [{"type": "image", "path": "red.png"}, {"type": "image", "image": "red.png"}]
    parts += [{"type": "text", "text": "red.png"}, {"type": "image", "url": "https://example.com/x.png"}]
    messages = [{"role": "user", "content": parts}]
    lines = [{"messages": messages, "question": "Color?", "answer": "red"}, {"messages": "Hi. ", "question": "Who?"}]
    file = tmp_path / "data.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    first, second = read_conversations(file)
    content = first.messages[0]["content"]
    assert content[0]["path"] == content[1]["image"] == str(tmp_path / "red.png")
    assert (content[2]["text"], content[3]["url"]) == ("red.png", "https://example.com/x.png")
    assert second.where == "data.jsonl, line 2"
    assert second.turns[0].answer is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"messages": "a"', r"data.jsonl, line 1 is not JSON"),
        ('{"messages": "a"}', r"line 1: has the keys 'messages'; use"),
        ('{"messages": "a", "question": "b", "turns": []}', r"line 1: has the keys"),
        ('{"messages": "a", "question": "b", "anwser": "c"}', r"line 1: has the unknown key 'anwser'"),
        ('{"messages": "a", "turns": []}', r"line 1.turns: \[\] is not allowed"),
        ('{"messages": "a", "question": ""}', r"line 1.turns\[0\]: question='' is not allowed; give a text"),
        ('{"messages": "a", "question": "b", "answer": 3}', r"turns\[0\]: answer=3 is not allowed"),
        ('{"messages": "a", "question": "b", "use_audio_in_video": 1}', "use_audio_in_video=1 is not allowed"),
        ("", "holds no conversation"),
    ],
)
def test_wrong_lines(tmp_path, line, message):
    file = tmp_path / "data.jsonl"
    file.write_text(line)
    with pytest.raises(ConversationError, match=message):
        read_conversations(file)


def test_too_long_a_conversation_is_refused(shown):
    model, messages = shown("llava")
    data = {"messages": [*messages, {"role": "assistant", "content": "x" * 9000}], "question": QUESTION, "answer": "a"}
    with pytest.raises(ConversationError, match=r"data\[0\] has .* tokens, but the model reads 8192"):
        passages_of(model, [data], 1, 16, 16)
