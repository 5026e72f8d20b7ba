"""One HTTP/1.1 connection to an AWS service: kept open between requests, and bounded in time and size.

It does what the calls of :mod:`scoring.aws` need and no more: one request at a time, and responses that announce their
length.
"""

import functools
import os
import socket
import ssl
import time
from urllib.parse import urlsplit

# The roots of Amazon Trust Services, to which the certificates of the endpoints at amazonaws.com lead. At a cold start,
# reading them takes a twentieth of the time that the hundred and more roots of the system take.
_AMAZON_ROOTS = os.path.join(os.path.dirname(__file__), "amazon-roots.pem")  # noqa: PTH118, PTH120  as in scoring.rules

# DynamoDB closes a connection that is idle for about a minute. An environment that was frozen does not notice.
MAX_IDLE_SECONDS = 50
MAX_HEAD_BYTES = 65_536

_MAX_LENGTH_DIGITS = 12
_HEAD_END = b"\r\n\r\n"
_CHUNK_BYTES = 65_536


class ResponseError(OSError):
    """The response is not HTTP/1.1 with an announced length, or is too long."""


class Connection:
    """An HTTP/1.1 connection to one endpoint, for one request at a time.

    Parameters
    ----------
    url
        ``https://host`` or, for an emulator, ``http://host:port``.
    ca_bundle
        File of trusted authorities. If empty: Amazon's own for amazonaws.com, the system's for any other domain and for
        the regions of AWS GovCloud (US).
    connect_seconds
        Time limit for connecting, whatever the number of addresses, and again for the TLS handshake.
    read_seconds
        Time limit for a whole exchange, from the first byte sent to the last byte received.
    max_body_bytes
        Size limit for the body of a response.

    Attributes
    ----------
    host
        The value of the header ``Host``.
    """

    def __init__(
        self, url: str, ca_bundle: str, connect_seconds: float, read_seconds: float, max_body_bytes: int
    ) -> None:
        parts = urlsplit(url)
        name = parts.hostname or ""
        self.host = parts.netloc
        self._address = name, parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = _trust(ca_bundle or _authorities(name)) if parts.scheme == "https" else None
        self._connect_seconds = connect_seconds
        self._read_seconds = read_seconds
        self._max_body_bytes = max_body_bytes
        self._socket: socket.socket | None = None
        self._last_used = 0.0

    def open(self) -> socket.socket:
        """Connect, unless a connection that can still be used is open.

        Raises
        ------
        OSError
            The host refused, did not respond in time, or has no trusted certificate.
        """
        if self._socket is not None and (self._is_stale() or _is_over(self._socket)):
            self.close()
        if self._socket is None:
            opened = _connect(self._address, self._connect_seconds)
            # Without it, the end of a request may wait up to 40 ms for the acknowledgement of its beginning.
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls:
                opened.settimeout(self._connect_seconds)
                opened = self._tls.wrap_socket(opened, server_hostname=self._address[0])
            self._socket = opened
            self._last_used = time.time()
        return self._socket

    def exchange(self, request: bytes) -> tuple[int, bytes]:
        """Send a whole request and return the status and the body of its response.

        Raises
        ------
        OSError
            No complete response in time. The request may still have been applied.
        """
        opened = self.open()
        end = time.monotonic() + self._read_seconds
        try:
            opened.settimeout(self._read_seconds)
            opened.sendall(request)
            status, body, closes = _receive(opened, end, self._max_body_bytes)
        except BaseException:
            self.close()  # the rest of this response must not be taken for the next one
            raise
        self._last_used = time.time()
        if closes:
            self.close()
        return status, body

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _is_stale(self) -> bool:
        """Return whether the connection was idle for too long.

        By the wall clock, since the monotonic clock may stand still while an environment is frozen. A wall clock that
        was set back says nothing, so the connection counts as stale.
        """
        return not 0 <= time.time() - self._last_used < MAX_IDLE_SECONDS


