"""A persistent HTTP/1.1 connection to an AWS service, with limits on time and size.

It supports what :mod:`scoring.aws.client` needs: one request at a time, and responses with ``Content-Length``.
"""

import functools
import os
import socket
import ssl
import time
from urllib.parse import urlsplit

# The roots of Amazon Trust Services, which issues the certificates of the endpoints at amazonaws.com. Loading these few
# at a cold start takes a twentieth of the time of loading the system's hundred and more.
_AMAZON_ROOTS = os.path.join(os.path.dirname(__file__), "amazon-roots.pem")  # noqa: PTH118, PTH120  as in scoring.scorers

# DynamoDB closes connections that are idle for about a minute. A frozen environment does not notice.
MAX_IDLE_SECONDS = 50
MAX_HEAD_BYTES = 65_536

_MAX_LENGTH_DIGITS = 12
_HEAD_END = b"\r\n\r\n"
_CHUNK_BYTES = 65_536


class ResponseError(OSError):
    """The response is not HTTP/1.1, has no ``Content-Length``, or is too long."""


class Connection:
    """A connection to one endpoint, for one request at a time.

    Parameters
    ----------
    url
        ``https://host`` or, for an emulator, ``http://host:port``.
    ca_bundle
        File of trusted certificate authorities. If empty: Amazon's own for amazonaws.com, the system's for any other
        domain and for AWS GovCloud (US).
    connect_seconds
        Time limit for connecting, shared by all addresses, and again for the TLS handshake.
    read_seconds
        Time limit for a whole exchange, from the first byte sent to the last one received.
    max_body_bytes
        Maximum size of a response body.

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
        """Connect, unless an open connection can be reused.

        Raises
        ------
        OSError
            The host refused, did not respond in time, or has no trusted certificate.
        """
        if self._socket is not None and (self._is_idle_too_long() or _is_closed(self._socket)):
            self.close()
        if self._socket is None:
            opened = _connect(self._address, self._connect_seconds)
            # Otherwise the end of a request may wait up to 40 ms for the acknowledgement of its beginning.
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
            self.close()  # or the rest of this response would be read as the next one
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

    def _is_idle_too_long(self) -> bool:
        """Return whether the server may have closed the connection by now.

        The monotonic clock may stop while an environment is frozen, so this reads the wall clock. If that was set back,
        the idle time is unknown and counts as too long.
        """
        return not 0 <= time.time() - self._last_used < MAX_IDLE_SECONDS


def _authorities(host: str) -> str:
    """Return the file of authorities to trust for a host; empty for the system's."""
    # AWS documents Amazon Trust Services for the commercial regions only.
    return _AMAZON_ROOTS if host.endswith(".amazonaws.com") and ".us-gov-" not in host else ""


def _connect(address: tuple[str, int], seconds: float) -> socket.socket:
    """Connect to the first address of a host that accepts.

    All addresses share one time limit. Each gets an equal part of the time that is left, so that a silent one does not
    use it up. Name resolution comes on top: Python has no timeout for it.
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
        except OSError as error:  # raised for unsupported address families, too
            failure = error
            if candidate:
                candidate.close()
        else:
            return candidate
    raise failure


def _receive(connection: socket.socket, end: float, max_body_bytes: int) -> tuple[int, bytes, bool]:
    """Return status and body of a response, and whether the server closes the connection after it."""
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
    """Return the next bytes of a response, which as a whole must end in time."""
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
    """Return status, length of the body, and whether the server closes the connection after it.

    Responses of AWS always have a ``Content-Length``; any other is an error.
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
            # Python refuses to convert thousands of digits.
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
    """Return a TLS context that trusts the authorities in a file, or the system's if it is empty."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if authorities:
        context.load_verify_locations(authorities)
    else:
        context.load_default_certs()
    return context


def _is_closed(connection: socket.socket) -> bool:
    """Return whether the server closed an idle connection, or sent something unexpected on it."""
    connection.settimeout(0)
    try:
        connection.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True
    return True
