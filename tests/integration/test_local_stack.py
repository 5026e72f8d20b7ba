"""``make run`` as a person meets it: starting, ending, editing, and what goes wrong."""

import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import requests
from tests.service import SAM_PYTHON, TIMEOUT_SECONDS, LocalStack, started

from scoring.errors import StoreUnavailable
from scoring.ledger.outbox import encode
from tests.local import emulator
from tests.local.processes import free_port
from tests.local.template import ROOT
from tests.rule_set import decide


def running() -> dict[int, int]:
    """Parent of every process that runs; a zombie does not."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:  # ended meanwhile
            continue
        if state != "Z":
            parents[int(stat.parent.name)] = int(parent)
    return parents


def descendants(pid: int) -> set[int]:
    """Process ids of all children, and theirs."""
    parents = running()
    found: set[int] = set()
    while more := {child for child, parent in parents.items() if parent in found | {pid}} - found:
        found |= more
    return found


def processes_of(stack: LocalStack, program: str) -> set[int]:
    """Process ids of the descendants of a stack whose command line has this word."""
    lines = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in descendants(stack.process.pid)}
    return {pid for pid, line in lines.items() if program.encode() in line}


def wait_for_end(pids: set[int]) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while left := pids & running().keys():
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def test_it_says_where_it_is_and_what_to_try(service: LocalStack) -> None:
    printed = service.log.read_text()
    assert printed.startswith(f"\nRisk scoring at {service.url}")
    assert printed.count(f"curl {service.url}") == 3
    assert f"In the browser: {service.url}/docs\n" in printed


def test_a_round_trip_takes_less_than_60_ms(service: LocalStack) -> None:
    latencies = []
    for number in range(100):
        start = time.perf_counter()
        assert service.post("/score", json={"amount": number}).status_code == 200
        latencies.append(time.perf_counter() - start)
    assert statistics.median(latencies) < 0.06


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_it_starts_in_5_seconds_and_leaves_no_process_behind(tmp_path: Path, ending: signal.Signals) -> None:
    start = time.monotonic()
    with started(tmp_path / "stack.log") as stack:
        assert time.monotonic() - start < 5
        stack.post("/score", json={"amount": 1})
        stack.get("/stats")
        processes = descendants(stack.process.pid)
        # DynamoDB, and an environment each for health, score and stats
        assert len(processes) == 4
        stack.process.send_signal(ending)
        stack.process.wait(TIMEOUT_SECONDS)
        wait_for_end(processes)
    assert "Traceback" not in (tmp_path / "stack.log").read_text()


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_a_function_at_work_is_not_left_behind_either(checkout: Path, tmp_path: Path, ending: signal.Signals) -> None:
    app = checkout / "functions/health/app.py"
    template = checkout / "template.yaml"
    template.write_text(template.read_text().replace("Timeout: 10", "Timeout: 3"))
    with started(tmp_path / "stack.log", checkout) as stack, ThreadPoolExecutor() as pool:
        app.write_text(app.read_text().replace("    return", "    while True: pass\n    return"))
        pending = pool.submit(stack.get, "/health")
        time.sleep(1)
        processes = descendants(stack.process.pid)
        stack.process.send_signal(ending)
        stack.process.wait(TIMEOUT_SECONDS)
        wait_for_end(processes)
        assert pending.exception() or pending.result().status_code >= 500


def test_ctrl_c_works_where_it_was_ignored(tmp_path: Path) -> None:
    """As in a stack that a script started in its background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with started(tmp_path / "stack.log") as stack:
            stack.process.send_signal(signal.SIGINT)
            assert stack.process.wait(TIMEOUT_SECONDS) == 0
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_variables_of_this_machine_stay_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = "http://127.0.0.1:9"
    for name, value in {
        "AWS_PROFILE": "of-the-user",
        "AWS_ENDPOINT_URL": nobody,
        "DECISIONS_TABLE": "Other",
        "STATS_SHARDS": "0",
    }.items():
        monkeypatch.setenv(name, value)
    with started(tmp_path / "stack.log") as stack:
        assert stack.post("/score", json={"amount": 1}).status_code == 200
        assert stack.stats()["total"] == 1


