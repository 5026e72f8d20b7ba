"""One connection to an AWS service: opened ahead, kept open, opened anew where the other side has closed it."""

import functools
import os
import socket
import ssl
import time
from urllib.parse import urlsplit

# The roots of Amazon Trust Services, to which the certificates of all endpoints at amazonaws.com lead. At a cold start,
# reading them takes a twentieth of what the hundred and more of a system's bundle take.
_AMAZON_ROOTS = os.path.join(os.path.dirname(__file__), "amazon-roots.pem")  # noqa: PTH118, PTH120  as in scoring.rules

_HEAD_END = b"\r\n\r\n"
_LONGEST_HEAD = 65_536
_PIECE = 65_536
# 0 would mean not to wait at all, which is another error.
_SHORTEST_WAIT = 0.001


class ReplyError(OSError):
    """What was answered is no answer of HTTP/1.1 whose length is announced."""


class Connection:
    """HTTP/1.1 to one endpoint, one request at a time.

    Parameters
    ----------
    url
        ``https://host`` or, for an emulator, ``http://host:port``.
    ca_bundle
        File of the authorities that are trusted; empty for Amazon's own, outside of amazonaws.com the system's.
    connect_seconds, read_seconds
        How long to wait for a connection, and again for its encryption; how long for a whole exchange.

    Attributes
    ----------
    host
        What the header ``Host`` has to say.
    """

    def __init__(self, url: str, ca_bundle: str, connect_seconds: float, read_seconds: float) -> None:
        parts = urlsplit(url)
        name = parts.hostname or ""
        self.host = parts.netloc
        self._address = name, parts.port or (443 if parts.scheme == "https" else 80)
        authorities = ca_bundle or (_AMAZON_ROOTS if name.endswith(".amazonaws.com") else "")
        self._tls = _trust(authorities) if parts.scheme == "https" else None
        self._connect_seconds = connect_seconds
        self._read_seconds = read_seconds
        self._socket: socket.socket | None = None

    def open(self) -> socket.socket:
        """Connect, where that is not done already.

        Raises
        ------
        OSError
            Nobody answers there, or not in time, or not with a certificate that is trusted.
        """
        if self._socket is not None and _is_over(self._socket):
            self.close()
        if self._socket is None:
            opened = socket.create_connection(self._address, self._connect_seconds)
            # Else the end of a request may wait for the acknowledgement of its beginning, for 40 ms.
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls:
                opened = self._tls.wrap_socket(opened, server_hostname=self._address[0])
            self._socket = opened
        return self._socket

    def exchange(self, request: bytes) -> tuple[int, bytes]:
        """Send a whole request and read the answer to it: status and body.

        Raises
        ------
        OSError
            No answer in time, or none that is complete. The request may have been obeyed all the same.
        """
        opened = self.open()
        end = time.monotonic() + self._read_seconds
        try:
            opened.settimeout(self._read_seconds)
            opened.sendall(request)
            status, body, closes = _read(opened, end)
        except BaseException:
            self.close()  # what still comes must not be taken for the next answer
            raise
        if closes:
            self.close()
        return status, body

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _read(connection: socket.socket, end: float) -> tuple[int, bytes, bool]:
    """Status and body of an answer, and whether the connection is closed after it."""
    answer = b""
    while _HEAD_END not in answer:
        if len(answer) > _LONGEST_HEAD:
            raise ReplyError("The head of the answer does not end")
        answer += _piece(connection, end)
    head, _, body = answer.partition(_HEAD_END)
    status, length, closes = _parse(head)
    while len(body) < length:
        body += _piece(connection, end)
    if len(body) > length:
        raise ReplyError("More was answered than was announced")
    return status, body, closes


def _piece(connection: socket.socket, end: float) -> bytes:
    """What has come of an answer; however small its pieces are, together they take no longer than until then."""
    connection.settimeout(max(end - time.monotonic(), _SHORTEST_WAIT))
    piece = connection.recv(_PIECE)
    if not piece:
        raise ConnectionResetError("The connection was closed before the answer was complete")
    return piece


def _parse(head: bytes) -> tuple[int, int, bool]:
    """Status, length of the body, and whether the connection is closed then, of an answer of HTTP/1.1.

    AWS announces the length of every answer to a call; what does not is taken for no answer.
    """
    first, *lines = head.split(b"\r\n")
    headers = {name.lower(): value.strip() for name, _, value in [line.partition(b":") for line in lines]}
    try:
        version, status, *_ = first.split(b" ", 2)
        if version != b"HTTP/1.1":
            raise ReplyError(f"The answer is not of HTTP/1.1: {first[:20]!r}")
        return int(status), int(headers[b"content-length"]), headers.get(b"connection", b"").lower() == b"close"
    except (KeyError, ValueError):
        raise ReplyError("The answer has no status or no length") from None


@functools.cache
def _trust(authorities: str) -> ssl.SSLContext:
    """Who is trusted: the authorities in a file, or, where it is empty, those of the system. Read once for all."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if authorities:
        context.load_verify_locations(authorities)
    else:
        context.load_default_certs()
    return context


def _is_over(connection: socket.socket) -> bool:
    """Whether the other side has closed a connection, or said what it was not asked; nothing may be unread."""
    connection.settimeout(0)
    try:
        connection.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True
    return True
