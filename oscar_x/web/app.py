"""The page's addresses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ..cli.demo_pictures import FULL_COLOR, PARTS
from ..errors import MediaError, first_line
from ..evals.tni_report.style import MODALITY_COLORS
from .studio import HeldClip, Studio

HERE = Path(__file__).parent
FILES = {"/": "page.html", "/page.css": "page.css", "/page.js": "page.js"}
HEADERS = {
    # the page runs its own script and shows its own pictures, and nothing else
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; media-src blob:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
# times what is allowed, of a body that is too large
READ_AT_MOST = 16
LOCAL = ["127.0.0.1", "localhost", "[::1]"]


class Refused(Exception):
    """Ends a request with a status and a reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def create_app(studio: Studio, hosts: list[str] | None = None) -> Starlette:
    """The page as an ASGI application.

    Args:
        hosts: names under which it may be asked for; others are refused, so that no foreign page can reach it through
            a name of its own. None: this machine's loopback names.
    """
    pages = Pages(studio)
    routes = [Route(path, _file(name)) for path, name in FILES.items()]
    routes += [
        Route("/model", pages.model),
        Route("/clips", pages.upload, methods=["POST"]),
        Route("/example", pages.example, methods=["POST"]),
        Route("/clips/{clip}/answers", pages.answers, methods=["POST"]),
        Route("/clips/{clip}/tni.png", pages.tni),
    ]
    handlers: dict[Any, Any] = {Refused: _refused, MediaError: _wrong, ValueError: _wrong}
    trusted = Middleware(TrustedHostMiddleware, allowed_hosts=LOCAL if hosts is None else hosts)
    return Starlette(routes=routes, middleware=[trusted], exception_handlers=handlers)


class Pages:
    """What the addresses do."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio

    async def model(self, request: Request) -> Response:
        """Who answers."""
        studio, config = self.studio, self.studio.model.config
        limits = {"max_bytes": studio.limits.media.max_bytes, "max_seconds": studio.limits.media.max_video_seconds}
        colors = {"modalities": MODALITY_COLORS, "parts": PARTS, "full": FULL_COLOR}
        about = {"name": studio.name, "bits": config.key_bits, "reads": studio.reads(), "colors": colors}
        return _json({**about, **limits})

    async def upload(self, request: Request) -> Response:
        """The body is a file, its kind the content type's."""
        data = await _body(request, self.studio.limits.media.max_bytes)
        _same_origin(request)
        kind = request.headers.get("content-type", "").split("/")[0]
        return _json(await run_in_threadpool(self.studio.upload, data, kind))

    async def example(self, request: Request) -> Response:
        """The project's own clip."""
        _same_origin(request)
        return _json(await run_in_threadpool(self.studio.example))

    async def answers(self, request: Request) -> Response:
        """A line of JSON for every piece of either answer."""
        asked = (await _body(request, 8 * self.studio.limits.question)).decode("utf-8", "replace")
        _same_origin(request)
        clip = self._clip(request)
        answer = self.studio.answer(clip, asked)
        return StreamingResponse(_lines(answer), media_type="application/x-ndjson", headers=HEADERS)

    async def tni(self, request: Request) -> Response:
        """The picture of a clip's key norms."""
        picture = await run_in_threadpool(self.studio.tni, self._clip(request))
        return Response(picture, media_type="image/png", headers=HEADERS)

    def _clip(self, request: Request) -> HeldClip:
        try:
            return self.studio.find(request.path_params["clip"])
        except KeyError:
            raise Refused(404, "this clip was forgotten; upload it again") from None


def _file(name: str) -> Any:
    async def send(request: Request) -> Response:
        return FileResponse(HERE / name, headers=HEADERS)

    return send


def _json(content: Any, status: int = 200) -> Response:
    return JSONResponse(content, status, headers=HEADERS)


def _same_origin(request: Request) -> None:
    """Refuse what another site makes a browser send. Programs that are no browsers do not say where they come from."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Refused(403, "only this page may ask")


async def _body(request: Request, most: int) -> bytes:
    """The request's body, never more of it than is allowed; to be read before a request is refused for another reason.

    Who sends too much reads the answer only after sending: some more is read and dropped before the connection is
    closed, which would otherwise end the sending with an error that does not say why.
    """
    data, size = bytearray(), 0
    async for piece in request.stream():
        size += len(piece)
        if size <= most:
            data += piece
        elif size > READ_AT_MOST * most:
            break
    if size > most:
        said = request.headers.get("content-length", f"{size} or more")
        raise Refused(413, f"{said} bytes; at most {most} are allowed")
    return bytes(data)


def _lines(answer: Iterator[dict[str, Any]]) -> Iterator[str]:
    try:
        for piece in answer:
            yield json.dumps(piece) + "\n"
    except (ValueError, RuntimeError) as error:  # the answer has begun: its status cannot change any more
        yield json.dumps({"error": first_line(error)}) + "\n"


async def _refused(request: Request, error: Exception) -> Response:
    return _json({"error": str(error)}, getattr(error, "status", 400))


async def _wrong(request: Request, error: Exception) -> Response:
    return _json({"error": first_line(error)}, 400)