def test_an_environment_that_died_is_replaced(tmp_path: Path) -> None:
    with started(tmp_path / "stack.log") as stack:
        stack.post("/score", json={"amount": 1})
        environments = processes_of(stack, "bootstrap")
        assert len(environments) == 2
        for pid in environments:
            os.kill(pid, signal.SIGKILL)
        wait_for_end(environments)
        assert stack.post("/score", json={"amount": 1}).status_code == 200
        assert stack.get("/health").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "allowed"),
    [
        ("HEAD", "/", 405, "GET"),
        ("HEAD", "/health", 405, "GET"),
        ("HEAD", "/score", 405, "POST"),
        ("HEAD", "/docs", 405, "GET"),
        ("POST", "/docs/swagger-ui.css", 405, "GET"),
        ("GET", "/docs/", 404, None),
        ("GET", "/docs/a/b", 404, None),
        ("GET", "/docs/..%2fapp.py", 404, None),
        ("OPTIONS", "/stats", 405, "GET"),
        ("TRACE", "/score", 405, "POST"),
        ("PROPFIND", "/nowhere", 404, None),
        ("POST", "/score/", 404, None),
        ("GET", "/transaction//x", 404, None),
        ("GET", "/x//health", 404, None),
        ("GET", "/transaction/", 404, None),
        ("GET", "/nowhere%0d%0aSet-Cookie:%20x=1", 404, None),
        ("DELETE", "/transaction/a", 405, "GET"),
        ("DELETE", "/transaction/a/b", 404, None),
    ],
)
def test_what_no_route_takes(service: LocalStack, method: str, path: str, status: int, allowed: str | None) -> None:
    response = requests.request(method, service.url + path, timeout=TIMEOUT_SECONDS, allow_redirects=False)
    assert (response.status_code, response.headers.get("Allow")) == (status, allowed)
    assert "Set-Cookie" not in response.headers
    if method != "HEAD":
        assert list(response.json()) == ["error"]


def test_edits_are_picked_up_with_the_next_request(checkout: Path, tmp_path: Path) -> None:
    rules = checkout / "functions/layer/scoring/scorers/rules.json"
    app = checkout / "functions/health/app.py"
    with started(tmp_path / "stack.log", checkout) as stack:
        assert stack.post("/score", json={"amount": 2500}).json()["score"] == 0
        rules.write_text(rules.read_text().replace("3000}", "2000}").replace("1.0-tests", "1.1-tests"))
        answer = stack.post("/score", json={"amount": 2500}).json()
        assert (answer["score"], answer["version"]) == (3, "1.1-tests")
        assert stack.get("/health").json()["version"] == "1.1-tests"
        app.write_text(app.read_text().replace('"ok"', '"edited"'))
        assert stack.get("/health").json()["status"] == "edited"
        # The counters are DynamoDB's, which was not touched.
        assert stack.stats()["total"] == 2


@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        (('"ok"', "1 / 0"), "ZeroDivisionError"),
        (("return", "retrun"), "SyntaxError"),
        (("from scoring import ", "from scoring import missing, "), "ImportError"),
    ],
)
def test_a_fault_of_the_code_is_a_500_without_its_trace(
    checkout: Path, tmp_path: Path, edit: tuple[str, str], fault: str
) -> None:
    app = checkout / "functions/health/app.py"
    with started(tmp_path / "stack.log", checkout) as stack:
        app.write_text(app.read_text().replace(*edit))
        response = stack.get("/health")
        assert (response.status_code, response.json()) == (500, {"message": "Internal server error"})
    log = (tmp_path / "stack.log").read_text()
    assert "Traceback" in log
    assert fault in log


@pytest.mark.parametrize("place", ["handler", "import"])
def test_a_function_that_hangs_is_stopped_at_its_timeout(checkout: Path, tmp_path: Path, place: str) -> None:
    app = checkout / "functions/lab/app.py"
    template = checkout / "template.yaml"
    template.write_text(template.read_text().replace("Timeout: 10", "Timeout: 2"))
    hang = "import time; time.sleep(60)\n"
    with started(tmp_path / "stack.log", checkout) as stack:
        text = app.read_text()
        app.write_text(
            text + hang
            if place == "import"
            else text.replace("    return ENDPOINTS", f"    {hang}    return ENDPOINTS")
        )
        start = time.monotonic()
        # Larger than a pipe, which a function that hangs does not empty
        assert stack.post("/echo", json="x" * 300_000).status_code >= 500
        assert 1 < time.monotonic() - start < 10
        app.write_text(text)
        assert stack.get("/status").status_code == 200
    log = (tmp_path / "stack.log").read_text()
    assert "LabFunction: Task timed out after 2.00 seconds" in log
    assert "Exception ignored" not in log


@contextmanager
def store_that_is_silent(log: Path) -> Iterator[LocalStack]:
    """A stack whose emulator takes connections and says nothing."""
    with started(log) as stack:
        stack.post("/score", json={"tx_id": "TX1", "amount": 1})
        (store,) = processes_of(stack, "ministack")
        os.kill(store, signal.SIGSTOP)
        yield stack


