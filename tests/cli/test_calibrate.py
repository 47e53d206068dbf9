from __future__ import annotations

from pathlib import Path

import pytest

from oscar_x import Profile

TEXT = "Every layer gets the bits that it needs, and no more than that. " * 6
SHORT = ("--sequences", 1, "--prefix", 96, "--continuation", 16)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


def test_a_profile_that_the_fidelity_eval_runs(oscar_x, tiny, text, tmp_path):
    out = tmp_path / "mine.json"
    outcome = oscar_x("calibrate", tiny("llama"), "--out", out, "--text", text, "--bits", 3.5, *SHORT)
    assert outcome.status == 0, outcome.errors
    profile = Profile.load(out)
    assert profile.target == {"bits_budget": 3.5}
    assert f"KL {profile.after.kl:.4f}, both on this data" in outcome.output
    methods = ("--methods", "oscar-balanced,oscar-mine", "--profile", out)
    sizes = ("--sequences", 1, "--prefix", 96, "--continuation", 16, "--text", text)
    outcome = oscar_x("eval", "fidelity", "--model", tiny("llama"), *methods, *sizes)
    assert outcome.status == 0, outcome.errors
    assert "OScaR mine" in outcome.output
    outcome = oscar_x("eval", "fidelity", "--model", tiny("qwen3"), *methods, *sizes)
    assert outcome.status == 2
    assert "made for another model" in outcome.errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bits", "2.6", "--kl", "0.1"], "--bits and --kl exclude each other"),
        (["--kl", "little"], "'little' is no number of nats; give one, or same"),
        (["--out", "nowhere/profile.json"], "--out nowhere/profile.json: folder nowhere does not exist"),
        (["--text", "nowhere.txt"], "text='nowhere.txt' is neither a file nor one of"),
    ],
)
def test_wrong_arguments(oscar_x, tiny, tmp_path, arguments, message):
    outcome = oscar_x("calibrate", tiny("llama"), "--out", tmp_path / "profile.json", *arguments)
    assert outcome.status == 2
    assert message in " ".join(outcome.errors.split())
    assert not list(tmp_path.glob("profile.json*"))
