"""Listens for the page's visitors."""

from __future__ import annotations

import socket
from typing import Any

import uvicorn

from .app import LOCAL, create_app
from .studio import Studio


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Args:
        port: 0 takes a free one.

    Raises:
        OSError: the address is not of this machine, or in use.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError:
        listening.close()
        raise
    return listening


def make_server(studio: Studio, host: str) -> uvicorn.Server:
    """A server that does not run yet; any name is accepted where it listens beyond this machine."""
    local = host in ("127.0.0.1", "localhost", "::1")
    config: dict[str, Any] = {"log_level": "warning", "timeout_graceful_shutdown": 2}
    return uvicorn.Server(uvicorn.Config(create_app(studio, LOCAL if local else ["*"]), **config))


def serve(studio: Studio, host: str, listening: socket.socket) -> None:
    """Serve the page until interrupted."""
    make_server(studio, host).run(sockets=[listening])
