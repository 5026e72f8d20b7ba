"""One connection to an AWS service: opened ahead, kept open, opened anew where the other side has closed it."""

import http.client
import io
import os
import socket
import ssl
import time
from typing import Any
from urllib.parse import urlsplit

# The roots of Amazon Trust Services, to which the certificates of all endpoints of AWS lead (but those in China).
# Reading them takes a fraction of what the hundred and more of a system's bundle take at every cold start.
_AMAZON_ROOTS = os.path.join(os.path.dirname(__file__), "amazon-roots.pem")  # noqa: PTH118, PTH120  pathlib costs 3 ms


class Connection:
    """HTTP/1.1 to one endpoint, one request at a time.

    Parameters
    ----------
    url
        ``https://host`` or, for an emulator, ``http://host:port``.
    ca_bundle
        File of the authorities that are trusted; empty for Amazon's own, outside of amazonaws.com the system's.
    connect_seconds, read_seconds
        How long to wait for a connection, and again for its encryption; how long for a request and all of its reply.

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
        self._tls = _trust(name, ca_bundle) if parts.scheme == "https" else None
        self._connect_seconds = connect_seconds
        self._read_seconds = read_seconds
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """Connect, where that is not done already.

        Raises
        ------
        OSError
            Nobody answers there, or not in time, or not with a certificate that is trusted.
        """
        if self._socket is not None:
            if not _is_over(self._socket):
                return
            self.close()
        opened = socket.create_connection(self._address, self._connect_seconds)
        # Else the end of a request may wait for the acknowledgement of its beginning, for 40 ms.
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls:
            opened = self._tls.wrap_socket(opened, server_hostname=self._address[0])
        self._socket = opened

    def exchange(self, request: bytes) -> tuple[int, bytes]:
        """Send a whole request and read the answer to it: status and body.

        Raises
        ------
        OSError, http.client.HTTPException
            No answer, or none that is complete. The request may have been obeyed all the same.
        """
        self.open()
        assert self._socket  # noqa: S101  for the type checker
        reply: Any = _Reply(self._socket, time.monotonic() + self._read_seconds)
        response = http.client.HTTPResponse(reply, method="POST")
        try:
            self._socket.settimeout(self._read_seconds)
            self._socket.sendall(request)
            body = _read(response)
        except BaseException:
            # What still comes must not be taken for the next answer.
            self.close()
            raise
        if response.will_close:
            self.close()
        return response.status, body

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class _Reply(io.RawIOBase):
    """What comes over a connection until a moment, however many pieces it comes in: a socket waits for each anew."""

    def __init__(self, connection: socket.socket, until: float) -> None:
        self._connection = connection
        self._until = until

    def makefile(self, _mode: str) -> io.BufferedReader:
        """As of a socket, of which :class:`http.client.HTTPResponse` asks for no more."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


def _read(response: http.client.HTTPResponse) -> bytes:
    response.begin()
    if response.length is None and not response.chunked:
        raise http.client.IncompleteRead(b"")  # nothing would tell whether it was all
    if response.status < 200:
        raise http.client.UnknownProtocol(f"HTTP {response.status}")  # the answer itself is still to come
    return response.read()


def _trust(name: str, ca_bundle: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca_bundle:
        context.load_verify_locations(ca_bundle)
    elif name.endswith(".amazonaws.com"):
        context.load_verify_locations(_AMAZON_ROOTS)
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
