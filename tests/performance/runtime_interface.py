"""Run a function behind Lambda's runtime interface, without a container.

Starts AWS's Runtime Interface Emulator, which is part of SAM CLI, and the function as its child through AWS's runtime
client: one execution environment, one request at a time.
"""

import http.client
import platform
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

from tests.local.processes import StartError, end, end_with_parent, free_port, wait_until_listening
from tests.local.template import ROOT

_SAM_LIB = ROOT / ".tools" / "sam" / "lib"
_ARCHITECTURES = {"aarch64": "arm64", "arm64": "arm64", "x86_64": "x86_64"}
_PATH = "/2015-03-31/functions/function/invocations"
_TIMEOUT_SECONDS = 60


@contextmanager
def running(
    python: Path, client: Path, variables: dict[str, str], folder: Path, log: IO[bytes]
) -> Iterator[Callable[[bytes], bytes]]:
    """Start a function, and end it on exit.

    Parameters
    ----------
    python
        The interpreter that runs the function.
    client
        The folder of ``awslambdaric``.
    variables
        All environment variables of the function.
    folder
        Working directory: the function's own folder.
    log
        Receives the output of the function and the emulator.

    Yields
    ------
    Callable[[bytes], bytes]
        Invokes the function with an event as JSON, over a kept connection, and returns the response.

    Raises
    ------
    StartError
        SAM CLI has no emulator for this machine, or the emulator does not start.
    """
    address, port = f"127.0.0.1:{free_port()}", free_port()
    interface = ["--runtime-interface-emulator-address", f"127.0.0.1:{port}", "--runtime-api-address", address]
    function = [str(python), "-P", "-S", "-m", "awslambdaric", variables["_HANDLER"]]
    process = subprocess.Popen(
        [_emulator(), *interface, "--log-level", "error", *function],
        env=variables
        | {
            "PYTHONPATH": f"{variables['PYTHONPATH']}:{client}",
            # On a busy machine, large packages take longer to import than the function may take on Lambda.
            "AWS_LAMBDA_FUNCTION_TIMEOUT": str(_TIMEOUT_SECONDS),
        },
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        preexec_fn=end_with_parent,  # noqa: PLW1509  started before any thread
        start_new_session=True,
    )
    try:
        wait_until_listening("the Runtime Interface Emulator", process, "127.0.0.1", port)
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_SECONDS)) as connection:

            def invoke(event: bytes) -> bytes:
                connection.request("POST", _PATH, body=event)
                return connection.getresponse().read()

            yield invoke
    finally:
        end(process)


def _emulator() -> Path:
    name = f"aws-lambda-rie-{_ARCHITECTURES.get(platform.machine(), platform.machine())}"
    found = next(_SAM_LIB.glob(f"python*/site-packages/samcli/local/rapid/{name}"), None)
    if found is None:
        raise StartError(f"SAM CLI has no {name}; run 'make install'")
    return found
