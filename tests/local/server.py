"""The HTTP server of ``make run``: serves a WSGI application and prints one line per request.

It reads a request as a whole before the application sees it, and answers every error of HTTP with JSON.
"""

import io
import json
import socket
import sys
import time
import traceback
from contextlib import suppress
from email.utils import formatdate
from socketserver import StreamRequestHandler, TCPServer, ThreadingMixIn
from typing import Any

from werkzeug.wrappers import Response

from tests.local.console import Console
from tests.local.http_request import BadRequestError, Head, read_body, read_head

# A client that stops in the middle of a request is given up after this, as by API Gateway.
_SILENCE_SECONDS = 30
# Read for so long after a response: closing a connection with unread bytes can cost the client the response.
_LINGER_SECONDS = 1
# A gateway does not pass these on.
_HOP_BY_HOP = frozenset({"connection", "expect", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"})


class Server(ThreadingMixIn, TCPServer):
    """Serves a WSGI application on a socket that listens already, one thread per connection."""

    daemon_threads = True

    def __init__(self, listener: socket.socket, application: Any, console: Console) -> None:
        super().__init__(listener.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.application = application
        self.console = console

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print the trace, unless the client went away."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(StreamRequestHandler):
    """One request per connection."""

    server: Server
    rfile: io.BufferedReader
    disable_nagle_algorithm = True
    timeout = _SILENCE_SECONDS

    def handle(self) -> None:
        start, line, head = time.perf_counter(), "", None
        try:
            head = read_head(self.rfile)
            if head is None:
                return
            line = f"{head.method} {head.target}"
            if head.expects_continue:
                self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = read_body(self.rfile, head.headers)
            response = Response.from_app(self.server.application, self._environ(head, body), buffered=True)
        except BadRequestError as refusal:
            response = _error(refusal.status, str(refusal))
        except TimeoutError:
            response = _error(408, f"The request is incomplete: nothing came for {_SILENCE_SECONDS} seconds")
        except OSError:
            return  # the client went away
        except Exception:  # noqa: BLE001  a fault of this program must not stay without a response
            traceback.print_exc()
            response = _error(500, "Internal server error")
        self.server.console.request(
            line, response.status_code, dict(response.headers), response.get_data(), time.perf_counter() - start
        )
        self._send(response, head)

    def _environ(self, head: Head, body: bytes) -> dict[str, Any]:
        host, port = self.server.server_address[:2]
        headers = {
            f"HTTP_{name.upper().replace('-', '_')}": value
            for name, value in head.headers.items()
            if name not in _HOP_BY_HOP and "_" not in name
        }
        return {
            **headers,
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            "SERVER_NAME": host,
            "SERVER_PORT": str(port),
            "SERVER_PROTOCOL": head.version,
            "REMOTE_ADDR": self.client_address[0],
            "REQUEST_METHOD": head.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": _wsgi(head.path),
            "QUERY_STRING": _wsgi(head.query),
            "CONTENT_TYPE": head.headers.get("content-type", ""),
            "CONTENT_LENGTH": str(len(body)) if body else "",
        }

    def _send(self, response: Response, head: Head | None) -> None:
        body = b"" if head and head.method == "HEAD" else response.get_data()
        headers = [*response.headers, ("Date", formatdate(usegmt=True)), ("Connection", "close")]
        lines = [f"HTTP/1.1 {response.status}", *(f"{name}: {value}" for name, value in headers), "", ""]
        with suppress(OSError):
            self.wfile.write("\r\n".join(lines).encode("latin-1", "replace") + body)
            self._linger()

    def _linger(self) -> None:
        self.connection.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + _LINGER_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            self.connection.settimeout(left)
            if not self.connection.recv(65536):
                return


def _error(status: int, sentence: str) -> Response:
    return Response(json.dumps({"error": sentence}), status, content_type="application/json")


def _wsgi(text: str) -> str:
    """Encode text as PEP 3333 wants it in an environment: each byte of its UTF-8 as one character."""
    return text.encode().decode("latin-1")
