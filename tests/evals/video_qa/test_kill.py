"""Runs that are killed with SIGKILL at random moments lose no finished answer and repeat none."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import oscar_x
from oscar_x.evals.video_qa.answer_log import key_of, read_records
from oscar_x.evals.video_qa.answering import CacheAnswerer
from oscar_x.evals.video_qa.media_parts import MediaSettings
from oscar_x.evals.video_qa.methods import qa_methods
from oscar_x.evals.video_qa.run import run
from oscar_x.evals.video_qa.sources import file_source

KILLS = 20


def start(work: Callable[[int], None]) -> tuple[int, int]:
    """A child process that runs work(pipe to write to); its id and where to read."""
    read, write = os.pipe()
    child = os.fork()
    if child:
        os.close(write)
        return child, read
    try:  # the child must never come back into the test
        work(write)
    finally:
        os._exit(0)


def finished(folder: Path) -> set[tuple[str, ...]]:
    return {key_of(record) for record in read_records(folder) if record["record"] == "answer"}


def drain(pipe: int) -> bytes:
    with os.fdopen(pipe, "rb") as file:
        return file.read()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_twenty_kills(tmp_path: Path, make_source: Callable[..., Any], fake: Any, settings: dict[str, Any]):
    source = make_source(clips=30, questions=6)
    total = 30 * 6 * 3
    rng = random.Random(0)

    def work(pipe: int) -> None:
        def ask(key: str) -> None:
            os.write(pipe, b"asked %s\n" % key.encode())
            time.sleep(rng.random() * 1e-3)

        def told(done: int, total: int, what: str) -> None:
            os.write(pipe, b"done %d\n" % done)

        run(source, fake(asked=ask), tmp_path, settings, progress=told)

    kills, before = 0, set()
    while len(before) < total:
        rng.seed(kills)
        child, pipe = start(work)
        if kills < KILLS:
            # so that the last kill, too, finds answers missing
            while len(finished(tmp_path) if tmp_path.exists() else ()) < (kills + 1) * total // (KILLS + 5):
                time.sleep(1e-3)
            time.sleep(rng.random() * 0.01)
            os.kill(child, signal.SIGKILL)
            kills += 1
        lines = drain(pipe).decode().splitlines()
        os.waitpid(child, 0)
        now = finished(tmp_path)
        said = [int(line[5:]) for line in lines if line.startswith("done ")]
        asked = {("answer", *line[6:].split()) for line in lines if line.startswith("asked ")}
        assert before <= now  # nothing is lost
        assert len(now) >= max(said, default=0)  # what counted as finished is on disk
        assert not asked & before  # nothing finished is asked again
        before = now
    assert kills == KILLS
    lines = Counter(key_of(json.loads(line)) for path in tmp_path.glob("*.jsonl") for line in path.open())
    assert set(lines.values()) == {1}
    assert sum(key[0] == "answer" for key in lines) == total


PROGRAM = """
import sys
from pathlib import Path
import oscar_x
from oscar_x.evals.video_qa.answering import CacheAnswerer
from oscar_x.evals.video_qa.methods import qa_methods
from oscar_x.evals.video_qa.sources import file_source
from oscar_x.evals.video_qa.media_parts import MediaSettings
from oscar_x.evals.video_qa.run import run

data, checkpoint, out = sys.argv[1:]
answerer = CacheAnswerer(oscar_x.load(checkpoint, device="cpu"), qa_methods(["kivi", "oscar-max"], None, {}), "letters")
source = file_source(data, "own", MediaSettings())
run(source, answerer, out, {}, progress=lambda done, total, what: print(done, flush=True))
"""


def test_a_real_model_that_is_killed_gives_the_same_answers(
    tmp_path: Path, tiny_media: Callable[..., Path], pictures: Path
):
    checkpoint = tiny_media("qwen2_5_vl")
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    command = [sys.executable, "-P", "-c", PROGRAM, str(pictures), str(checkpoint), str(parted)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert child.stdout is not None
    for line in child.stdout:
        if int(line) >= 5:
            break
    child.kill()
    child.communicate()
    kept = list(read_records(parted))
    methods = qa_methods(["kivi", "oscar-max"], None, {})
    answerer = CacheAnswerer(oscar_x.load(checkpoint, device="cpu"), methods, "letters")
    source = file_source(pictures, "own", MediaSettings())
    for folder in (parted, whole):
        run(source, answerer, folder, {})
    found, expected = ({key_of(r): r for r in read_records(folder)} for folder in (parted, whole))
    assert 0 < len(kept) < len(expected)
    assert list(read_records(parted))[: len(kept)] == kept
    assert found.keys() == expected.keys()
    for key, record in expected.items():
        assert found[key].get("scores") == pytest.approx(record.get("scores"), abs=1e-3)