@contextmanager
def store_that_refuses(log: Path) -> Iterator[LocalStack]:
    """A stack whose functions look for the store where nothing listens."""
    nowhere = f"emulator.variables = lambda _, to=emulator.variables('http://127.0.0.1:{free_port()}'): to"
    program = f"from tests.local import emulator, stack; {nowhere}; stack.main()"
    with started(log, arguments=("-c", program, "--port", "0")) as stack:
        yield stack


@pytest.mark.parametrize("store", [store_that_is_silent, store_that_refuses])
def test_missing_store_is_503(tmp_path: Path, store: Callable[[Path], AbstractContextManager[LocalStack]]) -> None:
    log = tmp_path / "stack.log"
    with store(log) as stack:
        for response in (
            stack.post("/score", json={"amount": 1}),
            stack.get("/stats"),
            stack.get("/transaction/TX1"),
        ):
            assert response.status_code == 503
            # `make run` starts the store itself; only `sam local` names the command.
            assert response.json() == {"error": str(StoreUnavailable())}
            assert int(response.headers["Retry-After"]) > 0
            assert response.elapsed.total_seconds() < 5
        assert stack.get("/health").status_code == 200
    printed = log.read_text()
    assert re.search(r"^[\d:]+  ERROR  store unavailable  reason=\w+  decision_id=\S+$", printed, re.MULTILINE)
    assert re.search(r"^[\d:]+  503  GET /stats  The store cannot be reached .*  \d+ ms$", printed, re.MULTILINE)


@pytest.mark.parametrize(
    ("ending", "how"), [(signal.SIGKILL, "was killed by SIGKILL"), (signal.SIGTERM, "ended with exit code 0")]
)
def test_stack_exits_when_the_emulator_dies(tmp_path: Path, ending: signal.Signals, how: str) -> None:
    log = tmp_path / "stack.log"
    with started(log) as stack:
        stack.post("/score", json={"amount": 1})
        processes = descendants(stack.process.pid)
        (store,) = processes_of(stack, "ministack")
        before = log.read_text()
        os.kill(store, ending)
        assert stack.process.wait(TIMEOUT_SECONDS) == 1
        wait_for_end(processes)
    assert log.read_text().removeprefix(before) == (
        f"error: the emulator of DynamoDB and SQS {how} and its data is lost; run the command again\n"
    )


def test_the_end_of_the_emulator_ends_its_command(tmp_path: Path) -> None:
    """As ``make emulator``, without Docker's bridge."""
    program = "from tests.local import emulator; emulator.bridge_address = lambda: '127.0.0.1'; emulator.main()"
    with (tmp_path / "log").open("wb") as output:
        process = subprocess.Popen(
            [SAM_PYTHON, "-c", program, "--port", str(free_port())], cwd=ROOT, stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while "Ctrl-C ends it" not in (tmp_path / "log").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        (store,) = descendants(process.pid)
        os.kill(store, signal.SIGKILL)
        assert process.wait(TIMEOUT_SECONDS) == 1
    finally:
        process.kill()
        process.wait()
    _, told = (tmp_path / "log").read_text().splitlines()
    assert told.startswith("error: the emulator of DynamoDB and SQS was killed by SIGKILL")


def test_what_waits_in_the_outbox_is_recorded(tmp_path: Path) -> None:
    with started(tmp_path / "stack.log") as stack:
        (store,) = processes_of(stack, "ministack")
        variables = Path(f"/proc/{store}/environ").read_bytes().decode().split("\0")
        (port,) = (variable.partition("=")[2] for variable in variables if variable.startswith("GATEWAY_PORT="))
        message = encode(decide({"tx_id": "TX1", "amount": 1}, "k1"))
        emulator.client("sqs", f"http://127.0.0.1:{port}").send_message(QueueUrl="OutboxQueue", MessageBody=message)
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while stack.stats()["total"] == 0:
            assert time.monotonic() < deadline
        assert stack.get("/transaction/TX1").json()["decisions"][0]["decision_id"] == "k1"
        while not re.search(r"  INFO  recorded from the outbox  decision_id=k1\b", stack.log.read_text()):
            assert time.monotonic() < deadline


def test_a_port_in_use_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command: list[str | Path] = [SAM_PYTHON, "-m", "tests.local.stack", "--port", str(port)]
        result = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    assert result.returncode == 1
    assert (result.stdout, result.stderr) == (
        "",
        f"error: port {port} on 127.0.0.1 cannot be used: Address already in use\n",
    )


def test_its_port_is_its_own_from_the_start(tmp_path: Path) -> None:
    port, other = free_port(), free_port()
    emulator_first_tries_it = f"processes._untried_ports = iter([{port}, {other}])"
    program = f"from tests.local import processes, stack; {emulator_first_tries_it}; stack.main()"
    with started(tmp_path / "stack.log", arguments=("-c", program, "--port", str(port))) as stack:
        assert stack.url == f"http://127.0.0.1:{port}"
        assert stack.stats()["total"] == 0


def test_a_free_port_is_none_that_anybody_else_gets_by_chance() -> None:
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    ports = [free_port() for _ in range(100)]
    assert len(set(ports)) == 100
    assert not any(first <= port <= last for port in ports)


@pytest.mark.parametrize("port", ["abc", "-1", "70000", ""])
def test_what_is_no_port_is_one_line(port: str) -> None:
    command: list[str | Path] = [SAM_PYTHON, "-m", "tests.local.stack", f"--port={port}"]
    result = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1
    assert ("port 70000" if port == "70000" else f"{port!r} is not a port number") in result.stderr


def test_an_unknown_format_of_logs_is_one_line() -> None:
    command: list[str | Path] = [SAM_PYTHON, "-m", "tests.local.stack", "--logs", "xml"]
    result = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "error: LOGS must be text or json, not 'xml'\n"


def install(folder: Path, requirements: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["tests/local/virtualenv.sh", folder, requirements],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **variables},
    )


