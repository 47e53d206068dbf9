"""Scores against ones that transformers computes alone, from the whole conversation in one forward pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import oscar_x
from oscar_x.evals.method import Method
from oscar_x.evals.video_qa.answering import CacheAnswerer
from oscar_x.evals.video_qa.contexts import Context, pack, read_clip
from oscar_x.evals.video_qa.methods import DEFAULT, qa_methods
from oscar_x.evals.video_qa.questions import Clip, Question
from oscar_x.evals.video_qa.scoring import INSTRUCTION, Scores, ask, option_tokens, question_text, score

QUESTION = Question("q", "color", "Which color comes first?", ("red", "green", "greenish"), 1)
FAMILIES = ("qwen2_5_omni", "qwen2_5_vl", "llava_onevision", "qwen3_vl")


@pytest.fixture(scope="module", params=FAMILIES)
def read(request: Any, support: Callable[[str], Any], tiny_media: Callable[..., Path]) -> tuple[Any, Context, list]:
    """A model, a clip it has read, and the message parts of that clip."""
    model = oscar_x.load(tiny_media(request.param), device="cpu")
    make = support("tiny_media")
    content = [support("media_cases").part(make, "video", model.adapter.media)]
    if "audio" in make.load_family(request.param).kinds:
        content.append(support("media_cases").part(make, "audio", model.adapter.media))
    return model, read_clip(model, Clip("c", lambda: content, (QUESTION,))), content


def scored(model: Any, context: Context, method: Method, form: Any = "words") -> Scores:
    return score(model, pack(model, context, method), ask(model, context, QUESTION, form))


@torch.inference_mode()
def expected(model: Any, content: list, text: str, options: tuple[tuple[int, ...], ...]) -> list[float]:
    """Log-likelihoods of options behind the whole conversation, without any cache."""
    prompt = model.prepare([{"role": "user", "content": [*content, {"type": "text", "text": text}]}])
    length, found = prompt["input_ids"].shape[1], []
    for option in options:
        inputs = dict(prompt)
        inputs["input_ids"] = torch.cat([prompt["input_ids"], torch.tensor([option])], 1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        if "mm_token_type_ids" in inputs:
            types = inputs["mm_token_type_ids"]
            inputs["mm_token_type_ids"] = torch.cat([types, types.new_zeros(1, len(option))], 1)
        rows = model.generator(**inputs, use_cache=False).logits[0, length - 1 : -1].log_softmax(-1)
        found.append(sum(float(row[token]) for row, token in zip(rows, option, strict=True)))
    return found


def test_the_full_cache_scores_as_one_forward_pass_over_everything(read: tuple[Any, Context, list]):
    model, context, content = read
    full = qa_methods(["full"], None, {})[0]
    for form in ("words", "letters"):
        answers = QUESTION.options if form == "words" else "ABC"
        options = option_tokens(model, answers)
        found = scored(model, context, full, form)
        assert found.options == pytest.approx(
            expected(model, content, question_text(QUESTION, form), options), abs=5e-3
        )
        assert found.packed_reads == 0


def test_every_method_reads_packed_tokens_and_keeps_its_context(read: tuple[Any, Context, list]):
    model, context, _ = read
    exact = scored(model, context, qa_methods(["full"], None, {})[0]).options
    for method in qa_methods(["kivi-g16", *DEFAULT[1:]], model.key_biases or None, {})[1:]:
        packed = pack(model, context, method)
        asked = ask(model, context, QUESTION, "words")
        first, second = score(model, packed, asked), score(model, packed, asked)
        assert first == second
        assert first.packed_reads > context.tokens
        assert first.options != exact
        assert packed.footprint.packed_elements > 0


def test_filling_recorded_states_is_the_same_as_reading_into_the_packed_cache(read: tuple[Any, Context, list]):
    model, context, content = read
    oscar = oscar_x.OscarModel(
        model.model, model.processor, model.adapter, replace(oscar_x.config.PRESETS["balanced"], residual_length=0)
    )
    session = oscar.new_session(content)
    session.cache.flush()
    prompt = session.prepare(QUESTION.text)
    whole = torch.cat([torch.tensor([session.tokens]), prompt["input_ids"]], 1)
    given = {"input_ids": whole, "attention_mask": torch.ones_like(whole), "past_key_values": session.cache}
    out = oscar.generate(**given, max_new_tokens=1, output_logits=True, return_dict_in_generate=True, do_sample=False)
    rows = out.logits[0][0].log_softmax(-1)
    asked = ask(model, context, QUESTION, "words")
    single = replace(asked, options=tuple((token,) for token in (5, 50, 100)))
    method = qa_methods(["oscar-balanced"], oscar.key_biases or None, {})[1]
    found = score(model, pack(model, context, method), single).options
    assert found == pytest.approx([float(rows[token]) for token in (5, 50, 100)], abs=5e-3)


def test_what_is_asked():
    assert question_text(QUESTION, "words") == QUESTION.text
    lines = question_text(QUESTION, "letters").split("\n")
    assert lines == [QUESTION.text, "A. red", "B. green", "C. greenish", INSTRUCTION]
    many = Question("m", "", "?", tuple(map(str, range(27))), 0)
    with pytest.raises(ValueError, match="27 options; use answer form words"):
        question_text(many, "letters")


def test_options_that_begin_alike_count_with_the_end_of_the_answer(omni: Any):
    end = omni.generator.generation_config.eos_token_id
    red, green, greenish = option_tokens(omni, QUESTION.options)
    assert red[-1] == green[-1] == greenish[-1] == end
    assert greenish[: len(green) - 1] == green[:-1]
    assert all(end not in tokens for tokens in option_tokens(omni, ("A", "B")))
    with pytest.raises(ValueError, match="not told apart"):
        option_tokens(omni, ("A", ""))


def test_a_context_that_is_too_long_is_told_before_anything_is_answered(omni: Any, monkeypatch: pytest.MonkeyPatch):
    config = omni.model.config.get_text_config(decoder=True)
    monkeypatch.setattr(config, "max_position_embeddings", 60)
    clip = Clip("c", lambda: [{"type": "text", "text": "some words that fill the context"}], (QUESTION,))
    answerer = CacheAnswerer(omni, qa_methods(["full"], None, {}), "words")
    with pytest.raises(ValueError, match=r"clip c has \d+ tokens and its longest question \d+, but the model reads 60"):
        list(answerer.answer(clip, {"full": [QUESTION]}))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["kivy"], "methods='kivy' is not known"),
        (["kivi-g0"], "methods='kivi-g0' is not known"),
        (["oscar-mine"], "methods='oscar-mine' is not known"),
    ],
)
def test_unknown_methods(names: list[str], message: str):
    with pytest.raises(ValueError, match=message):
        qa_methods(names, None, {})


def test_kivi_at_other_group_sizes_costs_what_it_says(omni: Any):
    clip = Clip("c", lambda: [{"type": "text", "text": "0123456789abcdef" * 32}], (QUESTION,))
    context = read_clip(omni, clip)
    for group in (16, 32, 64):
        method = qa_methods([f"kivi-g{group}"], None, {})[1]
        bits = pack(omni, context, method).footprint.bits_per_element
        assert bits == pytest.approx(2 + 32 / group, abs=0.15)
