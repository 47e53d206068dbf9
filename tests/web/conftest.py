"""The page in a thread of its own, with a small random model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from threading import Thread
from typing import Any

import pytest

import oscar_x
from oscar_x.media import MediaLimits


@pytest.fixture(scope="session")
def studio(tiny_media) -> Any:
    pytest.importorskip("starlette")
    from oscar_x.web.limits import WebLimits
    from oscar_x.web.studio import Studio

    # random weights read a frame of 28 x 28 pixels as many tokens: few frames
    media = MediaLimits(max_bytes=2**20, max_video_seconds=60.0, max_frames=8)
    model = oscar_x.load(tiny_media("qwen2_5_omni"), device="cpu")
    return Studio(model, "tiny", WebLimits(media, clips=2, question=40, max_new_tokens=3))


@pytest.fixture(scope="session")
def address(studio) -> Iterator[str]:
    """Of the page, while the tests run."""
    pytest.importorskip("uvicorn")
    from oscar_x.web.server import listen, make_server

    listening = listen("127.0.0.1", 0)
    server = make_server(studio, "127.0.0.1")
    thread = Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.02)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join(timeout=20)
