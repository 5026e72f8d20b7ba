"""Runs the commands in ``events/``, and services for them to call."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.local.template import ROOT


def arguments(script: str, *options: object, python: tuple[str, ...] = ()) -> list[str]:
    """Return the command line of a script in ``events/``."""
    return [sys.executable, *python, f"events/{script}.py", *map(str, options)]


def run(
    script: str, *options: object, python: tuple[str, ...] = (), **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Run a script in ``events/`` until it ends."""
    command = arguments(script, *options, python=python)
    return subprocess.run(
        command, cwd=ROOT, check=False, capture_output=True, text=True, env={**os.environ, **environment}
    )


def start(script: str, *options: object) -> "subprocess.Popen[str]":
    """Start a script in ``events/``."""
    # Unbuffered, so that a test can wait for a line.
    command = arguments(script, *options, python=("-u",))
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def summary(output: str) -> dict[str, int]:
    """Return the counts that end the output, by name."""
    lines = ("\n" + output).rpartition("\n\n")[2].splitlines()
    return {words[0]: int(words[1]) for words in map(str.split, lines)}


def assert_one_error(result: "subprocess.CompletedProcess[str]", message: str) -> None:
    """Fail unless the command ended with exit code 2 and one line that contains the message."""
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1), result.stderr
    assert message in result.stderr


@contextmanager
def interruptible() -> Iterator[None]:
    """Let child processes handle SIGINT, which they inherit as ignored from a background process."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Start an HTTP server on loopback; yield its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class QuietHandler(BaseHTTPRequestHandler):
    """A request handler that logs nothing; subclasses define the methods."""

    def do_GET(self) -> None:
        self.get()

    def do_POST(self) -> None:
        self.post()

    def do_PUT(self) -> None:
        self.put()

    def get(self) -> None:
        raise NotImplementedError

    def post(self) -> None:
        raise NotImplementedError

    def put(self) -> None:
        raise NotImplementedError

    def log_message(self, *_: object) -> None:
        pass

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def respond(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)
