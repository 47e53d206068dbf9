"""Settings that tell modalities apart, beside those that do not; what online settings cost."""

from __future__ import annotations

import pytest
import torch

import oscar_x
from oscar_x.calibration.conversation import parse_conversation
from oscar_x.calibration.passage import Passage, text_passage
from oscar_x.calibration.questions import conversation_passage
from oscar_x.evals.modalities import SETTINGS, compare, rows, show
from oscar_x.evals.online_cost import measure


@pytest.fixture(scope="module")
def omni(tiny_media):
    return oscar_x.load(tiny_media("qwen2_5_omni"), device="cpu")


@pytest.fixture(scope="module")
def passages(support, omni) -> list[Passage]:
    make = support("tiny_media")
    found = []
    for seed in range(2):
        # long enough to be worth blocks of their own
        shown, heard = make.image(200, 200, seed), make.tone(2.0, seed)
        parts = [{"type": "image", "image": shown}, {"type": "audio", "audio": heard}]
        data = {"messages": [{"role": "user", "content": parts}], "turns": [{"question": "What?", "answer": "Noise."}]}
        found.append(conversation_passage(omni, parse_conversation(data)))
    return found


def test_split_costs_bytes_and_both_are_set_beside_balanced(omni, passages):
    names = ("balanced", "blocks of 16", "split", "online")
    report = compare(omni, passages, {name: SETTINGS[name] for name in names})
    found = {row["settings"]: row for row in rows(report, "balanced")}
    assert list(found) == list(names)
    assert found["split"]["bytes"] > found["blocks of 16"]["bytes"]
    assert found["balanced"]["kl_to_balanced"] == {"value": 1, "low": 1, "high": 1}
    assert found["split"]["kl"]["value"] != found["blocks of 16"]["kl"]["value"]
    line = show(found["split"], found["balanced"])
    assert line.startswith("| split | ")
    assert line.count("|") == 8


def test_cost_of_online_settings(omni, passages):
    text = text_passage(torch.randint(3, 250, (300,), generator=torch.Generator().manual_seed(0)), 300)
    for passage in (text, passages[0]):
        cost = measure(omni, passage, repeats=1)
        assert cost.prompt > 0
        assert cost.decoder > 0
        assert cost.added > 0
