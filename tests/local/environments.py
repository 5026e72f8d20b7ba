"""Execution environments: processes that run one function each, one event at a time, and stay warm.

As on Lambda, a function gets another environment when all of its own are busy, here up to a limit. Each has the
environment variables, code and layers that the template gives it, and nothing of this process. Where a file of the
function or of a layer has changed, its environments are replaced before the next request.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.local import account
from tests.local.processes import end
from tests.local.template import ROOT

APP_PYTHON = ROOT / ".venv" / "bin" / "python"
ENVIRONMENTS_PER_FUNCTION = 4

_BOOTSTRAP = Path(__file__).with_name("bootstrap.py")
_WATCHED = {".py", ".json"}

Stamp = tuple[tuple[str, int], ...]


class Runtimes:
    """Runs functions for SAM CLI in the place of its containers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: defaultdict[str, list[_Environment]] = defaultdict(list)
        self._busy: set[_Environment] = set()
        self._places: defaultdict[str, threading.Semaphore] = defaultdict(
            lambda: threading.Semaphore(ENVIRONMENTS_PER_FUNCTION)
        )
        self._closed = False

    def invoke(self, function_config: Any, event: str, *_: Any, stdout: Any, **__: Any) -> None:
        """Run one event and write the answer of the function, as JSON text, to ``stdout``."""
        with self._lock:
            place = self._places[function_config.name]
        with place:
            environment = self._take(function_config)
            try:
                answer = environment.invoke(event)
            finally:
                self._give_back(function_config.name, environment)
        stdout.write_str(answer)

    def clean_runtime_containers(self) -> None:
        """What SAM CLI calls on its way out: end all environments, also those at work."""
        with self._lock:
            self._closed = True
            environments = self._busy.union(*self._idle.values())
            self._idle.clear()
        for environment in environments:
            environment.end()

    def _take(self, function_config: Any) -> "_Environment":
        folders = [Path(function_config.code_abs_path), *(ROOT / layer.codeuri for layer in function_config.layers)]
        stamp = _stamp(folders)
        with self._lock:
            idle = self._idle[function_config.name]
            usable = [environment for environment in idle if environment.alive and environment.stamp == stamp]
            unusable = [environment for environment in idle if environment not in usable]
            environment = usable.pop() if usable else _Environment(function_config, folders, stamp)
            idle[:] = usable
            self._busy.add(environment)
            if self._closed:
                unusable.append(environment)
        for old in unusable:
            old.end()
        return environment

    def _give_back(self, name: str, environment: "_Environment") -> None:
        with self._lock:
            self._busy.discard(environment)
            if environment.alive and not self._closed:
                self._idle[name].append(environment)
                return
        environment.end()


class _Environment:
    """One process; it ends itself where it takes longer than the function's timeout."""

    def __init__(self, function_config: Any, folders: list[Path], stamp: Stamp) -> None:
        self.stamp = stamp
        self._name = function_config.name
        self._timeout = function_config.timeout
        self._process = subprocess.Popen(
            [APP_PYTHON, _BOOTSTRAP],
            env=_variables(function_config, folders),
            cwd=function_config.code_abs_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def invoke(self, event: str) -> str:
        assert self._process.stdin
        assert self._process.stdout
        request = {"event": event, "request_id": str(uuid.uuid4())}
        answer = b""
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        if answer:
            return answer.decode()
        if self._process.wait() == -signal.SIGALRM:
            return self._failed("Sandbox.Timedout", f"Task timed out after {self._timeout:.2f} seconds")
        return self._failed("Runtime.ExitError", f"Runtime exited with status {self._process.returncode}")

    def end(self) -> None:
        end(self._process)

    def _failed(self, kind: str, message: str) -> str:
        # The caller is told no more than 500.
        print(f"{self._name}: {message}", file=sys.stderr)
        return json.dumps({"errorType": kind, "errorMessage": message})


def _variables(function_config: Any, folders: list[Path]) -> dict[str, str]:
    variables: dict[str, str] = function_config.env_vars.resolve()
    # Marks containers of `sam local`, whose requests share one id; here each request has its own, as on AWS.
    variables.pop("AWS_SAM_LOCAL")
    return {
        **variables,
        "_HANDLER": function_config.handler,
        "LAMBDA_TASK_ROOT": function_config.code_abs_path,
        "PYTHONPATH": os.pathsep.join(map(str, folders)),
        # Bytecode is matched to its source by the second; an edit made within one would be missed.
        "PYTHONDONTWRITEBYTECODE": "1",
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "TZ": ":UTC",
        **account.NO_FILES,
    }


def _stamp(folders: list[Path]) -> Stamp:
    times = []
    for folder in folders:
        for file in sorted(folder.rglob("*")):
            if file.suffix in _WATCHED:
                with suppress(FileNotFoundError):  # an editor is just replacing it
                    times.append((str(file), file.stat().st_mtime_ns))
    return tuple(times)