def test_a_missing_python_is_one_line(tmp_path: Path) -> None:
    result = install(tmp_path / "venv", tmp_path / "requirements.txt", PYTHON="python-that-is-not-there")
    assert result.returncode == 1
    assert result.stderr.startswith("error: Python 3.11 or newer is needed, not found as python-that-is-not-there;")
    assert len((result.stdout + result.stderr).splitlines()) == 1


@pytest.mark.parametrize("missing", ["venv", "ensurepip"])
def test_a_python_without_venv_is_one_line_and_nothing_is_installed(tmp_path: Path, missing: str) -> None:
    """As on Debian without python3-venv, also for root."""
    tools = tmp_path / "tools"
    tools.mkdir()
    called = tmp_path / "called"
    (tools / "apt-get").write_text(f"#!/bin/sh\necho apt-get >> {called}\n")
    # Python knows a module that is None in sys.modules as one that cannot be imported.
    lacking = f"import sys; sys.modules[{missing!r}] = None; exec(sys.argv.pop(1))"
    (tools / "lacking-python").write_text(f'#!/bin/sh\nshift\nexec {sys.executable} -c "{lacking}" "$@"\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    result = install(tmp_path / "venv", tmp_path / "requirements.txt", PYTHON="lacking-python", PATH=path)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        "error: lacking-python cannot make virtual environments; on Debian or Ubuntu: apt-get install python3-venv\n"
    )
    assert not called.exists()
    assert not (tmp_path / "venv").exists()


def test_a_failed_install_is_one_line_and_can_be_tried_again(tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("./no-such-package\n")
    result = install(tmp_path / "venv", requirements)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "failed: ERROR: Invalid requirement: './no-such-package'" in result.stderr
    assert not (tmp_path / "venv" / "ready").exists()
    requirements.write_text("")
    assert install(tmp_path / "venv", requirements).returncode == 0
    assert (tmp_path / "venv" / "ready").exists()


@pytest.mark.parametrize("works", [True, False], ids=["python3.13", "no python3.13"])
def test_a_build_without_the_functions_python_ends_with_a_warning(checkout: Path, *, works: bool) -> None:
    for name in ("Makefile", "samconfig.toml"):
        shutil.copy(ROOT / name, checkout)
    tools = checkout / "app" / "bin"
    tools.mkdir(parents=True)
    for name, python in (("python3", sys.executable), ("python3.13", sys.executable if works else "false")):
        (tools / name).write_text(f'#!/bin/sh\nexec {python} "$@"\n')
        (tools / name).chmod(0o755)
    installed = ("app/ready", ".tools/sam/ready", ".tools/ministack/ready", "functions/docs/swagger-ui/LICENSE")
    command = ["make", "build", "APP=app", *(f"--old-file={file}" for file in installed)]
    build = subprocess.run(command, cwd=checkout, check=False, capture_output=True, text=True)
    assert build.returncode == 0, build.stderr
    warned = build.stderr.splitlines()[-1].startswith("warning: ")
    assert warned != works


def test_a_body_that_is_not_utf_8_is_the_callers_mistake(service: LocalStack) -> None:
    response = service.post("/score", data=b'{"tx_id": "\xff"}', headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()) == (400, {"error": "The body is not valid UTF-8"})
