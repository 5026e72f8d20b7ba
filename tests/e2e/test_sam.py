"""The real SAM CLI: ``sam build``, and ``sam local`` with containers if a Docker engine is running.

Uses ``samconfig.toml`` unchanged. Only ports and the architecture are this machine's: containers of the other
architecture would need emulation.
"""

import json
import marshal
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from scoring import scorers
from scoring.scorers.forest import model_file
from scoring.scorers.forest.scorer import ForestScorer
from tests import events
from tests.e2e import deployment
from tests.e2e.deployment import ARCHITECTURE, SAM
from tests.expected import RESPONSES
from tests.forests import decide_again
from tests.integration import test_lab
from tests.local import account, emulator, template
from tests.local.processes import StartError, free_port
from tests.local.template import ROOT
from tests.rule_set import DOCUMENT, R1, RULE_SET
from tests.service import RunningService

# The command in events/README.md, and an event of each other kind that a function handles.
INVOKED = "score-critical", "reconcile", "alert", "stream-msk"
IMAGE = f"*/lambda/python:3.13-{ARCHITECTURE}"
START_SECONDS = 300
STOP_SECONDS = 60
# Files of the documentation function, with the licence of Swagger UI
DOCS = {
    *("index.html", "initializer.js", "style.css"),
    *("swagger-ui/LICENSE", "swagger-ui/swagger-ui-bundle.js.gz", "swagger-ui/swagger-ui.css.gz"),
}
ENVIRONMENT = {
    **os.environ,
    # SAM CLI asks STS for the account; this port refuses the connection at once.
    "AWS_ENDPOINT_URL_STS": "http://127.0.0.1:9",
    "AWS_MAX_ATTEMPTS": "1",
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
}


