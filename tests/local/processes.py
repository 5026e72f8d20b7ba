"""Starts and ends processes so that none outlives the command, and finds free ports for them."""

import ctypes
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NoReturn

_PR_SET_PDEATHSIG = 1
_START_SECONDS = 30
_END_SECONDS = 3
# Below the range from which Linux and macOS choose ports for outgoing connections and for port 0
_PORTS = range(20_000, 32_768)
_untried_ports = iter(random.sample(_PORTS, len(_PORTS)))

# Loaded early: loading a library between fork and exec can deadlock.
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class StartError(Exception):
    """A part of the command did not start, or has ended; the message is shown to the user."""


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


@contextmanager
def child(
    command: Sequence[str | Path], folder: Path, output: IO[bytes] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a command in a folder, and end it with the block; Ctrl-C on the terminal does not reach it."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        preexec_fn=end_with_parent,  # noqa: PLW1509  calls one system call
        start_new_session=True,
    )
    try:
        yield process
    finally:
        end(process)


def free_port(host: str = "127.0.0.1") -> int:
    """Return a free port that no other call returns, and that the system does not assign to other programs."""
    for port in _untried_ports:
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise StartError(f"no port on {host} is free")


def port_number(text: str) -> int:
    """Parse a port number; raise :class:`StartError` if it is not one."""
    if not (text.isascii() and text.isdigit()):
        raise StartError(f"{text!r} is not a port number")
    return int(text)


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens on a port, 0 for any; raise :class:`StartError` if the port cannot be used."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()
    except (OSError, OverflowError) as error:
        listener.close()
        raise StartError(f"port {port} on {host} cannot be used: {getattr(error, 'strerror', error)}") from None
    return listener


def wait_until_listening(name: str, process: "subprocess.Popen[bytes]", host: str, port: int) -> None:
    """Wait until a process listens on a port; raise :class:`StartError` if it ends or takes too long."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise StartError(f"{name} exited with code {process.returncode} while starting")
        with socket.socket() as probe:
            if probe.connect_ex((host, port)) == 0:
                return
        time.sleep(0.02)
    raise StartError(f"{name} did not listen on {host}:{port} within {_START_SECONDS} s")


def watch(process: "subprocess.Popen[bytes]", ending: threading.Event, on_exit: Callable[[str], None]) -> None:
    """Call ``on_exit`` from another thread with how a process ended, if it ends before ``ending`` is set."""

    def wait() -> None:
        code = process.wait()
        if not ending.is_set():
            on_exit(f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}")

    threading.Thread(target=wait, daemon=True).start()


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
