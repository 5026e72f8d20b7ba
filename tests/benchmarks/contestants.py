"""Who is compared: this service's ``POST /score`` as it is deployed, and what else would do the same job.

Each is a folder with a function (``app.lambda_handler``) and a folder with its packages. All has bytecode of the Python
that runs it, but for this service's function: ``sam build`` leaves that without, and the others are not to pay for what
one may build otherwise. Packages are installed once, under ``.tools/bench``, and again only where what they are made
from has changed.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.local.processes import StartError
from tests.local.template import ROOT

OURS = "this service"
PEERS = {
    "boto3_plain": "boto3 alone",
    "powertools_pydantic": "Powertools, pydantic",
    "fastapi_mangum": "FastAPI, Mangum",
    "flask_wsgi": "Flask, apig-wsgi",
}
# What all others are compared with: the least that a function can be made of.
MEASURE = PEERS["boto3_plain"]

_HERE = Path(__file__).parent
_PEERS = _HERE / "peers"
_LAYER = ROOT / "functions" / "layer"
_INSTALLED = ROOT / ".tools" / "bench"
_RUNTIME = _HERE / "requirements-runtime.txt"
_STAMP = "made-from"


@dataclass(frozen=True)
class Interpreter:
    """A Python; ``version`` has three numbers."""

    path: Path
    version: str

    @property
    def minor(self) -> str:
        """The two numbers that bytecode and wheels go by."""
        return self.version.rpartition(".")[0]


@dataclass(frozen=True)
class Contestant:
    """A function to measure.

    Attributes
    ----------
    name
        As the table has it.
    function, packages
        Folders: its own code, and what it imports besides.
    authorities
        The certificates by which it knows AWS.
    packs_bytecode
        Whether its package has bytecode; ``sam build`` by itself leaves it out.
    """

    name: str
    function: Path
    packages: Path
    authorities: Path
    packs_bytecode: bool = False

    @property
    def size(self) -> int:
        """Bytes of all files that are deployed, unzipped."""
        files = (file for folder in (self.function, self.packages) for file in folder.rglob("*") if file.is_file())
        return sum(file.stat().st_size for file in files if self.packs_bytecode or file.suffix != ".pyc")


def interpreter(name: str | None) -> Interpreter:
    """The Python that measures: a path, a command, or none for the one that made this environment.

    Raises
    ------
    StartError
        It cannot be run, or is older than 3.11.
    """
    # An environment's own Python would look through packages that no contestant brings.
    found = shutil.which(name) if name else getattr(sys, "_base_executable", sys.executable)
    script = "import sys; print('%d.%d.%d' % sys.version_info[:3]); sys.exit(sys.version_info < (3, 11))"
    try:
        told = subprocess.run([found or str(name), "-c", script], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        raise StartError(f"{name or found} is no Python from 3.11 on") from None
    return Interpreter(Path(found or "").absolute(), told.stdout.strip())


def prepare(python: Interpreter, folder: Path, rule_set: Any) -> list[Contestant]:
    """All contestants, this service first, their functions in a folder of this run.

    ``rule_set`` is the document that this service decides by; the peers have the same rules in their code.
    """
    with _one_at_a_time():
        # A copy, since another checkout may make its own meanwhile.
        layer = shutil.copytree(_layer(python), folder / "layer")
        installed = {name: _packages(name, _PEERS / name / "requirements.txt", python) for name in PEERS}
    packages = layer / "python"
    (packages / "scoring" / "scorers" / "rules.json").write_text(json.dumps(rule_set), encoding="utf-8")
    own_roots = packages / "scoring" / "aws" / "amazon-roots.pem"
    contestants = [Contestant(OURS, own_function("score", folder), packages, own_roots, packs_bytecode=True)]
    for name, title in PEERS.items():
        function = folder / name
        function.mkdir()
        for file in (_PEERS / name / "app.py", *_PEERS.glob("*.py")):
            shutil.copy(file, function)
        _compile(function, python)
        contestants.append(Contestant(title, function, installed[name], installed[name] / "botocore" / "cacert.pem"))
    return contestants


def own_function(name: str, folder: Path) -> Path:
    """A function of this service, copied into a folder as ``sam build`` leaves it: without bytecode."""
    return shutil.copytree(ROOT / "functions" / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))


def runtime_client(python: Interpreter) -> Path:
    """The folder of ``awslambdaric``, by which a function talks to Lambda."""
    with _one_at_a_time():
        return _packages("runtime", _RUNTIME, python)


def _packages(name: str, requirements: Path, python: Interpreter) -> Path:
    def install(folder: Path) -> None:
        # No dependencies: the file names them all, and pip would pick them for its own Python.
        options = ["--no-deps", "--no-compile", "--only-binary=:all:", "--python-version", python.minor]
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *options]
        _run([*pip, "--target", str(folder), "--requirement", str(requirements)])
        _compile(folder, python)

    return _made(name, [requirements], python, install)


def _layer(python: Interpreter) -> Path:
    """The layer, made as ``sam build`` makes it where there is the Python of the functions."""

    def build(folder: Path) -> None:
        make = ["make", "--silent", "-C", str(_LAYER), "build-ScoringLayer", f"ARTIFACTS_DIR={folder}"]
        # What `make bench PYTHON=...` was given is not for the Makefile of the layer.
        environment = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKEOVERRIDES"}}
        environment["PATH"] = f"{python.path.parent}{os.pathsep}{environment['PATH']}"
        _run([*make, f"PYTHON={sys.executable}", f"FUNCTION_PYTHON={python.minor}"], environment)
        if not any(folder.rglob("*.pyc")):
            raise StartError(f"the layer is without bytecode: no python{python.minor} beside {python.path}")

    sources = [file for file in sorted(_LAYER.rglob("*")) if file.is_file() and file.suffix != ".pyc"]
    return _made("layer", sources, python, build)


def _made(name: str, sources: list[Path], python: Interpreter, make: Callable[[Path], None]) -> Path:
    """A folder under ``.tools/bench``, made anew where it was made from anything else."""
    folder = _INSTALLED / python.minor / name
    stamp = folder / _STAMP
    digest = hashlib.sha256()
    for source in sources:
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    if not stamp.exists() or stamp.read_text() != digest.hexdigest():
        print(f"Setting up {folder.relative_to(ROOT)} (once) ...", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        made = folder / "made"
        make(made)
        stamp.write_text(digest.hexdigest())
    return folder / "made"


def _compile(folder: Path, python: Interpreter) -> None:
    """Bytecode, not checked against its source, as the layer has it on Lambda."""
    _run([str(python.path), "-S", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", str(folder)])


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    except OSError as error:
        raise StartError(f"{command[0]} cannot be run: {error.strerror}") from None
    if done.returncode:
        last = (done.stderr or done.stdout).strip().rpartition("\n")[2]
        raise StartError(f"this failed: {' '.join(command)}: {last}")


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Keep others who set up the same folders waiting."""
    _INSTALLED.mkdir(parents=True, exist_ok=True)
    with (_INSTALLED / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
