"""Build the implementations of ``POST /score`` to compare: this service as it is deployed, and the baselines.

Each is a folder with a function (``app.lambda_handler``) and a folder with its packages. All code has bytecode for the
interpreter that runs it, except this service's function, which ``sam build`` leaves without. Packages, and the forest
that some of them decide by, are cached under ``.tools/bench`` and made again when their sources change.
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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from tests import events
from tests.local.processes import StartError
from tests.local.template import ROOT

OURS = "this service"
BASELINES = {
    "boto3_plain": "boto3 alone",
    "powertools_pydantic": "Powertools, pydantic",
    "fastapi_mangum": "FastAPI, Mangum",
    "flask_wsgi": "Flask, apig-wsgi",
}
# The smallest baseline; the table gives every figure as a share of its figure.
REFERENCE = BASELINES["boto3_plain"]
# The same with the history of a customer, in tables of their own.
OURS_HISTORY = f"{OURS}, one history"
HISTORY_BASELINES = {"boto3_history": "boto3 alone, one history"}
REFERENCE_HISTORY = HISTORY_BASELINES["boto3_history"]
# The same by a forest, and this service by rules on the same transactions.
OURS_FOREST, OURS_RULES = f"{OURS}, forest", f"{OURS}, rules"
FOREST_BASELINES = {"boto3_scikit_learn": "boto3, scikit-learn"}
REFERENCE_FOREST = FOREST_BASELINES["boto3_scikit_learn"]

_HERE = Path(__file__).parent
_BASELINES = _HERE / "baselines"
_LAYER = ROOT / "functions" / "layer"
_OFFLINE = ROOT / "functions" / "offline"
_OFFLINE_PYTHON = ROOT / ".tools" / "offline" / "bin" / "python"
CACHE = ROOT / ".tools" / "bench"


@dataclass(frozen=True)
class Interpreter:
    """A Python interpreter; ``version`` has three numbers."""

    path: Path
    version: str

    @property
    def minor(self) -> str:
        """The major and minor version, which wheels and bytecode depend on."""
        return self.version.rpartition(".")[0]


class Opinion(NamedTuple):
    """Opinion of a model about a transaction: the probability of fraud, and the risk level, from 0 to 3."""

    probability: float
    level: int


class Sample(NamedTuple):
    """A transaction to send, as JSON, and scikit-learn's opinion about it, if an implementation must have the same."""

    body: str
    opinion: Opinion | None = None


SAMPLES = tuple(
    Sample(line) for line in (events.FOLDER / "transactions.jsonl").read_text(encoding="utf-8").splitlines()
)


@dataclass(frozen=True)
class Implementation:
    """A function to measure.

    Attributes
    ----------
    name
        Title of its column.
    function, packages
        Folders of its own code and of its imports.
    authorities
        The certificate authorities that it trusts.
    packs_bytecode
        Whether its deployment package contains bytecode; plain ``sam build`` omits it.
    customer
        The ``customer_id`` of all its transactions; None for transactions without one, which have no history.
    samples
        The transactions that it gets, over and over.
    scorer
        Environment variable ``SCORER``.
    """

    name: str
    function: Path
    packages: Path
    authorities: Path
    packs_bytecode: bool = False
    customer: str | None = None
    samples: tuple[Sample, ...] = SAMPLES
    scorer: str = "rules"

    @property
    def size(self) -> int:
        """Unzipped size of the deployment package in bytes."""
        files = (file for folder in (self.function, self.packages) for file in folder.rglob("*") if file.is_file())
        return sum(file.stat().st_size for file in files if self.packs_bytecode or file.suffix != ".pyc")


def interpreter(name: str | None) -> Interpreter:
    """Find an interpreter by path or command; None means the one that this environment was created with.

    Raises
    ------
    StartError
        It cannot be run, or is older than 3.11.
    """
    # The environment's own interpreter would find packages that no implementation contains.
    found = shutil.which(name) if name else getattr(sys, "_base_executable", sys.executable)
    script = "import sys; print('%d.%d.%d' % sys.version_info[:3]); sys.exit(sys.version_info < (3, 11))"
    try:
        printed = subprocess.run([found or str(name), "-c", script], check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        raise StartError(f"{name or found} is not Python 3.11 or newer") from None
    return Interpreter(Path(found or "").absolute(), printed.strip())


def prepare(python: Interpreter, folder: Path, rule_set: Any) -> list[Implementation]:
    """Build all implementations, this service first; ``folder`` receives their functions.

    ``rule_set`` is the rule set document for this service. The baselines have the same rules in their code.
    """
    baselines = BASELINES | HISTORY_BASELINES | FOREST_BASELINES
    with _locked_cache():
        # A copy, because another checkout may rebuild the layer in the meantime.
        layer = shutil.copytree(_layer(python), folder / "layer")
        installed = {name: _packages(name, _BASELINES / name / "requirements.txt", python) for name in baselines}
        forest = shutil.copytree(_forest(), folder / "forest")
    packages = layer / "python"
    scorers = packages / "scoring" / "scorers"
    (scorers / "rules.json").write_text(json.dumps(rule_set), encoding="utf-8")
    shutil.copy(forest / "forest.model", scorers)
    samples = _samples(forest / "samples.json")
    roots = packages / "scoring" / "aws" / "amazon-roots.pem"
    ours = Implementation(OURS, own_function("score", folder), packages, roots, packs_bytecode=True)
    history = own_function("score", folder / "history")
    found = [
        ours,
        replace(ours, name=OURS_HISTORY, function=history, customer="C1"),
        replace(ours, name=OURS_FOREST, samples=samples, scorer="forest"),
        replace(ours, name=OURS_RULES, samples=tuple(Sample(one.body) for one in samples)),
    ]
    for name, title in baselines.items():
        function = folder / name
        function.mkdir()
        for file in (_BASELINES / name / "app.py", *_BASELINES.glob("*.py")):
            shutil.copy(file, function)
        _compile(function, python)
        one = Implementation(title, function, installed[name], installed[name] / "botocore" / "cacert.pem")
        if name in HISTORY_BASELINES:
            # A customer of its own, since its profiles have another format.
            one = replace(one, customer="C2")
        if name in FOREST_BASELINES:
            shutil.copy(forest / "forest.pickle", function)
            one = replace(one, samples=samples)
        found.append(one)
    return found


def own_function(name: str, folder: Path) -> Path:
    """Copy a function of this service as ``sam build`` does, without bytecode."""
    return shutil.copytree(ROOT / "functions" / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))


