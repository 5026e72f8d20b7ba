"""Starting and ending processes so that none is left behind, however the command ends."""

import ctypes
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

_PR_SET_PDEATHSIG = 1
_END_SECONDS = 3

# Loaded here, since nothing may be imported between fork and exec.
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class StartError(Exception):
    """Something that the stack needs could not be started; the text is one line for the person at the keyboard."""


def end_with_parent() -> None:
    """In a child, before its program starts: have the kernel end it when the parent is gone, even by SIGKILL."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a process, politely first."""
    process.terminate()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def port_number(text: str) -> int:
    """The port that a person typed; raises :class:`StartError` where it is none."""
    if not (text.isascii() and text.isdigit()):
        raise StartError(f"{text!r} is no port")
    return int(text)


def require_free_port(host: str, port: int) -> None:
    """Raise :class:`StartError` where something listens on the port already, or it cannot be had."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise StartError(f"port {port} on {host} cannot be used: {getattr(error, 'strerror', error)}") from None


@contextmanager
def command() -> Iterator[None]:
    """The frame of a command that runs until it is stopped.

    Ctrl-C, SIGTERM and a closed terminal all end it through its ``finally`` blocks; a :class:`StartError` is one line.
    """

    def stop(_signum: int, _frame: object) -> NoReturn:
        raise KeyboardInterrupt

    # SIGINT too: what a script starts in the background inherits it ignored.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    try:
        yield
    except StartError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        pass
