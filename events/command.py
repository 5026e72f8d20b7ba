"""What the commands in this folder share: errors for the user, missing packages, and output that fails."""

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

SHOWN_CHARACTERS = 200


class UnusableError(Exception):
    """The address, the credentials, the service or the broker cannot be used; the user reads the message."""


def advice() -> str:
    """Return how to run this command with all its packages."""
    return f"run `make install` once, then `.venv/bin/python events/{Path(sys.argv[0]).name}`"


@contextmanager
def packages() -> Iterator[None]:
    """Run a block of imports; exit with one line if a package is not installed."""
    try:
        yield
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


def run(work: Callable[[], int]) -> int:
    """Run the work of a command; return its exit code, which is 2 if the output cannot be written."""
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
