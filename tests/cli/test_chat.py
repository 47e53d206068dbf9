"""``oscar-x chat``: questions from a pipe, media from files."""

from __future__ import annotations

import io
import json

import pytest


def test_the_command_reads_questions_from_a_pipe(oscar_x, tiny, tmp_path, monkeypatch):
    target = tmp_path / "chat.json"
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n/memory\n/what\nand again\n"))
    outcome = oscar_x("chat", tiny("llama"), "--max-new-tokens", 4, "--json", target)
    about = json.loads(target.read_text())
    assert outcome.status == 0
    assert "residual" in outcome.output
    assert "/what is no command" in outcome.output
    assert [message["content"] for message in about["messages"][::2]] == ["hello", "and again"]
    assert about["memory"]["columns"] > 0


def test_graphed_answers_are_the_same(oscar_x, tiny, monkeypatch):
    said = []
    for options in ((), ("--graphed",)):
        monkeypatch.setattr("sys.stdin", io.StringIO("hello\nand again\n"))
        outcome = oscar_x("chat", tiny("llama"), "--max-new-tokens", 9, "--json", "-", *options)
        said.append(json.loads(outcome.output)["messages"])
    assert said[1] == said[0]
    assert len(said[1]) == 4
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n"))
    refused = oscar_x("chat", tiny("gemma3"), "--graphed")
    assert refused.status == 2
    assert "graphed=True: cache has layers that are not compressed" in refused.errors


def test_reset_forgets(oscar_x, tiny, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n/reset\n/exit\nnever asked\n"))
    about = json.loads(oscar_x("chat", tiny("llama"), "--max-new-tokens", 4, "--json", "-").output)
    assert about["messages"] == []
    assert about["memory"]["columns"] == 0


def test_a_question_that_outgrows_the_model_is_told_so(oscar_x, tiny, tmp_path, monkeypatch):
    target = tmp_path / "chat.json"
    monkeypatch.setattr("sys.stdin", io.StringIO("x" * 5000 + "\nshort\n"))
    outcome = oscar_x("chat", tiny("llama"), "--max-new-tokens", 4, "--json", target)
    assert "the model reads 4096" in outcome.output
    assert [message["content"] for message in json.loads(target.read_text())["messages"][::2]] == ["short"]


@pytest.fixture
def picture(tmp_path, support):
    from PIL import Image

    path = tmp_path / "picture.png"
    Image.fromarray(support("tiny_media").image(60, 80)).save(path)
    return path


def test_media_are_read_once_and_survive_a_reset(oscar_x, tiny_media, picture, tmp_path, monkeypatch):
    target = tmp_path / "chat.json"
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n/reset\nagain\n"))
    outcome = oscar_x("chat", tiny_media("llava"), "--image", picture, "--max-new-tokens", 4, "--json", target)
    assert outcome.status == 0
    about = json.loads(target.read_text())
    assert about["media"] == [{"type": "image", "path": str(picture)}]
    assert [message["content"] for message in about["messages"][::2]] == ["again"]
    assert about["memory"]["columns"] > 16


def test_media_that_cannot_be_read(oscar_x, tiny_media, tiny, picture, tmp_path):
    missing = oscar_x("chat", tiny_media("llava"), "--image", tmp_path / "none.png")
    assert missing.status == 2
    assert "media[0] (image)" in missing.errors
    text_only = oscar_x("chat", tiny("llama"), "--image", picture)
    assert text_only.status == 2
    assert "Llama reads text" in text_only.errors


def test_with_a_profile(oscar_x, tiny, write_profile, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n"))
    arguments = ("--profile", write_profile(value_bits=4), "--max-new-tokens", 4, "--json", "-")
    outcome = oscar_x("chat", tiny("llama"), *arguments)
    assert outcome.status == 0, outcome.errors
    assert len(json.loads(outcome.output)["messages"]) == 2
