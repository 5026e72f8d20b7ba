"""A running service, seen from outside: over HTTP, as a process, and by what it prints."""

import json
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from tests.local.template import ROOT

SAM_PYTHON = ROOT / ".tools" / "sam" / "bin" / "python"
TIMEOUT_SECONDS = 30
_STACK = ("-m", "tests.local.stack", "--port", "0")
STACK_LOGGING_JSON = (*_STACK, "--logs", "json")


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


def checkout(root: Path, rules: Any) -> Path:
    """Copy what the stack reads, to edit it, with this rule set and the installed virtual environments."""
    root.mkdir()
    shutil.copy(ROOT / "template.yaml", root)
    for folder in ("functions", "tests/local"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "functions/layer/scoring/scorers/rules.json").write_text(json.dumps(rules), encoding="utf-8")
    for link in (".venv", ".tools"):
        (root / link).symlink_to(ROOT / link)
    return root


@contextmanager
def started(log: Path, root: Path = ROOT, arguments: Sequence[str] = _STACK) -> Iterator[Service]:
    """Start the local stack of the checkout ``root`` as ``make run`` does, and end it as Ctrl-C does.

    ``arguments`` are Python's, to start it in another way.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            [SAM_PYTHON, *arguments],
            cwd=root,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        service = Service(_address(process, log), process, log)
        assert service.get("/health").status_code == 200, log.read_text()
        yield service
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(TIMEOUT_SECONDS)
        finally:
            process.kill()
            process.wait()


def _address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    """Where the stack says that it is, once it does."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while True:
        printed = log.read_text()
        if said := re.search(r"Risk scoring at (\S+),.*\n", printed):
            return said[1]
        assert process.poll() is None, printed
        assert time.monotonic() < deadline, printed
        time.sleep(0.05)
