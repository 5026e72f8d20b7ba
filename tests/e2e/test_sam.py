"""The real SAM CLI: ``sam build`` anywhere; ``sam local`` with containers where a Docker engine answers.

Uses ``samconfig.toml`` as it stands. Only what belongs to this machine differs: ports, and the architecture, since
containers of the other one would need an emulator.
"""

import json
import marshal
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from scoring import scorers
from tests import events
from tests.e2e import deployment
from tests.e2e.deployment import ARCHITECTURE, SAM
from tests.expected import answers
from tests.integration.service import Service
from tests.local import account, emulator, template
from tests.local.processes import StartError, end, free_port
from tests.local.template import ROOT
from tests.rule_set import DOCUMENT, R1

IMAGE = f"*/lambda/python:3.13-{ARCHITECTURE}"
START_SECONDS = 300
# What the function of the documentation serves, and the licence of what is not its own.
DOCS = {
    *("index.html", "initializer.js", "style.css"),
    *("swagger-ui/LICENSE", "swagger-ui/swagger-ui-bundle.js.gz", "swagger-ui/swagger-ui.css.gz"),
}
ENVIRONMENT = {
    **os.environ,
    # Where SAM CLI asks for the account: a port that refuses at once.
    "AWS_ENDPOINT_URL_STS": "http://127.0.0.1:9",
    "AWS_MAX_ATTEMPTS": "1",
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
}


