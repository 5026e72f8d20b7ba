"""Starting and ending processes so that none is left behind, however the command ends; and ports for them."""

import ctypes
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

_PR_SET_PDEATHSIG = 1
_END_SECONDS = 3
# Below the ports that Linux and macOS give to outgoing connections and to whoever binds port 0.
_PORTS = range(20_000, 32_768)
_untried_ports = iter(random.sample(_PORTS, len(_PORTS)))

# Loaded here, since nothing may be imported between fork and exec.
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class StartError(Exception):
    """Something that the command needs could not be started or has ended; the text is one line for the console."""


# Set by :func:`fail`, read by :func:`command`.
_failures: list[StartError] = []


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
    """A port for a program that cannot say which one it took; another at each call.

    Nothing listens on it, nor gets it by chance before it is used.
    """
    for port in _untried_ports:
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise StartError(f"no port on {host} is free")


def port_number(text: str) -> int:
    """The port that a person typed; raises :class:`StartError` where it is none."""
    if not (text.isascii() and text.isdigit()):
        raise StartError(f"{text!r} is not a port number")
    return int(text)


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens on the port, 0 for any; raises :class:`StartError` where that cannot be had."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()
    except (OSError, OverflowError) as error:
        listener.close()
        raise StartError(f"port {port} on {host} cannot be used: {getattr(error, 'strerror', error)}") from None
    return listener


def fail(message: str) -> None:
    """End the command from any thread, with this message and exit code 1."""
    _failures.append(StartError(message))
    main = threading.main_thread().ident
    assert main
    # A signal to another thread would not interrupt the call that the main thread may be waiting in.
    signal.pthread_kill(main, signal.SIGTERM)


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
        if _failures:
            sys.exit(f"error: {_failures[0]}")
