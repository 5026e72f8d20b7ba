"""A proxy between the functions and the emulator that injects the faults of networks and services.

By default it forwards every call. It can inject one kind of fault into a seeded share of the calls, follow a rule, or
be down.
"""

import http.client
import json
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from enum import Enum
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs

from tests.local.processes import free_port, listening

# Longer than the functions' read timeout of one second
_LATE_SECONDS = 1.5
_REFUSING_SECONDS = 0.2
_TRICKLE_SECONDS = 0.05
# The emulator closes idle connections after some seconds.
_MAX_IDLE_SECONDS = 1


class Fault(Enum):
    """A fault of one call, and whether the call is applied."""

    REPLY_DROPPED = "applied, then the connection is closed without a response"
    REPLY_LATE = "applied at once, but the response comes after the caller's timeout"
    CALL_LATE = "applied only after the caller's timeout"
    ERROR_BEFORE = "500, not applied"
    ERROR_AFTER = "500, but applied"
    THROTTLED = "throttled, not applied"
    CONFLICT = "a transaction is cancelled for a conflict, not applied"
    REFUSED = "no connection for a while"
    FOREIGN = "200 from something other than AWS, not applied"
    MALFORMED = "a transaction is cancelled with malformed reasons, not applied"


_NOT_APPLIED = {
    *(Fault.ERROR_BEFORE, Fault.THROTTLED, Fault.CONFLICT),
    *(Fault.REFUSED, Fault.FOREIGN, Fault.MALFORMED),
}
_ERRORS = {
    Fault.ERROR_BEFORE: (500, "InternalServerError"),
    Fault.ERROR_AFTER: (500, "InternalServerError"),
    Fault.THROTTLED: (400, "ThrottlingException"),
    Fault.CONFLICT: (400, "TransactionCanceledException"),
    Fault.MALFORMED: (400, "TransactionCanceledException"),
}
# Faults of transactions only
OF_TRANSACTIONS = {Fault.CONFLICT, Fault.MALFORMED}
_REASONS: dict[Fault, Any] = {
    Fault.CONFLICT: [{"Code": "None"}, {"Code": "TransactionConflict"}],
    Fault.MALFORMED: [None, None],
}


# Given an operation and its body, returns a context manager around the call that yields the fault, if any.
Rule = Callable[[str, bytes], AbstractContextManager[Fault | None]]


class Down(Enum):
    """A way to be unreachable."""

    REFUSING = "nothing listens"
    SILENT = "connections are accepted, but no response is sent"
    TRICKLING = "connections are accepted, and responses trickle byte by byte without end"


