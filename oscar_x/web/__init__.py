"""The demo's page: upload a clip, ask, see a full and a compressed cache answer beside each other."""

from .app import create_app
from .server import serve

__all__ = ["create_app", "serve"]