def _authorities(host: str) -> str:
    """Return the file of the authorities to trust for a host; empty for those of the system."""
    # Amazon Trust Services is documented for the commercial regions only.
    return _AMAZON_ROOTS if host.endswith(".amazonaws.com") and ".us-gov-" not in host else ""


def _connect(address: tuple[str, int], seconds: float) -> socket.socket:
    """Connect to the first address of a host that accepts, all of them within one time limit.

    Each address gets an equal share of the time that is left, so that a silent one does not use up that of the others.
    The limit does not cover the resolution of the name, which no timeout of Python's bounds.
    """
    found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
    end = time.monotonic() + seconds
    failure: OSError = TimeoutError("timed out")
    for index, (family, kind, protocol, _, target) in enumerate(found):
        candidate = None
        try:
            candidate = socket.socket(family, kind, protocol)
            candidate.settimeout(_left(end) / (len(found) - index))
            candidate.connect(target)
        except OSError as error:  # also of a family that this machine does not support
            failure = error
            if candidate:
                candidate.close()
        else:
            return candidate
    raise failure


def _receive(connection: socket.socket, end: float, max_body_bytes: int) -> tuple[int, bytes, bool]:
    """Return status and body of a response, and whether the connection closes after it."""
    received = bytearray()
    while (head_end := received.find(_HEAD_END)) < 0:
        if len(received) > MAX_HEAD_BYTES:
            raise ResponseError("The head of the response is too long")
        received += _chunk(connection, end)
    status, length, closes = _parse(bytes(received[:head_end]))
    if length > max_body_bytes:
        raise ResponseError(f"The response announces more than {max_body_bytes} bytes")
    body = received[head_end + len(_HEAD_END) :]
    while len(body) < length:
        body += _chunk(connection, end)
    if len(body) > length:
        raise ResponseError("The response is longer than announced")
    return status, bytes(body), closes


def _chunk(connection: socket.socket, end: float) -> bytes:
    """Return the next bytes of a response. The time limit is that of the whole response, however small the chunks."""
    connection.settimeout(_left(end))
    chunk = connection.recv(_CHUNK_BYTES)
    if not chunk:
        raise ConnectionResetError("The connection was closed before the response was complete")
    return chunk


def _left(end: float) -> float:
    """Return the seconds until a time on the clock of :func:`time.monotonic`.

    Raises
    ------
    TimeoutError
        The time is up.
    """
    seconds = end - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("timed out")
    return seconds


def _parse(head: bytes) -> tuple[int, int, bool]:
    """Return status, length of the body, and whether the connection closes after it.

    AWS announces the length of every response to a call. A response without a length is an error.
    """
    first, *lines = head.split(b"\r\n")
    version, _, rest = first.partition(b" ")
    status = rest.partition(b" ")[0]
    if version != b"HTTP/1.1" or len(status) != 3 or not status.isdigit():
        raise ResponseError(f"The response has no status of HTTP/1.1: {first[:20]!r}")
    length = -1
    closes = False
    for line in lines:
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip()
        if name == b"content-length":
            # Python does not convert thousands of digits.
            if length >= 0 or not value.isdigit() or len(value) > _MAX_LENGTH_DIGITS:
                raise ResponseError(f"The response has no single length: {value[:20]!r}")
            length = int(value)
        elif name == b"transfer-encoding":
            raise ResponseError("The response has a transfer encoding in place of a length")
        elif name == b"connection":
            closes = value.lower() == b"close"
    if length < 0:
        raise ResponseError("The response has no length")
    return int(status), length, closes


@functools.cache
def _trust(authorities: str) -> ssl.SSLContext:
    """Return a context that trusts the authorities in a file, or those of the system; made once for each file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if authorities:
        context.load_verify_locations(authorities)
    else:
        context.load_default_certs()
    return context


def _is_over(connection: socket.socket) -> bool:
    """Return whether the other side has closed a connection, or sent something unasked; nothing may be unread."""
    connection.settimeout(0)
    try:
        connection.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True
    return True
