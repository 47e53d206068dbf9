"""Fidelity on conversations with media: packed contexts are read, answers scored apart, the command line."""

from __future__ import annotations

import itertools
import json

import pytest
import torch
from typer.testing import CliRunner

import oscar_x
from oscar_x.cli.eval_command import eval_app
from oscar_x.evals.conversations import (
    embedded_vlm_conversations,
    load_conversations,
    run_on_conversations,
    tiny_omni_conversations,
)


@pytest.fixture(scope="module")
def omni(tiny_media):
    return oscar_x.load(tiny_media("qwen2_5_omni"), device="cpu")


@pytest.fixture(scope="module")
def heard_and_seen(support, omni):
    make, cases = support("tiny_media"), support("media_cases")

    def conversation(seed):
        parts = [cases.part(make, kind, omni.adapter.media, seed) for kind in ("image", "video", "audio")]
        turns = [{"question": "What was that?", "answer": "A noise."}, {"question": "Sure?", "answer": "Yes."}]
        return {"messages": [{"role": "user", "content": parts}], "turns": turns}

    return [conversation(seed) for seed in range(2)]


def test_media_are_packed_and_answers_scored_apart(omni, heard_and_seen):
    report = run_on_conversations(omni, heard_and_seen, ["full", "kivi", "oscar-balanced", "oscar-max"])
    full, *packed = report.rows
    assert full["kl"] == pytest.approx(0, abs=1e-6)
    assert full["answer_kl"] == pytest.approx(0, abs=1e-6)
    for row in packed:
        assert row["packed_reads"] > 0
        assert 0 < row["answer_kl"] < 10
        assert len(row["samples"]["answer_top1"]) == 2
    assert report["oscar-balanced"].footprint.bits_per_element > report["oscar-max"].footprint.bits_per_element
    assert set(report.settings["tokens"]) == {"text", "image", "video", "audio"}
    # the answers are part of what is scored, not all of it
    assert report.rows[1]["answer_kl"] != report.rows[1]["kl"]


def test_a_cache_knows_the_media_it_is_filled_with(omni, heard_and_seen, monkeypatch):
    from oscar_x.evals import methods

    caches = []
    footprint = methods.oscar_footprint
    monkeypatch.setattr(methods, "oscar_footprint", lambda cache: caches.append(cache.modalities) or footprint(cache))
    report = run_on_conversations(omni, heard_and_seen[:1], ["oscar-balanced"])
    (stream,) = caches
    assert stream.counts()[0] == {
        kind: count for kind in oscar_x.Modality if (count := report.settings["tokens"].get(kind.name.lower()))
    }


def test_no_conversation_is_refused(omni):
    with pytest.raises(ValueError, match="conversations is empty"):
        run_on_conversations(omni, [])


def test_splits_of_the_embedded_set_are_disjoint_and_repeat():
    taken = {split: list(itertools.islice(embedded_vlm_conversations(split, 0), 3)) for split in ("train", "held-out")}
    again = next(embedded_vlm_conversations("held-out", 0))
    first = taken["held-out"][0]
    assert again.turns == first.turns
    assert all(conversation.messages[-1]["role"] == "user" for conversation in taken["train"])
    images = [m["content"][0]["image"] for m in again.messages if m["role"] == "user"]
    assert [i.tobytes() for i in images] == [
        m["content"][0]["image"].tobytes() for m in first.messages if m["role"] == "user"
    ]
    assert len(images) == 4
    assert taken["train"][0].turns != first.turns


def test_clips_of_the_tiny_omni_set():
    first, again = (next(tiny_omni_conversations("held-out", 0, length=4)) for _ in range(2))
    (part,) = first.messages[0]["content"]
    assert part["type"] == "video"
    assert first.use_audio_in_video
    assert 1 <= len(first.turns) <= 6
    assert all(turn.answer for turn in first.turns)
    assert again.turns == first.turns
    assert next(tiny_omni_conversations("train", 0, length=4)).turns != first.turns


def test_command(tiny_media, tmp_path):
    torch.manual_seed(0)
    image = tmp_path / "noise.png"
    from PIL import Image

    Image.effect_noise((84, 84), 90).convert("RGB").save(image)
    content = [{"type": "image", "path": "noise.png"}, {"type": "text", "text": "Remember this. " * 10}]
    line = {"messages": [{"role": "user", "content": content}], "question": "What?", "answer": "Noise."}
    data, target = tmp_path / "data.jsonl", tmp_path / "out.json"
    data.write_text(json.dumps(line) + "\n")
    runner, model = CliRunner(), tiny_media("llava")
    fixed = ["fidelity", "--model", str(model), "--methods", "full,oscar-balanced"]
    result = runner.invoke(eval_app, [*fixed, "--conversations", str(data), "--json", str(target)])
    assert result.exit_code == 0, result.exception
    assert "KL on answers" in result.output
    assert json.loads(target.read_text())["rows"][1]["packed_reads"] > 0
    result = runner.invoke(eval_app, [*fixed, "--conversations", str(data), "--text", "kjv"])
    assert result.exit_code == 2
    with pytest.raises(ValueError, match="holds 1 conversations, fewer than 2"):
        load_conversations(data, 2)
    with pytest.raises(FileNotFoundError, match="'nowhere' is neither a file nor one of embedded-vlm"):
        load_conversations("nowhere")
