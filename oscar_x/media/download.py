"""A bounded download over http or https.

For a server that fetches addresses others name, three things matter beside size and time: no scheme but these two, also
after a redirect; no address inside the server's own network, which is checked on the connection itself, so that a name
that resolves differently the second time gains nothing; and no proxy or credentials taken from the environment.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import urljoin, urlsplit

from .limits import MediaLimits

REDIRECTS = 5
_CHUNK = 1 << 16


class _PublicOnly(HTTPConnection):
    """Hangs up before a byte is sent when the other end is not public and private addresses are not allowed."""

    allow_private = False

    def connect(self) -> None:
        super().connect()
        if not self.allow_private and not is_public(self.sock.getpeername()[0]):
            self.close()
            raise ValueError(f"{self.host} is not a public address; MediaLimits(allow_private_urls=True) allows it")


class _PublicOnlyTLS(HTTPSConnection, _PublicOnly):
    """The check comes before the handshake: HTTPSConnection.connect calls the one above first."""


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    inner = getattr(parsed, "ipv4_mapped", None) or getattr(parsed, "sixtofour", None)
    return (inner or parsed).is_global and not parsed.is_multicast


def download(url: str, limits: MediaLimits) -> bytes:
    """The body of a GET request; redirects are followed.

    Raises:
        OSError: no connection, no answer in time, or an answer cut off.
        ValueError: an address that is not allowed, a status other than 200, or more bytes than allowed.
    """
    deadline = _Deadline(limits.url_timeout)
    try:
        for _ in range(REDIRECTS + 1):
            connection = _connection(url, limits)
            try:
                connection.connect()
                deadline.watch(connection.sock)
                response = _get(connection, url)
                if response.status not in (301, 302, 303, 307, 308):
                    body = _body(response, limits)
                    if deadline.passed:  # without an announced length, being shut down looks like the end
                        raise TimeoutError
                    return body
                url = urljoin(url, response.getheader("Location") or "")
            finally:
                connection.close()
        raise ValueError(f"more than {REDIRECTS} redirects")
    except (OSError, ValueError, HTTPException) as error:
        if deadline.passed:  # a connection that was shut down shows as any of these
            raise TimeoutError(f"no complete answer within url_timeout={limits.url_timeout} seconds") from None
        if isinstance(error, HTTPException):
            raise OSError(f"{type(error).__name__}: {error}") from error
        raise
    finally:
        deadline.cancel()


class _Deadline:
    """Shuts the connection in use down when time is up, whatever it is waiting for.

    It holds the socket itself: the http module forgets it once the headers have come.
    """

    def __init__(self, seconds: float) -> None:
        self.passed = False
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True
        self._timer.start()

    def watch(self, used: socket.socket) -> None:
        self._socket = used
        if self.passed:
            raise TimeoutError

    def cancel(self) -> None:
        self._timer.cancel()

    def _end(self) -> None:
        self.passed = True
        if self._socket is not None:
            try:
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # closed already: the download is over


def _connection(url: str, limits: MediaLimits) -> HTTPConnection:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"redirected to {parts.scheme or 'no'}://, only http and https are followed")
    connection: _PublicOnly
    if parts.scheme == "https":
        context = ssl.create_default_context()
        connection = _PublicOnlyTLS(parts.hostname, parts.port, timeout=limits.url_timeout, context=context)
    else:
        connection = _PublicOnly(parts.hostname, parts.port, timeout=limits.url_timeout)
    connection.allow_private = limits.allow_private_urls
    return connection


def _get(connection: HTTPConnection, url: str) -> HTTPResponse:
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection.request("GET", target, headers={"Accept-Encoding": "identity", "User-Agent": "oscar-x"})
    return connection.getresponse()


def _body(response: HTTPResponse, limits: MediaLimits) -> bytes:
    if response.status != 200:
        raise ValueError(f"the server answers {response.status} {response.reason}")
    if response.getheader("Content-Encoding", "identity").lower() != "identity":
        raise ValueError("the server sends a compressed body that was not asked for")
    announced = response.length
    if announced is not None and announced > limits.max_bytes:
        raise ValueError(f"{announced} bytes are announced; max_bytes={limits.max_bytes} are allowed")
    body = bytearray()
    while chunk := response.read1(_CHUNK):
        body += chunk
        if len(body) > limits.max_bytes:
            raise ValueError(f"more than max_bytes={limits.max_bytes} bytes are sent")
    if announced is not None and len(body) != announced:
        raise OSError(f"{announced} bytes were announced, {len(body)} came")
    return bytes(body)
