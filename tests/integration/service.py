"""A running service, seen from outside: over HTTP, as a process, and by what it prints."""

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from tests.local.processes import free_port
from tests.local.template import ROOT

SAM_PYTHON = ROOT / ".tools" / "sam" / "bin" / "python"
TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class Service:
    """Where the service answers, and its process and log where this test run started it.

    ``auth`` signs what is sent to a service that asks for it.
    """

    url: str
    process: "subprocess.Popen[bytes] | None" = None
    log: Path | None = None
    auth: requests.auth.AuthBase | None = None

    def get(self, path: str, **parameters: Any) -> requests.Response:
        return requests.get(self.url + path, auth=self.auth, timeout=TIMEOUT_SECONDS, **parameters)

    def post(self, path: str, **parameters: Any) -> requests.Response:
        return requests.post(self.url + path, auth=self.auth, timeout=TIMEOUT_SECONDS, **parameters)

    def stats(self) -> dict[str, Any]:
        """The body of ``GET /stats``."""
        response = self.get("/stats")
        assert response.status_code == 200, response.text
        stats: dict[str, Any] = response.json()
        assert stats["total"] == sum(stats["by_risk_level"].values())
        return stats


@contextmanager
def started(log: Path, root: Path = ROOT) -> Iterator[Service]:
    """Start the local stack of the checkout ``root`` as ``make run`` does, and end it as Ctrl-C does."""
    port = free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [SAM_PYTHON, "-m", "tests.local.stack", "--port", str(port)],
            cwd=root,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    service = Service(f"http://127.0.0.1:{port}", process, log)
    try:
        wait_for(service)
        yield service
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(TIMEOUT_SECONDS)
        finally:
            process.kill()


def wait_for(service: Service) -> None:
    """Wait until ``GET /health`` answers."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while True:
        assert service.process is None or service.process.poll() is None, service.log and service.log.read_text()
        try:
            if service.get("/health").status_code == 200:
                return
        except requests.ConnectionError:
            pass
        assert time.monotonic() < deadline, service.log and service.log.read_text()
        time.sleep(0.05)
