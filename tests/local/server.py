"""The HTTP server of ``make run``: serves a WSGI application and prints one line per request.

h11 parses requests and serialises responses. The application gets a request when it is complete. Responses to
violations of HTTP are JSON.
"""

import io
import json
import re
import socket
import sys
import time
import traceback
from collections.abc import Iterable
from contextlib import suppress
from email.utils import formatdate
from socketserver import StreamRequestHandler, TCPServer, ThreadingMixIn
from typing import Any
from urllib.parse import unquote

import h11
from werkzeug.wrappers import Response

from tests.local.console import Console

# API Gateway's quotas for the request line with the headers, and for the body
_MAX_HEAD_BYTES = 10_240
_MAX_BODY_BYTES = 10 * 1024 * 1024
# API Gateway, too, drops clients that pause for this long in a request.
_IDLE_SECONDS = 30
# Keep reading for this long after the response: closing a connection with unread bytes can lose the response.
_LINGER_SECONDS = 1
# First byte of a TLS connection
_TLS_HANDSHAKE = b"\x16"
# Precedes the path in requests to a proxy
_SCHEME_AND_HOST = re.compile(r"https?://[^/?]*", re.IGNORECASE)
# Not forwarded by a gateway
_HOP_BY_HOP = frozenset({"connection", "expect", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"})


class Server(ThreadingMixIn, TCPServer):
    """Serves a WSGI application on a listening socket, with a thread per connection."""

    daemon_threads = True

    def __init__(self, listener: socket.socket, application: Any, console: Console) -> None:
        super().__init__(listener.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.application = application
        self.console = console

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print the traceback, unless the client has disconnected."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(StreamRequestHandler):
    """One request per connection."""

    server: Server
    disable_nagle_algorithm = True
    timeout = _IDLE_SECONDS

    def setup(self) -> None:
        super().setup()
        # h11 rejects an incomplete head beyond its limit; the last byte of the quota must complete it.
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD_BYTES - 1)

    def handle(self) -> None:
        start, method, target = time.perf_counter(), "", ""
        try:
            head = self._next_event()
            if isinstance(head, h11.ConnectionClosed):
                return  # browsers connect in advance
            method, target = head.method.decode(), head.target.decode()
            response = Response.from_app(self.server.application, self._environ(head), buffered=True)
        except h11.RemoteProtocolError as error:
            response = _error(error.error_status_hint, _sentence(error))
        except TimeoutError:
            if not (method or self._received):
                return
            response = _error(408, f"The request is incomplete: no data for {_IDLE_SECONDS} seconds")
        except OSError:
            return  # the client has disconnected
        except Exception:  # noqa: BLE001  a bug must not leave the client without a response
            traceback.print_exc()
            response = _error(500, "Internal server error")
        self.server.console.request(
            f"{method} {target}".strip(),
            response.status_code,
            dict(response.headers),
            response.get_data(),
            time.perf_counter() - start,
        )
        with suppress(OSError):
            self._send(response, b"" if method == "HEAD" else response.get_data())
            self._linger()

    @property
    def _received(self) -> bytes:
        """Bytes that are not parsed yet."""
        received: bytes = self._http.trailing_data[0]
        return received

    def _next_event(self) -> Any:
        """Read the next part of the request."""
        while (event := self._http.next_event()) is h11.NEED_DATA:
            # Never buffer more than the quota, as h11 accepts a complete head of any size.
            self._http.receive_data(self.connection.recv(_MAX_HEAD_BYTES - len(self._received)))
            if self._http.their_state is h11.IDLE and self._received.startswith(_TLS_HANDSHAKE):
                raise h11.RemoteProtocolError("This port speaks http://, not https://")
        return event

    def _environ(self, head: h11.Request) -> dict[str, Any]:
        """Read the body and return the WSGI environment of the request."""
        if head.http_version not in {b"1.0", b"1.1"}:
            raise h11.RemoteProtocolError("Only HTTP/1.1 and HTTP/1.0 are supported", error_status_hint=505)
        path, _, query = _without_host(head.target.decode()).partition("?")
        headers = _joined(head.headers)
        body = self._body(headers)
        host, port = self.server.server_address[:2]
        return {
            f"HTTP_{name.upper().replace('-', '_')}": value
            for name, value in headers.items()
            if name not in _HOP_BY_HOP and "_" not in name
        } | {
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            "SERVER_NAME": host,
            "SERVER_PORT": str(port),
            "SERVER_PROTOCOL": f"HTTP/{head.http_version.decode()}",
            "REMOTE_ADDR": self.client_address[0],
            "REQUEST_METHOD": head.method.decode(),
            "SCRIPT_NAME": "",
            # PEP 3333: UTF-8 with each byte as one character
            "PATH_INFO": unquote(path).encode().decode("latin-1"),
            "QUERY_STRING": query,
            "CONTENT_TYPE": headers.get("content-type", ""),
            "CONTENT_LENGTH": str(len(body)) if body else "",
        }

    def _body(self, headers: dict[str, str]) -> bytes:
        too_large = h11.RemoteProtocolError(f"The body is larger than {_MAX_BODY_BYTES} bytes", error_status_hint=413)
        # The content length of a chunked body is ignored.
        if "transfer-encoding" not in headers and int(headers.get("content-length", 0)) > _MAX_BODY_BYTES:
            raise too_large
        if self._http.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
            self.wfile.write(self._http.send(go_on))
        body = bytearray()
        while isinstance(event := self._next_event(), h11.Data):
            body += event.data
            if len(body) > _MAX_BODY_BYTES:
                raise too_large
        return bytes(body)

    def _send(self, response: Response, body: bytes) -> None:
        headers = [*response.headers, ("Date", formatdate(usegmt=True)), ("Connection", "close")]
        head = h11.Response(
            status_code=response.status_code,
            headers=[(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers],
            reason=response.status.partition(" ")[2],
        )
        self.wfile.write(b"".join(map(self._http.send, [head, h11.Data(data=body), h11.EndOfMessage()])))

    def _linger(self) -> None:
        self.connection.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + _LINGER_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            self.connection.settimeout(left)
            if not self.connection.recv(65536):
                return


def _without_host(target: str) -> str:
    """Reduce the target of a request to its path and query."""
    if absolute := _SCHEME_AND_HOST.match(target):
        target = "/" + target[absolute.end() :].removeprefix("/")
    if not target.startswith("/") or "#" in target:
        raise h11.RemoteProtocolError("The request target must be a path that begins with a slash, without a fragment")
    return target


def _joined(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Map lower-case names to values; join repeated headers by commas."""
    joined: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode(), raw_value.decode("latin-1")
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined


def _sentence(error: h11.RemoteProtocolError) -> str:
    """Return a sentence that explains why a request is invalid."""
    if error.error_status_hint == 431:
        return f"The request line and headers are larger than {_MAX_HEAD_BYTES} bytes"
    # h11 appends the offending bytes in Python's notation.
    text = str(error).partition(": bytearray")[0]
    return text[0].upper() + text[1:]


def _error(status: int, sentence: str) -> Response:
    return Response(json.dumps({"error": sentence}), status, content_type="application/json")
