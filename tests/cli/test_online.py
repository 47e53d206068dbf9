"""``--online`` reaches load() from every command that offers it."""

from __future__ import annotations

import importlib.util
import json

import pytest

from oscar_x.errors import UnknownModelError

COMMANDS = [["chat", "MODEL"], ["info", "MODEL"], ["demo"], ["demo", "--omni"], ["demo", "--web", "--port", 0]]


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(map(str, words)))
def test_load_is_told(oscar_x, tiny, tmp_path, monkeypatch, words, given):
    if "--web" in words and not all(importlib.util.find_spec(name) for name in ("starlette", "uvicorn")):
        pytest.skip("the packages of the extra web are not installed")
    told = []

    def load(*args, **kwargs):
        told.append(kwargs["online"])
        raise UnknownModelError("asked for no more")

    monkeypatch.setattr("oscar_x.loading.load", load)
    monkeypatch.setattr("oscar_x.cli.embedded.embedded_model", lambda: tmp_path)
    arguments = [tiny("llama") if word == "MODEL" else word for word in words]
    outcome = oscar_x(*arguments, *(["--online"] if given else []))
    assert outcome.status == 2, outcome.errors
    assert told == [given]


def test_with_and_without_a_profile(oscar_x, tiny, write_profile):
    for more in ([], ["--profile", write_profile(key_bits=3)], ["--config-only"]):
        about = json.loads(oscar_x("info", tiny("llama"), "--online", "--json", "-", *more).output)
        assert about["config"]["online"] is True
