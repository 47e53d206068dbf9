"""The program as a whole: help, versions, failures, signals."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from oscar_x.cli import main
from oscar_x.cli.app import app


def test_help_names_every_command():
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    assert all(command in result.output for command in ("demo", "chat", "info", "warm", "eval"))


def test_no_command_shows_the_help(oscar_x):
    outcome = oscar_x()
    assert "Usage" in outcome.output + outcome.errors
    assert outcome.status == 2


def test_help_needs_no_torch():
    code = "import sys, oscar_x.cli; assert not {'torch', 'transformers', 'numpy'} & set(sys.modules), 'slow help'"
    subprocess.run([sys.executable, "-P" if sys.version_info >= (3, 11) else "-s", "-c", code], check=True)


def test_version(oscar_x):
    from importlib.metadata import version

    outcome = oscar_x("--version")
    assert (outcome.status, outcome.output.split()) == (0, ["oscar-x", version("oscar-x")])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bogus"], "bogus"),
        (["info", "no-such-model"], "'no-such-model' is unknown"),
        (["info", "./no/such/folder"], "does not exist"),
        (["chat"], "MODEL"),
        (["chat", "SmolLM9"], "did you mean SmolLM2"),
        (["chat", "nobody/nothing"], "nobody/nothing was not found"),
        (["demo", "--kv-bits", "5"], "choose 1, 2, 3, 4, 8"),
        (["demo", "--preset", "tiny"], "choose paper, balanced, max"),
        (["demo", "--context", "many"], "--context"),
        (["info", "--key-bits", "16"], "must be set for both"),
        (["info", "--json", "no/such/folder/out.json"], "does not exist"),
        (["info", "--json", "."], "is a folder"),
    ],
)
def test_a_wrong_argument_is_one_line_and_status_2(oscar_x, arguments, words):
    outcome = oscar_x(*arguments)
    assert outcome.status == 2
    assert words in outcome.errors
    assert outcome.errors.count("\n") == 1
    assert "Traceback" not in outcome.errors


def test_debugging_shows_the_traceback(monkeypatch):
    monkeypatch.setenv("OSCAR_X_DEBUG", "1")
    with pytest.raises(ValueError, match="no-such-model"):
        main(["info", "no-such-model"])


@pytest.fixture
def heeded_interrupts():
    """Programs started in the background ignore Ctrl-C, and so would the processes that they start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeded_interrupts")
def test_ctrl_c_is_status_130(start, tiny):
    process = start("chat", tiny("llama"))
    for line in process.stdout:
        if "/exit" in line:
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "oscar-x: interrupted\n"


def test_a_reader_that_left_is_no_failure(start):
    process = start("info")
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    process.stdin.close()
    assert process.wait(timeout=120) in (0, 1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_a_full_disk_is_one_line(oscar_x):
    outcome = oscar_x("info", "--json", "/dev/full")
    assert outcome.status == 1
    assert outcome.errors == "oscar-x: no space left on the disk: /dev/full\n"
