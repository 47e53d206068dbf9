"""Sessions over a text model: what is read once, what is forgotten, what a failure leaves behind."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
import torch

import oscar_x
from oscar_x.cache.serialize import CacheFileError

GREEDY = {"max_new_tokens": 12, "min_new_tokens": 12, "do_sample": False}
DOCUMENT = "A long document that every question is about. " * 12


@pytest.fixture
def model(tiny):
    return oscar_x.load(tiny("llama"), device="cpu")


def fed_tokens(model, monkeypatch):
    """Lengths of what the model's forward is given from now on."""
    lengths, forward = [], model.model.forward

    def counting(*args, **kwargs):
        lengths.append(kwargs["input_ids"].shape[1])
        return forward(*args, **kwargs)

    monkeypatch.setattr(model.model, "forward", counting)
    return lengths


def test_every_turn_reads_only_what_is_new(model, monkeypatch):
    session = model.new_session(DOCUMENT)
    lengths = fed_tokens(model, monkeypatch)
    session.ask("One?", **GREEDY)
    assert lengths[0] < 60
    lengths.clear()
    session.ask("Two?", **GREEDY)
    assert lengths[0] < 60


def test_tokens_are_those_of_one_conversation(model):
    """At 16 bits a session generates what one prompt of the same tokens does."""
    plain = oscar_x.load(model.model.config._name_or_path, kv_bits=16, device="cpu")
    session = plain.new_session(DOCUMENT)
    for question in ("One?", "Two?"):
        session.ask(question, **GREEDY)
    tokens = torch.tensor([session.tokens])
    again = plain.generate(tokens[:, :-12], **GREEDY)
    assert torch.equal(again, tokens)
    template = plain.processor.apply_chat_template(
        [{"role": "user", "content": DOCUMENT + "One?"}], add_generation_prompt=True, tokenize=True
    )["input_ids"]
    assert session.tokens[: len(template)] == list(template)


def test_cache_and_tokens_go_together(model):
    session = model.new_session()
    for question in ("first question", "second question"):
        session.ask(question, max_new_tokens=9, do_sample=False)
        assert session.cache.get_seq_length() <= len(session.tokens) <= session.cache.get_seq_length() + 1


def test_the_end_of_an_answer_is_written_once(model):
    """An answer that ended by itself and one that was cut short go on in the same form."""
    tokenizer = model.processor
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    session = model.new_session("Hello")
    session.ask("One?", max_new_tokens=400, do_sample=True, temperature=3.0)
    session.ask("Two?", **GREEDY)
    text = tokenizer.decode(session.tokens)
    assert "<|end|><|end|>" not in text
    assert session.tokens.count(end) >= 3


def test_stopping_an_answer_keeps_what_was_said(model):
    session = model.new_session()
    space = model.processor.convert_tokens_to_ids("Ġ")
    silent = [token for token in range(len(model.processor)) if token != space]
    slow = model.model.register_forward_hook(lambda *_: time.sleep(0.005))
    pieces = session.stream("tell me", max_new_tokens=1000, suppress_tokens=silent)
    next(pieces)
    pieces.close()
    slow.remove()
    said = len(session.tokens)
    assert said < 500
    session.ask("go on", **GREEDY)
    assert len(session.tokens) > said


def test_a_turn_that_fails_is_taken_back(model, monkeypatch):
    session, twin = model.new_session(DOCUMENT), model.new_session(DOCUMENT)
    before, held = session.tokens, session.cache.get_seq_length()
    layer = model.adapter.find_layers(model.model)[1]
    handle = layer.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(RuntimeError("no memory")))
    with pytest.raises(RuntimeError, match="no memory"):
        session.ask("fails", **GREEDY)
    handle.remove()
    assert session.tokens == before
    assert [each.get_seq_length() for each in session.cache.layers] == [held, held]
    assert session.ask("works", **GREEDY) == twin.ask("works", **GREEDY)


def test_a_question_that_outgrows_the_model(model):
    session = model.new_session(DOCUMENT)
    before = session.tokens
    with pytest.raises(ValueError, match="the model reads 4096; start a new session"):
        session.ask("x" * 4000, max_new_tokens=5)
    assert session.tokens == before


def test_files_that_are_no_session(model, tmp_path):
    with pytest.raises(FileNotFoundError):
        model.open_session(tmp_path / "none.safetensors")
    cache = model.new_cache()
    model.generate("x" * 300, past_key_values=cache, max_new_tokens=2)
    cache.save(tmp_path / "cache.safetensors")
    with pytest.raises(CacheFileError, match="holds a cache but no session"):
        model.open_session(tmp_path / "cache.safetensors")
    cache.save(tmp_path / "wrong.safetensors", notes={"session": '{"tokens": [1, 2]}'})
    with pytest.raises(CacheFileError, match="token ids do not fit"):
        model.open_session(tmp_path / "wrong.safetensors")


def test_base_models_have_sessions_too(model):
    model.processor.chat_template = None
    session = model.new_session(DOCUMENT)
    session.ask("One?", **GREEDY)
    session.ask("Two?", **GREEDY)
    assert "One?" in model.processor.decode(session.tokens)


def test_another_process_goes_on_from_the_file(model, tmp_path):
    path, folder = tmp_path / "session.safetensors", model.model.config._name_or_path
    session = model.new_session(DOCUMENT)
    session.save(path)
    code = (
        "import sys, oscar_x; model = oscar_x.load(sys.argv[1], device='cpu'); "
        "session = model.open_session(sys.argv[2]); "
        f"session.ask('One?', **{GREEDY!r}); print(session.tokens)"
    )
    run = subprocess.run([sys.executable, "-c", code, folder, path], capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    session.ask("One?", **GREEDY)
    assert run.stdout.strip().splitlines()[-1] == str(session.tokens)
