"""Execution environments: warm processes that run one function each, one event at a time.

As on Lambda, a function gets another environment when all of its own are busy, up to a limit. An environment has the
code, layers and environment variables of the template, and inherits none from this process. When a file of a function
or layer changes, its environments are replaced before the next event.
"""

import json
import os
import signal
import subprocess
import threading
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from tests.local import account, template
from tests.local.console import Console
from tests.local.processes import end
from tests.local.template import ROOT, Function

APP_PYTHON = ROOT / ".venv" / "bin" / "python"
ENVIRONMENTS_PER_FUNCTION = 4

_BOOTSTRAP = Path(__file__).with_name("bootstrap.py")
# Error type with which the bootstrap reports an invalid configuration
_CONFIGURATION_ERROR = "Runtime.ConfigurationError"
_WATCHED_SUFFIXES = {".py", ".json", ".model", ".html", ".css", ".js"}

Stamp = tuple[tuple[str, int], ...]


def configuration_error(result: str) -> str | None:
    """Return the message if a function failed because its configuration is invalid, else None."""
    if _CONFIGURATION_ERROR not in result:  # parsing every result would be slow
        return None
    error = json.loads(result)
    return str(error["errorMessage"]) if error.get("errorType") == _CONFIGURATION_ERROR else None


class Environments:
    """Runs the functions of the template.

    Parameters
    ----------
    variables
        Environment variables that override those of the template, for every function.
    limit
        Maximum number of environments per function.
    log
        File descriptor for the logs of the functions; standard error by default.
    console
        Prints failures of the functions, and determines the format of their logs; JSON by default.
    layer
        Folder of the layer; that of the template by default.
    """

    def __init__(
        self,
        variables: Mapping[str, str],
        limit: int,
        log: int | None = None,
        console: Console | None = None,
        layer: Path | None = None,
    ) -> None:
        self._functions = template.functions()
        if layer:
            for name, function in self._functions.items():
                self._functions[name] = replace(function, folders=(function.folders[0], layer))
        self._variables = variables
        self._stderr = log
        self._console = console or Console("json")
        self._reported: set[tuple[str, Stamp]] = set()
        self._lock = threading.Lock()
        self._idle: defaultdict[str, list[_Environment]] = defaultdict(list)
        self._busy: set[_Environment] = set()
        self._slots = {name: threading.Semaphore(limit) for name in self._functions}
        self._closed = False

    def invoke(self, name: str, event: str) -> str:
        """Invoke a function with an event, as JSON text, and return its result or error, as JSON text."""
        with self._slots[name]:
            environment = self._acquire(self._functions[name])
            try:
                result = environment.invoke(event)
            finally:
                self._release(name, environment)
        if error := configuration_error(result):
            self._report(self._functions[name], error)
        return result

    def end(self) -> None:
        """End all environments, including busy ones."""
        with self._lock:
            self._closed = True
            environments = self._busy.union(*self._idle.values())
            self._idle.clear()
        for environment in environments:
            environment.end()

    def _report(self, function: Function, error: str) -> None:
        """Print a configuration error once for all functions that have it, and again after a layer has changed."""
        state = error, _stamp(function.folders[1:])
        with self._lock:
            is_new = state not in self._reported
            self._reported.add(state)
        if is_new:
            self._console.error(error)

    def _acquire(self, function: Function) -> "_Environment":
        stamp = _stamp(function.folders)
        with self._lock:
            idle = self._idle[function.name]
            usable = [environment for environment in idle if environment.alive and environment.stamp == stamp]
            unusable = [environment for environment in idle if environment not in usable]
            environment = (
                usable.pop() if usable else _Environment(function, stamp, self._variables, self._stderr, self._console)
            )
            idle[:] = usable
            self._busy.add(environment)
            if self._closed:
                unusable.append(environment)
        for old in unusable:
            old.end()
        return environment

    def _release(self, name: str, environment: "_Environment") -> None:
        with self._lock:
            self._busy.discard(environment)
            if environment.alive and not self._closed:
                self._idle[name].append(environment)
                return
        environment.end()


@contextmanager
def running(
    variables: Mapping[str, str],
    limit: int = ENVIRONMENTS_PER_FUNCTION,
    log: int | None = None,
    console: Console | None = None,
    layer: Path | None = None,
) -> Iterator[Environments]:
    """Make :class:`Environments`, and end them at the end of the block."""
    environments = Environments(variables, limit, log, console, layer)
    try:
        yield environments
    finally:
        environments.end()


class _Environment:
    """One process; it ends itself when an event exceeds the function's timeout."""

    def __init__(
        self, function: Function, stamp: Stamp, variables: Mapping[str, str], log: int | None, console: Console
    ) -> None:
        self.stamp = stamp
        self._function = function
        self._console = console
        self._process = subprocess.Popen(
            [APP_PYTHON, _BOOTSTRAP, console.logs],
            env={**environment_variables(function), **variables},
            cwd=function.folders[0],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def invoke(self, event: str) -> str:
        assert self._process.stdin
        assert self._process.stdout
        request = {"event": event, "request_id": str(uuid.uuid4())}
        result = b""
        # ValueError: another thread has ended this environment, and closed its pipes.
        with suppress(BrokenPipeError, ValueError):
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            result = self._process.stdout.readline()
        if result:
            return result.decode()
        if self._process.wait() == -signal.SIGALRM:
            return self._failed("Sandbox.Timedout", f"Task timed out after {self._function.timeout:.2f} seconds")
        return self._failed("Runtime.ExitError", f"Runtime exited with status {self._process.returncode}")

    def end(self) -> None:
        end(self._process)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                with suppress(BrokenPipeError):
                    pipe.close()

    def _failed(self, kind: str, message: str) -> str:
        # The response of the API is a 500 without details.
        self._console.error(f"{self._function.name}: {message}")
        return json.dumps({"errorType": kind, "errorMessage": message})


def environment_variables(function: Function) -> dict[str, str]:
    """Return the variables that Lambda and the template set, and those that isolate from the user's AWS account."""
    return {
        **function.variables,
        **account.CREDENTIALS,
        **account.NO_FILES,
        "AWS_REGION": account.REGION,
        "AWS_DEFAULT_REGION": account.REGION,
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory),
        "AWS_LAMBDA_FUNCTION_TIMEOUT": str(function.timeout),
        "_HANDLER": function.handler,
        "LAMBDA_TASK_ROOT": str(function.folders[0]),
        "PYTHONPATH": os.pathsep.join(map(str, function.folders)),
        # Bytecode is matched to its source by the second: a second edit within it would be missed.
        "PYTHONDONTWRITEBYTECODE": "1",
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "TZ": ":UTC",
    }


def _stamp(folders: tuple[Path, ...]) -> Stamp:
    times = []
    for folder in folders:
        for file in sorted(folder.rglob("*")):
            if file.suffix in _WATCHED_SUFFIXES:
                with suppress(FileNotFoundError):  # an editor is replacing the file
                    times.append((str(file), file.stat().st_mtime_ns))
    return tuple(times)
