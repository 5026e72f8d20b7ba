"""Shared by the commands in this folder: errors for the user, missing packages, and output that fails."""

import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from events.rows import FileError

SHOWN_CHARACTERS = 200


class UnusableError(Exception):
    """The address, the credentials, the service or the broker cannot be used; the user reads the message."""


def advice() -> str:
    """Return how to run this command with all its packages."""
    return f"run `make install` once, then `.venv/bin/python events/{Path(sys.argv[0]).name}`"


class Interrupt:
    """Ctrl-C and SIGTERM as a flag, because librdkafka loses an exception that a signal raises inside a call.

    A second signal ends the command at once.
    """

    def __init__(self) -> None:
        self.requested = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._receive)

    def check(self) -> None:
        """Raise :class:`KeyboardInterrupt` if there was a signal."""
        if self.requested:
            raise KeyboardInterrupt

    def _receive(self, _number: int, _frame: object) -> None:
        if self.requested:
            os._exit(2)
        self.requested = True


@contextmanager
def packages() -> Iterator[None]:
    """Run a block of imports; exit with one line if a package is not installed."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(2)
    except ModuleNotFoundError as error:
        print(f"error: this Python has no {error.name}: {advice()}", file=sys.stderr)
        sys.exit(2)


def printable(text: str) -> str:
    """Return the text on one line, without control characters."""
    return plain(" ".join(text.split()))


def plain(text: str) -> str:
    """Return the text without control characters."""
    return "".join(character if character.isprintable() else " " for character in text)


def shown(text: str) -> str:
    """Return the start of the text on one line, without control characters."""
    return printable(text)[:SHOWN_CHARACTERS]


def explain(stop: UnusableError | FileError | KeyboardInterrupt, sent: int) -> str:
    """Return a sentence that explains why sending a file stopped after some rows, and how to continue."""
    problem = str(stop) or "interrupted"
    if not sent:
        return problem
    rows = "1 row" if sent == 1 else f"{sent} rows"
    if isinstance(stop, FileError):
        return f"stopped after {rows}: {problem}; fix it and run the command again"
    if isinstance(stop, UnusableError):
        problem += "; stopped"
    return f"{problem} after {rows}; run the same command again to continue"


def run(work: Callable[[], int]) -> int:
    """Run the work of a command; return its exit code, which is 2 if the output cannot be written."""
    if sys.stdout is None:
        print("error: the output cannot be written: standard output is closed", file=sys.stderr)
        return 2
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # The encoding of the terminal may lack characters of an id.
            stream.reconfigure(errors="backslashreplace")
    try:
        code = work()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 2
    except OSError as error:
        # Python flushes again on exit, which would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # the reader, `head` for example, stopped early
            return 0
        print(f"error: the output cannot be written: {error.strerror or error}", file=sys.stderr)
        return 2
    return code