def runtime_client(python: Interpreter) -> Path:
    """Install ``awslambdaric``, with which a function talks to Lambda, and return its folder."""
    with _locked_cache():
        return _packages("runtime", _HERE / "requirements-runtime.txt", python)


def _packages(name: str, requirements: Path, python: Interpreter) -> Path:
    def install(folder: Path) -> None:
        # No dependencies: the file names them all, and pip would resolve them for its own interpreter.
        options = ["--require-hashes", "--no-deps", "--no-compile", "--only-binary=:all:"]
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *options]
        _run([*pip, "--python-version", python.minor, "--target", str(folder), "--requirement", str(requirements)])
        _compile(folder, python)

    return cached(name, [requirements], python, install)


def _layer(python: Interpreter) -> Path:
    """Build the layer as ``sam build`` does if the functions' interpreter is installed."""

    def build(folder: Path) -> None:
        make = ["make", "--silent", "-C", str(_LAYER), "build-ScoringLayer", f"ARTIFACTS_DIR={folder}"]
        # The PYTHON of `make bench PYTHON=...` must not reach the layer's Makefile.
        environment = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKEOVERRIDES"}}
        environment["PATH"] = f"{python.path.parent}{os.pathsep}{environment['PATH']}"
        _run([*make, f"PYTHON={sys.executable}", f"FUNCTION_PYTHON={python.minor}"], environment)
        if not any(folder.rglob("*.pyc")):
            raise StartError(f"the layer has no bytecode: there is no python{python.minor} beside {python.path}")

    sources = [file for file in sorted(_LAYER.rglob("*")) if file.is_file() and file.suffix != ".pyc"]
    return cached("layer", sources, python, build)


def _forest() -> Path:
    """Train the forest that this service and scikit-learn decide by."""
    script = _HERE / "forest_training.py"

    def train(folder: Path) -> None:
        module = ["-m", f"tests.performance.{script.stem}", str(folder)]
        _run([str(_OFFLINE_PYTHON), *module], os.environ | {"PYTHONPATH": f"{_LAYER}{os.pathsep}{ROOT}"})

    forest = _LAYER / "scoring" / "scorers" / "forest"
    code = [file for of in (_OFFLINE, forest) for file in sorted(of.glob("*.py"))]
    sources = [script, ROOT / "tests" / "data" / "sparkov_slim.csv.gz", _OFFLINE / "requirements.txt", *code]
    return cached("forest", sources, interpreter(str(_OFFLINE_PYTHON)), train)


def _samples(file: Path) -> tuple[Sample, ...]:
    return tuple(
        Sample(json.dumps(one["transaction"]), Opinion(one["probability"], one["level"]))
        for one in json.loads(file.read_text(encoding="utf-8"))
    )


def cached(name: str, sources: list[Path], python: Interpreter, build: Callable[[Path], None]) -> Path:
    """Return a folder in the cache, and build it first if its sources have changed."""
    folder = CACHE / python.minor / name
    stamp = folder / "made-from"
    digest = hashlib.sha256()
    for source in sources:
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    if not stamp.exists() or stamp.read_text() != digest.hexdigest():
        print(f"Setting up {folder.relative_to(ROOT)} (once) ...", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        build(folder / "made")
        stamp.write_text(digest.hexdigest())
    return folder / "made"


def _compile(folder: Path, python: Interpreter) -> None:
    """Compile bytecode that is not checked against its source, like the layer's on Lambda."""
    compileall = [str(python.path), "-S", "-m", "compileall", "-q", "-j", "0"]
    _run([*compileall, "--invalidation-mode", "unchecked-hash", str(folder)])


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    except OSError as error:
        raise StartError(f"cannot run {command[0]}: {error.strerror}") from None
    if done.returncode:
        last_line = (done.stderr or done.stdout).strip().rpartition("\n")[2]
        raise StartError(f"{' '.join(command)} failed: {last_line}")


@contextmanager
def _locked_cache() -> Iterator[None]:
    """Wait for other processes that use the cache."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