def sam(*arguments: object, root: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    command = [str(SAM), *map(str, arguments)]
    result = subprocess.run(command, cwd=root, env=ENVIRONMENT, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result


@pytest.fixture(scope="module", params=["arm64", "x86_64"])
def build(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of ``sam build`` for one architecture."""
    folder = tmp_path_factory.mktemp(request.param)
    sam("build", "--build-dir", folder, "--parameter-overrides", f"Architecture={request.param}")
    return folder


def test_layer_holds_the_imported_packages_without_native_code(build: Path) -> None:
    python = build / "ScoringLayer" / "python"
    for name in ("rules.json", "forest.model"):
        shipped = ROOT / "functions" / "layer" / "scoring" / "scorers" / name
        assert (python / "scoring" / "scorers" / name).read_bytes() == shipped.read_bytes()
    # Pure Python: one layer serves both architectures.
    assert not [path for path in python.rglob("*") if path.suffix in {".so", ".pyd", ".dylib"}]
    assert {path.name for path in python.iterdir() if path.is_dir() and path.suffix != ".dist-info"} == {
        "aws_lambda_powertools",
        "jmespath",
        "scoring",
    }


def test_build_with_invalid_rules_fails_with_the_reason(tmp_path: Path) -> None:
    root = deployment.deployable_copy(tmp_path / "checkout")
    document = json.dumps(DOCUMENT).replace('"points": 3', '"points": "3"')
    (root / "functions/layer/scoring/scorers/rules.json").write_text(document, encoding="utf-8")
    result = subprocess.run([SAM, "build"], cwd=root, env=ENVIRONMENT, check=False, capture_output=True, text=True)
    assert result.returncode != 0
    assert f"rules.json: Rule '{R1}': 'points' must be an integer from -1000000 to 1000000\n" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.fixture(scope="module", params=[True, False], ids=["with bytecode", "without"])
def layer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bool]:
    """The layer for the Python of these tests, and whether that Python was found during the build."""
    folder = tmp_path_factory.mktemp("layer")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if not request.param:
        # A version manager has such a shim for versions that are not selected.
        (folder / f"python{version}").write_text("#!/bin/sh\nexit 127\n")
        (folder / f"python{version}").chmod(0o755)
    path = f"{folder}{os.pathsep}{ENVIRONMENT['PATH']}"
    built = folder / "built"
    subprocess.run(
        ["make", "build-ScoringLayer", f"ARTIFACTS_DIR={built}", f"FUNCTION_PYTHON={version}"],
        cwd=ROOT / "functions" / "layer",
        env={**ENVIRONMENT, "PATH": path},
        check=True,
        capture_output=True,
    )
    return built / "python", request.param


def test_layer_is_at_most_2_mb(layer: tuple[Path, bool]) -> None:
    python, _ = layer
    assert sum(path.stat().st_size for path in python.rglob("*") if path.is_file()) <= 2_000_000


def test_layer_is_compiled_if_possible_and_keeps_our_sources(layer: tuple[Path, bool]) -> None:
    python, compiled = layer
    sources, bytecode = ({path.relative_to(python) for path in python.rglob(f"*.{kind}")} for kind in ("py", "pyc"))
    ours = {source for source in sources if source.parts[0] == "scoring"}
    layer_sources = ROOT / "functions" / "layer"
    assert ours == {path.relative_to(layer_sources) for path in (layer_sources / "scoring").rglob("*.py")}
    tag = sys.implementation.cache_tag
    of_ours = {source.parent / "__pycache__" / f"{source.stem}.{tag}.pyc": source for source in ours}
    of_packages = {Path("jmespath/parser.pyc"), Path("aws_lambda_powertools/__init__.pyc")}
    if compiled:
        assert sources == ours
        assert of_ours.keys() == {path for path in bytecode if path.parts[0] == "scoring"}
        assert of_packages < bytecode
        # Unchecked bytecode: modification times do not survive deployment.
        assert {(python / path).read_bytes()[4] for path in of_ours} == {0b01}
        # Tracebacks show the paths on Lambda.
        for path, source in [*of_ours.items(), *((one, one) for one in of_packages)]:
            code = marshal.loads((python / path).read_bytes()[16:])  # noqa: S302  just built
            assert code.co_filename == f"/opt/python/{source.with_suffix('.py')}"
    else:
        assert {path.with_suffix(".py") for path in of_packages} < sources
        assert not bytecode


def test_layer_needs_no_other_packages(layer: tuple[Path, bool]) -> None:
    python, _ = layer
    modules = ["aws_lambda_powertools", "scoring"]
    code = f"import {', '.join(modules)}, runpy\n" + "".join(
        f"runpy.run_path({str(ROOT / 'functions' / function / 'app.py')!r})\n"
        for function in ("score", "stats", "transaction", "reconcile", "stream")
    )
    # The alert function also needs boto3, which Lambda has.
    code += "from aws_lambda_powertools.utilities.data_classes.dynamo_db_stream_event import DynamoDBStreamEvent\n"
    code += f"print({', '.join(f'{name}.__file__' for name in modules)})"
    variables = {
        **template.functions()["StreamFunction"].variables,
        **account.CREDENTIALS,
        **emulator.variables("http://127.0.0.1:9"),
        "AWS_DEFAULT_REGION": account.REGION,
        "PYTHONPATH": str(python),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    base = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    result = subprocess.run([base, "-S", "-c", code], env=variables, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count(str(python)) == len(modules)


def test_functions_hold_only_their_handler_and_docs_its_files(build: Path) -> None:
    built = yaml.safe_load((build / "template.yaml").read_text())
    functions = [name for name, one in built["Resources"].items() if one["Type"] == "AWS::Serverless::Function"]
    assert functions
    for name in functions:
        files = {str(path.relative_to(build / name)) for path in (build / name).rglob("*") if path.is_file()}
        assert files == {"app.py"} | (DOCS if name == "DocsFunction" else set())


@pytest.fixture(scope="module")
def sam_local_options(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Build for this machine and start the emulator; yield the options of ``sam local``."""
    try:
        host = emulator.bridge_address()
    except StartError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("containers")
    root = deployment.deployable_copy(folder / "checkout")
    sam("build", "--build-dir", folder / "build", "--parameter-overrides", f"Architecture={ARCHITECTURE}", root=root)
    with emulator.running(host) as endpoint:
        variables = folder / "variables.json"
        port = endpoint.rpartition(":")[2]
        parameters = json.loads((ROOT / "tests/local/containers.json").read_text())
        for name, value in parameters["Parameters"].items():
            parameters["Parameters"][name] = value.replace(":8000", f":{port}")
        variables.write_text(json.dumps(parameters))
        options = [
            *("--template", str(folder / "build" / "template.yaml"), "--config-file", str(ROOT / "samconfig.toml")),
            *("--env-vars", str(variables), "--parameter-overrides", f"Architecture={ARCHITECTURE}"),
        ]
        images = subprocess.run(
            ["docker", "image", "ls", "--quiet", "--filter", f"reference={IMAGE}"], check=True, capture_output=True
        ).stdout
        yield [*options, *(["--skip-pull-image"] if images else [])]


def check_response(name: str, response: Any) -> None:
    expected = RESPONSES[name]
    assert response.get("statusCode") == expected.status, (name, response)
    if expected.status is None:
        assert response == expected.body
    else:
        assert expected.matches(response["body"]), (name, response)


@contextmanager
def serving(command: str, log: Path, *options: str) -> Iterator[str]:
    """Run a server of ``sam local`` and yield its URL; pytest shows its log if the last test fails."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [SAM, "local", command, "--port", str(port), *options],
            cwd=ROOT,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while f"Running on {url}" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        try:
            # It removes its containers.
            process.wait(STOP_SECONDS)
        finally:
            process.kill()
        sys.stdout.write(log.read_text())


def test_every_event_with_sam_local_start_lambda(sam_local_options: list[str], tmp_path: Path) -> None:
    """As ``sam local invoke`` does, but with one container per function, which is faster."""
    options = ["--add-host", "host.docker.internal:host-gateway", "--warm-containers", "LAZY"]
    with serving("start-lambda", tmp_path / "log", *sam_local_options, *options) as url:
        functions = emulator.client("lambda", url)
        for name, expected in RESPONSES.items():
            invoked = functions.invoke(FunctionName=expected.function, Payload=events.path(name).read_bytes())
            check_response(name, json.load(invoked["Payload"]))


@pytest.mark.parametrize("name", INVOKED)
def test_sam_local_invoke(sam_local_options: list[str], name: str) -> None:
    function, event = RESPONSES[name].function, events.path(name)
    output = sam("local", "invoke", function, "--event", event, *sam_local_options).stdout
    check_response(name, json.loads(output.splitlines()[-1]))


def test_sam_local_invoke_with_a_model(sam_local_options: list[str]) -> None:
    options = [f"{one} Scorer=forest" if one.startswith("Architecture=") else one for one in sam_local_options]
    event = events.path("score-critical")
    output = sam("local", "invoke", "ScoreFunction", "--event", event, *options).stdout
    response = json.loads(output.splitlines()[-1])
    check_response("score-critical", response)
    decision = json.loads(response["body"])
    scorer = ForestScorer(RULE_SET, model_file.from_file(scorers.MODEL_FILE))
    expected = decide_again(scorer, json.loads(events.load("score-critical")["body"]), decision)
    # Python 3.12 and newer add floats more exactly.
    contributions, exact = (one.pop("contributions") for one in (decision, expected))
    assert decision == expected
    assert [one["contribution"] for one in contributions] == pytest.approx([one["contribution"] for one in exact])


@pytest.fixture(scope="module")
def service(sam_local_options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """The API of ``sam local start-api``."""
    log = tmp_path_factory.mktemp("start-api") / "log"
    with serving("start-api", log, *sam_local_options) as url:
        yield RunningService(url)


class TestContainerLab(test_lab.TestLab):
    """The lab's requests to the containers of ``sam local start-api``."""


def test_requests_without_key_are_separate_decisions(service: RunningService) -> None:
    """SAM CLI gives equal requests the same request id."""
    ids = {service.post("/score", json={"tx_id": "TX-twice", "amount": 1}).json()["decision_id"] for _ in range(2)}
    assert len(ids) == 2
