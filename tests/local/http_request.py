"""Reads one HTTP/1.1 request (RFC 9112) and refuses malformed ones; never guesses where a body ends."""

import re
from dataclasses import dataclass
from io import BufferedReader
from urllib.parse import unquote

# API Gateway's quotas for the head and the body of a request.
MAX_HEAD_BYTES = 10_240
MAX_BODY_BYTES = 10 * 1024 * 1024

_MAX_CHUNK_LINE_BYTES = 1024
# The first byte that a client sends to an https:// address.
_TLS_HANDSHAKE = b"\x16"

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e\x80-\xff]+) (HTTP/([0-9])\.[0-9])")
# Control characters other than line breaks are left to the functions, which refuse them where they matter.
_HEADER = re.compile(rb"(" + _TOKEN + rb"):([^\r]*)")
_FOLDED = re.compile(rb"[ \t]([^\r]*)")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
_SERVER = re.compile(r"https?://[^/?]*", re.IGNORECASE)


class BadRequestError(Exception):
    """The request is malformed, incomplete or too large; the text is the sentence for the caller.

    Attributes
    ----------
    status
        Of the response.
    """

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True)
class Head:
    """Request line and headers.

    Attributes
    ----------
    method, target, version
        As sent; the target is a path with an optional query.
    headers
        By name in lower case; values of a header that was sent more than once are joined by commas.
    """

    method: str
    target: str
    version: str
    headers: dict[str, str]

    @property
    def path(self) -> str:
        """The path, decoded."""
        return unquote(self.target.partition("?")[0])

    @property
    def query(self) -> str:
        """The query string, as sent."""
        return self.target.partition("?")[2]

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for a 100 before it sends the body."""
        return self.version != "HTTP/1.0" and self.headers.get("expect", "").lower() == "100-continue"


def read_head(stream: BufferedReader) -> Head | None:
    """Read request line and headers; None if the client sends nothing, as browsers that connect in advance.

    Raises
    ------
    BadRequestError
        They are malformed, incomplete or too long.
    """
    try:
        first = stream.peek(1)
    except TimeoutError:
        return None
    if not first:
        return None
    if first.startswith(_TLS_HANDSHAKE):
        raise BadRequestError(400, "This port speaks http://, not https://")
    line = _line(stream, MAX_HEAD_BYTES, BadRequestError(414, f"The request line may have {MAX_HEAD_BYTES} bytes"))
    match = _REQUEST_LINE.fullmatch(line)
    if not match:
        raise BadRequestError(400, "The request line is not 'METHOD /path HTTP/1.1'")
    method, target, version, major = (group.decode("latin-1") for group in match.groups())
    if major != "1":
        raise BadRequestError(505, "Only HTTP/1.1 and HTTP/1.0 are served")
    headers = _headers(stream, MAX_HEAD_BYTES - len(line))
    if "," in headers.get("host", "") or ("host" not in headers and version != "HTTP/1.0"):
        raise BadRequestError(400, "Header 'Host' must be sent once")
    return Head(method, _path(target), version, headers)


def read_body(stream: BufferedReader, headers: dict[str, str]) -> bytes:
    """Read the body that the headers announce.

    Raises
    ------
    BadRequestError
        It is malformed, incomplete or too long, or the headers contradict each other.
    """
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is not None and length is not None:
        raise BadRequestError(400, "The headers 'Content-Length' and 'Transfer-Encoding' exclude each other")
    if coding is not None:
        if coding.lower() != "chunked":
            raise BadRequestError(501, "Header 'Transfer-Encoding' must be chunked")
        return _chunks(stream)
    if length is None:
        return b""
    if not (length.isascii() and length.isdigit()):
        raise BadRequestError(400, "Header 'Content-Length' must be a number of bytes, sent once")
    # The digits first: Python refuses to convert thousands of them.
    if len(length) > len(str(MAX_BODY_BYTES)) or int(length) > MAX_BODY_BYTES:
        raise _too_large()
    body = stream.read(int(length))
    if len(body) < int(length):
        raise BadRequestError(400, f"The body ends after {len(body)} of {length} bytes")
    return body


def _path(target: str) -> str:
    """The target as a path; a client that takes the server for a proxy sends it with scheme and host."""
    if absolute := _SERVER.match(target):
        target = target[absolute.end() :]
        target = target if target.startswith("/") else f"/{target}"
    if not target.startswith("/") or "#" in target:
        raise BadRequestError(400, "The request target must be a path that begins with a slash, without a fragment")
    return target


def _headers(stream: BufferedReader, limit: int) -> dict[str, str]:
    headers: dict[str, str] = {}
    name = ""
    too_long = BadRequestError(431, f"Request line and headers may have {MAX_HEAD_BYTES} bytes in all")
    while line := _line(stream, limit, too_long):
        limit -= len(line)
        if name and (folded := _FOLDED.fullmatch(line)):
            headers[name] += f" {_value(folded[1])}"
            continue
        match = _HEADER.fullmatch(line)
        if not match:
            raise BadRequestError(400, "A header is not 'Name: value'")
        name, value = match[1].decode().lower(), _value(match[2])
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


def _value(raw: bytes) -> str:
    return raw.strip(b" \t").decode("latin-1")


def _chunks(stream: BufferedReader) -> bytes:
    chunks: list[bytes] = []
    left = MAX_BODY_BYTES
    while True:
        match = _CHUNK_SIZE.fullmatch(_line(stream, _MAX_CHUNK_LINE_BYTES, _malformed()))
        if not match:
            raise _malformed()
        size = int(match[1], 16)
        if size > left:
            raise _too_large()
        if size == 0:
            # Trailers are read and dropped.
            _headers(stream, MAX_HEAD_BYTES)
            return b"".join(chunks)
        left -= size
        chunks.append(stream.read(size))
        if _line(stream, len(b"\r\n"), _malformed()):
            raise _malformed()


def _line(stream: BufferedReader, limit: int, too_long: BadRequestError) -> bytes:
    """Read a line of at most so many bytes and return it without its end."""
    line = stream.readline(limit + 1)
    if len(line) > limit:
        raise too_long
    if not line.endswith(b"\n"):
        raise BadRequestError(400, "The request is incomplete: the connection was closed before its end")
    return line.removesuffix(b"\n").removesuffix(b"\r")


def _malformed() -> BadRequestError:
    return BadRequestError(400, "The chunked body is malformed")


def _too_large() -> BadRequestError:
    return BadRequestError(413, f"The body is larger than {MAX_BODY_BYTES} bytes")
