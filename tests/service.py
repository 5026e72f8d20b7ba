"""A running service, and the local stack that ``make run`` starts."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests

from tests.local.template import ROOT

if TYPE_CHECKING:
    from tests.e2e.deployment import Caller

SAM_PYTHON = ROOT / ".tools" / "sam" / "bin" / "python"
TIMEOUT_SECONDS = 30
STACK = ("-m", "tests.local.stack", "--port", "0")
STACK_LOGGING_JSON = (*STACK, "--logs", "json")


@dataclass(frozen=True)
class RunningService:
    """The base URL of a service and, if it requires signed requests, the caller who signs them."""

    url: str
    auth: "Caller | None" = None

    def get(self, path: str, **parameters: Any) -> requests.Response:
        return requests.get(self.url + path, auth=self.auth, timeout=TIMEOUT_SECONDS, **parameters)

    def post(self, path: str, **parameters: Any) -> requests.Response:
        return requests.post(self.url + path, auth=self.auth, timeout=TIMEOUT_SECONDS, **parameters)

    def stats(self) -> dict[str, Any]:
        """Return the body of ``GET /stats``."""
        response = self.get("/stats")
        assert response.status_code == 200, response.text
        stats: dict[str, Any] = response.json()
        assert stats["total"] == sum(stats["by_risk_level"].values())
        return stats


@dataclass(frozen=True, kw_only=True)
class LocalStack(RunningService):
    """The local stack, its process, its log file and the checkout that it serves."""

    process: "subprocess.Popen[bytes]"
    log: Path
    root: Path

    @contextmanager
    def edited(self, file: str, old: str, new: str) -> Iterator[None]:
        """Replace text in a file of the checkout; undo it at the end."""
        path = self.root / file
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")
        try:
            yield
        finally:
            path.write_text(text, encoding="utf-8")


def checkout(root: Path, rules: Any) -> Path:
    """Copy the files that the stack reads, with this rule set; link the virtual environments."""
    root.mkdir()
    shutil.copy(ROOT / "template.yaml", root)
    for folder in ("functions", "tests/local"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "functions/layer/scoring/scorers/rules.json").write_text(json.dumps(rules), encoding="utf-8")
    for link in (".venv", ".tools"):
        (root / link).symlink_to(ROOT / link)
    return root


@contextmanager
def started(log: Path, root: Path = ROOT, arguments: Sequence[str] = STACK, **variables: str) -> Iterator[LocalStack]:
    """Start the local stack of the checkout ``root`` as ``make run`` does; stop it as Ctrl-C does.

    ``arguments`` replace those that ``make run`` passes to Python; ``variables`` are environment variables.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            [SAM_PYTHON, *arguments],
            cwd=root,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        stack = LocalStack(_announced_url(process, log), process=process, log=log, root=root)
        assert stack.get("/health").status_code == 200, log.read_text()
        yield stack
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(TIMEOUT_SECONDS)
        finally:
            process.kill()
            process.wait()


def _announced_url(process: "subprocess.Popen[bytes]", log: Path) -> str:
    """Wait for the line in which the stack prints its URL."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while True:
        printed = log.read_text()
        if announced := re.search(r"Risk scoring at (\S+),.*\n", printed):
            return announced[1]
        assert process.poll() is None, printed
        assert time.monotonic() < deadline, printed
        time.sleep(0.05)
