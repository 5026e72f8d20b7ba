"""A function behind Lambda's own runtime interface, without a container.

SAM CLI brings AWS's Runtime Interface Emulator, which is what speaks to a function in the images of Lambda; here it is
a process that starts the function as another one, by the runtime client of AWS. One environment, one request at a time.
"""

import http.client
import platform
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

from tests.local.processes import StartError, end, end_with_parent, free_port
from tests.local.template import ROOT

_PLACE = ROOT / ".tools" / "sam" / "lib"
_ARCHITECTURES = {"aarch64": "arm64", "arm64": "arm64", "x86_64": "x86_64"}
_PATH = "/2015-03-31/functions/function/invocations"
_SECONDS = 30


@contextmanager
def running(
    python: Path, client: Path, variables: dict[str, str], folder: Path, log: IO[bytes]
) -> Iterator[Callable[[bytes], bytes]]:
    """Start a function, and end it on the way out.

    Parameters
    ----------
    python
        That runs the function.
    client
        The folder of ``awslambdaric``.
    variables
        All environment variables of the function.
    folder
        To start in: the function's own.
    log
        For what it and the emulator print.

    Yields
    ------
    Callable[[bytes], bytes]
        Invokes the function with an event, JSON text, and returns what it answers, on a connection that is kept.

    Raises
    ------
    StartError
        SAM CLI has no emulator for this machine, or it does not listen.
    """
    address, port = f"127.0.0.1:{free_port()}", free_port()
    interface = ["--runtime-interface-emulator-address", f"127.0.0.1:{port}", "--runtime-api-address", address]
    function = [str(python), "-P", "-S", "-m", "awslambdaric", variables["_HANDLER"]]
    process = subprocess.Popen(
        [_emulator(), *interface, "--log-level", "error", *function],
        env=variables | {"PYTHONPATH": f"{variables['PYTHONPATH']}:{client}"},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        preexec_fn=end_with_parent,  # noqa: PLW1509  started before any thread
        start_new_session=True,
    )
    try:
        _wait(process, port)
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)) as connection:

            def invoke(event: bytes) -> bytes:
                # Written in two parts, but http.client has Nagle's algorithm off: nothing waits for an acknowledgement.
                connection.request("POST", _PATH, body=event)
                return connection.getresponse().read()

            yield invoke
    finally:
        end(process)


def _emulator() -> Path:
    name = f"aws-lambda-rie-{_ARCHITECTURES.get(platform.machine(), platform.machine())}"
    found = next(_PLACE.glob(f"python*/site-packages/samcli/local/rapid/{name}"), None)
    if found is None:
        raise StartError(f"SAM CLI has no {name}; run 'make install'")
    return found


def _wait(process: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise StartError("the Runtime Interface Emulator did not start")
