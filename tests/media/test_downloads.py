"""Addresses: off unless allowed, and then bounded in size, time, scheme and reach."""

from __future__ import annotations

import gzip
import time
from threading import Event

import numpy as np
import pytest

from oscar_x.media import MediaError, MediaLimits, load_image, load_video
from oscar_x.media.download import is_public

LOCAL = {"allow_urls": True, "allow_private_urls": True}


def answer(body: bytes, status: int = 200, **headers: str):
    def send(request) -> None:
        request.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            if value:
                request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(body)

    return send


def fetched(make, url: str, **limits):
    return np.asarray(load_image(make.part("image", url), MediaLimits(**{**LOCAL, **limits})))


def test_an_address_is_fetched_when_allowed(make, server):
    server.answers["/a.png?size=1"] = answer(make.image())
    assert np.array_equal(fetched(make, f"{server.url}/a.png?size=1"), make.scene())
    server.answers["/a.mp4"] = answer(make.video())
    video = load_video(make.part("video", f"{server.url}/a.mp4"), MediaLimits(**LOCAL), num_frames=2)
    assert len(video.frames) == 2


def test_nothing_is_asked_unless_allowed(make, server):
    with pytest.raises(MediaError, match="allow_urls=True"):
        fetched(make, f"{server.url}/a.png", allow_urls=False)
    assert server.asked == []


def test_private_addresses_need_an_allowance_of_their_own(make, server):
    for host in ("127.0.0.1", "localhost"):
        url = server.url.replace("127.0.0.1", host)
        with pytest.raises(MediaError, match=f"{host} is not a public address.*allow_private_urls=True"):
            fetched(make, f"{url}/a.png", allow_private_urls=False)
    assert server.asked == []


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700:4700::1111", True),
        ("127.0.0.1", False),
        ("10.0.0.1", False),
        ("172.16.3.4", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:8.8.8.8", True),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("2002:7f00:1::", False),
    ],
)
def test_public_addresses_are_told_from_others(address, public):
    assert is_public(address) is public


def test_redirects_are_followed_so_far(make, server):
    server.answers["/a"] = answer(b"", 302, Location="/b")
    server.answers["/b"] = answer(b"", 307, Location=f"{server.url}/c")
    server.answers["/c"] = answer(make.image())
    assert np.array_equal(fetched(make, f"{server.url}/a"), make.scene())
    server.answers["/loop"] = answer(b"", 301, Location="/loop")
    with pytest.raises(MediaError, match="more than 5 redirects"):
        fetched(make, f"{server.url}/loop")


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://localhost/a", "data:image/png;base64,AA=="])
def test_redirects_to_other_schemes_are_refused(make, server, target):
    server.answers["/a"] = answer(b"", 302, Location=target)
    with pytest.raises(MediaError, match="only http and https are followed"):
        fetched(make, f"{server.url}/a")


def test_the_size_is_limited_by_what_is_announced_and_by_what_comes(make, server):
    server.answers["/announced"] = answer(bytes(1000))
    server.answers["/silent"] = answer(bytes(200_000), Content_Length="")
    with pytest.raises(MediaError, match="1000 bytes are announced; max_bytes=999"):
        fetched(make, f"{server.url}/announced", max_bytes=999)
    with pytest.raises(MediaError, match="more than max_bytes=999 bytes are sent"):
        fetched(make, f"{server.url}/silent", max_bytes=999)


def test_an_answer_that_is_cut_off_is_refused(make, server):
    data = make.image()
    server.answers["/a"] = answer(data[:-100], Content_Length=str(len(data)))
    with pytest.raises(MediaError, match=rf"{len(data)} bytes were announced, {len(data) - 100} came"):
        fetched(make, f"{server.url}/a")


@pytest.mark.parametrize("stage", ["nothing", "headers", "body", "endless body"])
def test_time_is_limited_whatever_the_server_waits_with(make, server, stage):
    """A byte now and then keeps a socket's own timeout from ever passing."""
    over = Event()

    def drip(request) -> None:
        if stage == "headers":
            request.wfile.write(b"HTTP/1.0 200 OK\r\nX-Slow: ")
        elif stage != "nothing":
            request.send_response(200)
            if stage == "body":
                request.send_header("Content-Length", "100000")
            request.end_headers()
        while not over.wait(0.05):
            if stage != "nothing":
                request.wfile.write(b"x")

    server.answers["/slow"] = drip
    begun = time.monotonic()
    try:
        with pytest.raises(MediaError, match=r"no complete answer within url_timeout=0\.4 seconds|timed out"):
            fetched(make, f"{server.url}/slow", url_timeout=0.4)
    finally:
        over.set()
    assert time.monotonic() - begun < 3


def test_other_answers_are_refused(make, server):
    server.answers["/none"] = answer(b"gone", 404)
    server.answers["/packed"] = answer(gzip.compress(make.image()), Content_Encoding="gzip")
    server.answers["/empty"] = answer(b"")
    server.answers["/page"] = answer(b"<html>" * 100)
    for path, says in (("none", "404"), ("packed", "compressed"), ("empty", "is empty"), ("page", "no image")):
        with pytest.raises(MediaError, match=says) as caught:
            fetched(make, f"{server.url}/{path}")
        assert str(caught.value).startswith("messages[1].content[0] (image): ")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/a", "http://[::1/a", "http://a:b/c", "http://", "http://a b/c"])
def test_addresses_that_lead_nowhere_are_refused(make, url):
    with pytest.raises(MediaError, match=r"^messages\[1\]\.content\[0\] \(image\): cannot be fetched"):
        fetched(make, url, url_timeout=5)
