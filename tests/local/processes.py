"""Starts and ends processes so that none outlives the command, and finds free ports for them."""

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
# Below the range from which Linux and macOS choose ports for outgoing connections and for port 0
_PORTS = range(20_000, 32_768)
_untried_ports = iter(random.sample(_PORTS, len(_PORTS)))

# Loaded early: loading a library between fork and exec can deadlock.
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class StartError(Exception):
    """Something that the command needs did not start or has ended; the user reads the message."""


# Set by :func:`fail`, read by :func:`command`
_failures: list[StartError] = []


def end_with_parent() -> None:
    """Make the kernel kill this child when its parent ends, even by SIGKILL; call it before exec."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def end(process: "subprocess.Popen[bytes]") -> None:
    """Terminate a process; kill it if it does not end in time."""
    process.terminate()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port(host: str = "127.0.0.1") -> int:
    """Return another free port at each call, one that the system does not assign to any other program."""
    for port in _untried_ports:
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise StartError(f"no port on {host} is free")


def port_number(text: str) -> int:
    """Parse a port number; raise :class:`StartError` if it is none."""
    if not (text.isascii() and text.isdigit()):
        raise StartError(f"{text!r} is not a port number")
    return int(text)


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens on a port, 0 for any; raise :class:`StartError` if it cannot be used."""
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
    """End the command with an error message and exit code 1; call it from any thread."""
    _failures.append(StartError(message))
    main = threading.main_thread().ident
    assert main
    # A signal to another thread would not interrupt a blocking call of the main thread.
    signal.pthread_kill(main, signal.SIGTERM)


@contextmanager
def command() -> Iterator[None]:
    """Run the block as a command until Ctrl-C, SIGTERM, a closed terminal or :class:`StartError` unwinds it."""

    def stop(_signum: int, _frame: object) -> NoReturn:
        raise KeyboardInterrupt

    # SIGINT too: a background process of a script ignores it by default.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    try:
        yield
    except StartError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        if _failures:
            sys.exit(f"error: {_failures[0]}")