def sam(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [str(SAM), *map(str, arguments)]
    result = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result


@pytest.fixture(scope="module", params=["arm64", "x86_64"])
def build(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``sam build`` makes for one architecture."""
    folder = tmp_path_factory.mktemp(request.param)
    sam("build", "--build-dir", folder, "--parameter-overrides", f"Architecture={request.param}")
    return folder


def test_the_layer_holds_what_the_functions_import_and_no_native_code(build: Path) -> None:
    python = build / "ScoringLayer" / "python"
    assert (python / "scoring" / "scorers" / "rules.json").is_file()
    # Pure Python, so that one layer serves both architectures
    assert not [path for path in python.rglob("*") if path.suffix in {".so", ".pyd", ".dylib"}]
    assert {path.name for path in python.iterdir() if path.is_dir() and path.suffix != ".dist-info"} == {
        "aws_lambda_powertools",
        "jmespath",
        "scoring",
    }


def test_a_build_with_wrong_rules_fails_and_says_why(tmp_path: Path) -> None:
    root = deployment.checkout(tmp_path / "checkout")
    document = json.dumps(DOCUMENT).replace('"points": 3', '"points": 0')
    (root / "functions/layer/scoring/scorers/rules.json").write_text(document, encoding="utf-8")
    result = subprocess.run([SAM, "build"], cwd=root, env=ENVIRONMENT, check=False, capture_output=True, text=True)
    assert result.returncode != 0
    assert f"rules.json: Rule '{R1}': 'points' must be an integer from 1 to 1000000\n" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.fixture(scope="module", params=[True, False], ids=["with bytecode", "without"])
def layer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bool]:
    """The layer for the Python of these tests, and whether that is found where the layer is built."""
    folder = tmp_path_factory.mktemp("layer")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if not request.param:
        # As a version manager has it for versions that it does not offer at the moment.
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


def test_the_layer_is_small(layer: tuple[Path, bool]) -> None:
    python, _ = layer
    assert sum(path.stat().st_size for path in python.rglob("*") if path.is_file()) <= 1_500_000


def test_the_layer_holds_all_as_bytecode_where_that_can_be_made_and_our_sources_in_any_case(
    layer: tuple[Path, bool],
) -> None:
    python, compiled = layer
    sources, bytecode = ({path.relative_to(python) for path in python.rglob(f"*.{kind}")} for kind in ("py", "pyc"))
    ours = {source for source in sources if source.parts[0] == "scoring"}
    assert {source.name for source in ours} == {path.name for path in (ROOT / "functions/layer/scoring").glob("*.py")}
    of_ours = {source.parent / "__pycache__" / f"{source.stem}.{sys.implementation.cache_tag}.pyc" for source in ours}
    of_packages = {Path("jmespath/parser.pyc"), Path("aws_lambda_powertools/__init__.pyc")}
    if compiled:
        assert sources == ours
        assert of_ours == {path for path in bytecode if path.parts[0] == "scoring"}
        assert of_packages < bytecode
        # Unchecked: the times of files do not survive the way to Lambda.
        assert {(python / path).read_bytes()[4] for path in of_ours} == {0b01}
        # Traces name files as they are called there.
        for path, source in [*zip(sorted(of_ours), sorted(ours), strict=True), *((one, one) for one in of_packages)]:
            code = marshal.loads((python / path).read_bytes()[16:])  # noqa: S302  just built
            assert code.co_filename == f"/opt/python/{source.with_suffix('.py')}"
    else:
        assert {path.with_suffix(".py") for path in of_packages} < sources
        assert not bytecode


def test_the_layer_works_without_anything_else_installed(layer: tuple[Path, bool]) -> None:
    python, _ = layer
    modules = ["aws_lambda_powertools", "scoring"]
    code = f"import {', '.join(modules)}, runpy\n" + "".join(
        f"runpy.run_path({str(ROOT / function / 'app.py')!r})\n"
        for function in ("functions/score", "functions/stats", "functions/transaction", "functions/reconcile")
    )
    code += f"print({', '.join(f'{name}.__file__' for name in modules)})"
    variables = {
        **template.functions()["ScoreFunction"].variables,
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


def test_every_function_is_its_handler_alone_and_docs_what_it_serves(build: Path) -> None:
    built = yaml.safe_load((build / "template.yaml").read_text())
    functions = [name for name, one in built["Resources"].items() if one["Type"] == "AWS::Serverless::Function"]
    assert functions
    for name in functions:
        files = {str(path.relative_to(build / name)) for path in (build / name).rglob("*") if path.is_file()}
        assert files == {"app.py"} | (DOCS if name == "DocsFunction" else set())


@pytest.fixture(scope="module")
def containers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """A build for this machine and a DynamoDB beside it; yields the options that containers here need."""
    try:
        host = emulator.bridge_address()
    except StartError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("containers")
    sam("build", "--build-dir", folder / "build", "--parameter-overrides", f"Architecture={ARCHITECTURE}")
    with emulator.running(host) as endpoint:
        variables = folder / "variables.json"
        port = endpoint.rpartition(":")[2]
        stands = json.loads((ROOT / "tests/local/containers.json").read_text())
        for name, value in stands["Parameters"].items():
            stands["Parameters"][name] = value.replace(":8000", f":{port}")
        variables.write_text(json.dumps(stands))
        options = [
            *("--template", str(folder / "build" / "template.yaml"), "--config-file", str(ROOT / "samconfig.toml")),
            *("--env-vars", str(variables), "--parameter-overrides", f"Architecture={ARCHITECTURE}"),
        ]
        images = subprocess.run(
            ["docker", "image", "ls", "--quiet", "--filter", f"reference={IMAGE}"], check=True, capture_output=True
        ).stdout
        yield [*options, *(["--skip-pull-image"] if images else [])]


def test_sam_local_invoke_with_every_event(containers: list[str]) -> None:
    for name, expected in answers(scorers.load()).items():
        output = sam("local", "invoke", expected.function, "--event", events.path(name), *containers).stdout
        response = json.loads(output.splitlines()[-1])
        assert response.get("statusCode") == expected.status, (name, output)
        if expected.status is None:
            assert response == expected.body
        else:
            assert expected.holds(response["body"]), (name, output)


def test_the_lab_passes_against_sam_local_start_api(containers: list[str], tmp_path: Path) -> None:
    port = free_port()
    log = tmp_path / "start-api.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [SAM, "local", "start-api", "--port", str(port), *containers],
            cwd=ROOT,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    service = Service(f"http://127.0.0.1:{port}")
    try:
        deadline = time.monotonic() + START_SECONDS
        while f"Running on {service.url}" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        lab = subprocess.run(
            [sys.executable, "-m", "pytest", "tests/integration/test_lab.py", "-q", "-p", "no:cacheprovider"],
            cwd=ROOT,
            env={**os.environ, "API_URL": service.url},
            check=False,
            capture_output=True,
            text=True,
        )
        assert lab.returncode == 0, lab.stdout + log.read_text()
        # Without a key, two equal requests are two requests here as well, though SAM CLI gives them one request id.
        ids = {service.post("/score", json={"tx_id": "TX-twice", "amount": 1}).json()["decision_id"] for _ in range(2)}
        assert len(ids) == 2
    finally:
        end(process)
