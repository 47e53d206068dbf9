"""``oscar-x demo --web``: the demo as a page in the browser."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from oscar_x.cli.options import find_model
from oscar_x.cli.output import open_console, working
from oscar_x.errors import MissingPackageError

NEEDED = ("starlette", "uvicorn")


def demo_web(
    model: str,
    *,
    host: str,
    port: int,
    preset: str,
    kv_bits: int,
    profile: str | None,
    online: bool,
    max_new_tokens: int,
    device: str | None,
) -> None:
    """Serve the page until Ctrl-C.

    Args:
        host: the address that is listened to; other machines reach the page only where it is not a loopback one.
        port: 0 takes a free one.

    Raises:
        MissingPackageError: the packages of the extra "web" are not installed.
        OSError: the address cannot be listened to.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise MissingPackageError(f"--web needs {' and '.join(missing)}; install with: pip install {' '.join(missing)}")
    console = open_console(None)
    path = find_model(model)
    from oscar_x.web.server import listen

    listening = listen(host, port)
    with working(console, f"Loading {model}"):
        from oscar_x.loading import load
        from oscar_x.web import serve
        from oscar_x.web.limits import WebLimits
        from oscar_x.web.studio import Studio

        loaded = load(path, kv_bits, preset=preset, profile=profile, online=online, device=device)
        studio = Studio(loaded, Path(model).name, replace(WebLimits(), max_new_tokens=max_new_tokens))
    shown = f"[{host}]" if ":" in host else host
    console.print(f"http://{shown}:{listening.getsockname()[1]}/ shows the page; Ctrl-C ends it.", markup=False)
    serve(studio, host, listening)