class Proxy:
    """A proxy; see :func:`running`.

    Attributes
    ----------
    endpoint
        The URL to give to boto3 in place of the emulator's.
    injected
        Number of faults since the last :meth:`inject`.
    """

    def __init__(self) -> None:
        self.upstream = ""
        self._lock = threading.RLock()
        self._connections: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        # No other process gets this port while the proxy does not listen.
        self.port = free_port()
        self._closed = False
        self._down: Down | None = None
        self._fault: Fault | None = None
        self._rule: Rule | None = None
        self._share = 0.0
        self._random = random.Random()
        self.injected = 0
        self._listen()
        self.endpoint = f"http://127.0.0.1:{self.port}"

    def forward_to(self, endpoint: str) -> None:
        """Forward calls to this endpoint from now on."""
        with self._lock:
            self.upstream = endpoint.removeprefix("http://")
            self._disconnect()

    def inject(self, fault: Fault, share: float, seed: int) -> None:
        """Inject a fault into this share of the calls, from 0 to 1; the same seed draws the same calls."""
        with self._lock:
            self._fault, self._share, self._random = fault, share, random.Random(seed)
            self.injected = 0

    def follow(self, rule: Rule) -> None:
        """Apply a rule to every call."""
        with self._lock:
            self._rule = rule

    def clear(self) -> None:
        """Forward every call."""
        with self._lock:
            self._fault = self._rule = None

    @contextmanager
    def down(self, how: Down) -> Iterator[None]:
        """Be unreachable inside the ``with`` block."""
        with self._lock:
            self._down = how
            self._disconnect(stop_listening=how is Down.REFUSING)
        try:
            yield
        finally:
            with self._lock:
                self._down = None
                self._disconnect()
                self._listen()

    def close(self) -> None:
        """Stop for good."""
        with self._lock:
            self._closed = True
            self._disconnect(stop_listening=True)

    def draw(self, operation: str) -> Fault | None:
        """Draw the fault of this call, if any."""
        with self._lock:
            if self._fault is None or (self._fault in OF_TRANSACTIONS and operation != "TransactWriteItems"):
                return None
            if self._random.random() >= self._share:
                return None
            self.injected += 1
            return self._fault

    def around(self, operation: str, body: bytes) -> AbstractContextManager[Fault | None]:
        """Return the context manager around this call; it yields the fault, if any."""
        rule = self._rule
        return rule(operation, body) if rule else nullcontext(self.draw(operation))

    def refuse_for_a_while(self) -> None:
        """Close all connections and listen again after a moment."""
        with self._lock:
            self._disconnect(stop_listening=True)
        timer = threading.Timer(_REFUSING_SECONDS, self._listen)
        timer.daemon = True
        timer.start()

    @property
    def state(self) -> Down | None:
        """The current outage, or None."""
        return self._down

    def _listen(self) -> None:
        with self._lock:
            if self._closed or self._listener or self._down is Down.REFUSING:
                return
            listener = listening("127.0.0.1", self.port)
            self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, address = listener.accept()
            except OSError:  # closed
                return
            with self._lock:
                self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection, address), daemon=True).start()

    def _serve(self, connection: socket.socket, address: Any) -> None:
        try:
            with suppress(OSError, http.client.HTTPException):
                _ProxyHandler(connection, address, self)  # type: ignore[arg-type]  # uses nothing else of a server
        finally:
            with self._lock:
                self._connections.discard(connection)
            connection.close()

    def _disconnect(self, *, stop_listening: bool = False) -> None:
        if stop_listening and self._listener:
            # Closing alone would not end the blocked accept() in the other thread.
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _ProxyHandler(BaseHTTPRequestHandler):
    """A connection to the proxy, which is its ``server``."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Any

    def setup(self) -> None:
        super().setup()
        self._upstream = ""
        self._connection: http.client.HTTPConnection | None = None
        self._last_used = 0.0

    def finish(self) -> None:
        if self._connection:
            self._connection.close()
        super().finish()

    def do_POST(self) -> None:
        proxy: Proxy = self.server
        # A late call goes to the endpoint that was current when it arrived.
        upstream = proxy.upstream
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = dict(self.headers.items())
        service, _, operation = (self.headers["X-Amz-Target"] or _query_target(body)).rpartition(".")
        if proxy.state is not None:
            self.close_connection = True
            self._keep_waiting(proxy)
            return
        with proxy.around(operation, body) as fault:
            if fault is Fault.CALL_LATE:
                time.sleep(_LATE_SECONDS)
            response = self._forward(upstream, body, headers) if fault not in _NOT_APPLIED else None
            if fault is Fault.REPLY_LATE:
                time.sleep(_LATE_SECONDS)
        if fault is Fault.REFUSED:
            proxy.refuse_for_a_while()
        if fault in {Fault.REPLY_DROPPED, Fault.REFUSED}:
            self.close_connection = True
        elif fault is Fault.FOREIGN:
            self._reply(200, {"Content-Type": "application/json"}, b'{"message": "Welcome"}')
        elif fault in _ERRORS:
            self._error(service, *_ERRORS[fault], _REASONS.get(fault))
        elif response:
            self._reply(*response)

    def _keep_waiting(self, proxy: Proxy) -> None:
        """Send nothing, or a response byte by byte, until either side disconnects."""
        if proxy.state is Down.SILENT:
            self.rfile.read(1)
            return
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while proxy.state is Down.TRICKLING:
            self.wfile.write(b"x")
            time.sleep(_TRICKLE_SECONDS)

    def _forward(self, upstream: str, body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        """Let the emulator apply the call."""
        # Reused, since a connection per call uses up the local ports within 30,000 calls.
        if upstream != self._upstream or time.monotonic() - self._last_used > _MAX_IDLE_SECONDS:
            if self._connection:
                self._connection.close()
            self._connection = None
        if self._connection is None:
            self._upstream, self._connection = upstream, http.client.HTTPConnection(upstream, timeout=30)
        self._connection.request("POST", self.path, body, headers)
        response = self._connection.getresponse()
        content = response.read()
        self._last_used = time.monotonic()
        return response.status, dict(response.getheaders()), content

    def _reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _error(self, service: str, status: int, code: str, reasons: Any) -> None:
        error: dict[str, Any] = {"__type": f"{service}#{code}", "message": "injected"}
        if reasons:
            error["CancellationReasons"] = reasons
        # A failing service may ask for a longer pause than a caller can wait.
        headers = {"Content-Type": "application/x-amz-json-1.0", "x-amz-retry-after": "5000"}
        self._reply(status, headers, json.dumps(error).encode())

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


def _query_target(body: bytes) -> str:
    """Return the target of a call of SNS, which is a form: its version and its operation."""
    form = parse_qs(body.decode())
    return f"{form['Version'][0]}.{form['Action'][0]}"


@contextmanager
def running() -> Iterator[Proxy]:
    """Start a proxy without faults and without an endpoint."""
    proxy = Proxy()
    try:
        yield proxy
    finally:
        proxy.close()
