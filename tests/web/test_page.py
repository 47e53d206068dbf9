"""The page over HTTP, and in a real browser where there is one."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest
from PIL import Image

from oscar_x.cli import demo_omni
from oscar_x.cli.app import main
from oscar_x.evals.long_video import needle_clip

# CHROMIUM names a browser that is not on the path
BROWSER = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
)


def fetch(url: str, data: bytes | None = None, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    """Status, body, headers of the answer."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with urlopen(Request(url, data=data, headers=named), timeout=120) as answer:
            return answer.status, answer.read(), dict(answer.headers)
    except HTTPError as error:
        return error.code, error.read(), dict(error.headers)


@pytest.fixture(scope="module")
def clip() -> bytes:
    return needle_clip("visual", 4.0, 0.0, 0).encoded()


@pytest.fixture(scope="module")
def uploaded(address, clip) -> dict:
    status, body, _ = fetch(f"{address}/clips", clip, Content_Type="video/x-matroska")
    assert status == 200, body
    return json.loads(body)


def test_the_page_and_its_files_forbid_what_is_not_theirs(address):
    for path, beginning in (("/", b"<!DOCTYPE html>"), ("/page.css", b":root"), ("/page.js", b'"use strict"')):
        status, body, headers = fetch(address + path)
        assert status == 200
        assert body.startswith(beginning)
        assert "default-src 'self'" in headers["content-security-policy"]
    text = fetch(address + "/")[1].decode()
    assert re.findall(r'(?:src|href)="([^"]*)"', text) == ["page.css", "page.js"]
    assert fetch(address + "/page.py")[0] == 404
    assert fetch(address + "/..%2fapp.py")[0] == 404


def test_a_clip_is_read_into_both_caches(uploaded):
    full, packed = (side["memory"] for side in uploaded["sides"])
    assert full["packed_elements"] == 0 < packed["packed_elements"]
    assert packed["total"] < full["total"]
    assert packed["residual"] == 0  # everything is packed before the first question
    assert {kind for kind, _ in uploaded["band"]} == {"text", "video", "audio"}
    assert sum(count for _, count in uploaded["band"]) == packed["columns"] == full["columns"]


def test_both_answers_stream_and_leave_no_trace(address, uploaded, studio):
    held = studio.find(uploaded["clip"])
    before = [side.session.tokens for side in held.sides]
    runs = [fetch(f"{address}/clips/{uploaded['clip']}/answers", b"What is it?") for _ in range(2)]
    assert [status for status, _, _ in runs] == [200, 200]
    lines = [[json.loads(line) for line in body.splitlines()] for _, body, _ in runs]
    assert lines[0][-1] == {"done": True}
    assert {line["side"] for line in lines[0][:-1]} == {0, 1}
    said = [[line["text"] for line in run[:-1]] for run in lines]
    assert said[0] == said[1]
    assert [side.session.tokens for side in held.sides] == before


def test_key_norms_are_drawn(address, uploaded):
    pytest.importorskip("matplotlib")
    status, body, headers = fetch(f"{address}/clips/{uploaded['clip']}/tni.png")
    assert (status, headers["content-type"]) == (200, "image/png")
    assert Image.open(io.BytesIO(body)).width > 600


@pytest.mark.parametrize(
    ("body", "kind", "status", "said"),
    [
        (b"not a film", "video/mp4", 400, "video"),
        (b"MZ", "application/zip", 400, "the model reads video, audio, image"),
        (b"0" * (2**20 + 1), "video/mp4", 413, "at most 1048576"),
        (b"0" * 2**23, "video/mp4", 413, "8388608 bytes; at most 1048576"),
    ],
)
def test_what_cannot_be_used_is_named(address, body, kind, status, said):
    found, answer, _ = fetch(f"{address}/clips", body, Content_Type=kind)
    assert found == status
    assert said in json.loads(answer)["error"]


def test_questions_and_visitors_are_checked(address, uploaded, clip):
    ask = f"{address}/clips/{uploaded['clip']}/answers"
    assert fetch(ask, b" ")[0] == 400
    assert "41 characters" in json.loads(fetch(ask, b"?" * 41)[1])["error"]
    assert fetch(ask, b"?" * 400)[0] == 413
    assert fetch(f"{address}/clips/nothing/answers", b"What?")[0] == 404
    assert fetch(f"{address}/clips", clip, Content_Type="video/x-matroska", Sec_Fetch_Site="cross-site")[0] == 403
    assert fetch(f"{address}/model", Host="elsewhere.example")[0] == 400


def test_the_oldest_clip_is_forgotten(address, clip):
    silent = needle_clip("visual", 4.0, 0.0, 1, heard=False).encoded()
    bodies = [fetch(f"{address}/clips", data, Content_Type="video/x-matroska")[1] for data in (clip, silent, silent)]
    names = [json.loads(body)["clip"] for body in bodies]
    statuses = [fetch(f"{address}/clips/{name}/answers", b"What?")[0] for name in names]
    assert statuses == [404, 200, 200]


@pytest.mark.parametrize("host", ["203.0.113.7"])
def test_an_address_of_another_machine_is_an_error(host, capsys):
    assert main(["demo", "--web", "--host", host, "--port", "0", "--model", "embedded"]) == 1
    assert capsys.readouterr().err


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium on the path or in CHROMIUM")
def test_a_browser_asks_and_shows_both_answers(address, monkeypatch, tmp_path):
    monkeypatch.setattr(demo_omni, "EVENTS", 3)
    question = "What color is it?"
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={tmp_path}")
    page = f"{address}/#example={quote(question)}"
    shown = subprocess.run(
        [str(BROWSER), *options, "--virtual-time-budget=240000", "--dump-dom", page],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert shown.returncode == 0, shown.stderr[-2000:]
    assert f'data-answered="{question}"' in shown.stdout
    answers = re.findall(r'class="answer (?:full|packed)">.*?first word after ([\d.]+) s', shown.stdout, re.DOTALL)
    assert len(answers) == 2
    assert shown.stdout.count('class="track"') == 2
    assert "times smaller" in shown.stdout
    assert re.search(r'id="tni"[^>]*src="clips/[\w-]+/tni\.png"', shown.stdout)
    assert 'class="wrong"' not in shown.stdout
