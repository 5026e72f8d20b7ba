"""``make run``: start, stop, edits, and errors."""

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import requests

from scoring.errors import StoreUnavailable
from scoring.ledger.outbox import encode
from tests.local import emulator
from tests.local.processes import free_port
from tests.local.template import ROOT
from tests.rule_set import decide
from tests.service import SAM_PYTHON, TIMEOUT_SECONDS, LocalStack, started


def process_parents() -> dict[int, int]:
    """Return the parent of every running process, without zombies."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:  # has ended
            continue
        if state != "Z":
            parents[int(stat.parent.name)] = int(parent)
    return parents


def descendants(pid: int) -> set[int]:
    """Return the ids of all child processes and theirs."""
    parents = process_parents()
    found: set[int] = set()
    while more := {child for child, parent in parents.items() if parent in found | {pid}} - found:
        found |= more
    return found


def processes_of(stack: LocalStack, program: str) -> set[int]:
    """Return the ids of the stack's processes whose command line contains this word."""
    lines = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in descendants(stack.process.pid)}
    return {pid for pid, line in lines.items() if program.encode() in line}


def wait_for_end(pids: set[int]) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while left := pids & process_parents().keys():
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def test_start_prints_the_url_and_examples(service: LocalStack) -> None:
    printed = service.log.read_text()
    assert printed.startswith(f"\nRisk scoring at {service.url}")
    assert printed.count(f"curl {service.url}") == 3
    assert f"In the browser: {service.url}/docs\n" in printed


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_leaves_no_process(tmp_path: Path, ending: signal.Signals) -> None:
    with started(tmp_path / "stack.log") as stack:
        stack.post("/score", json={"amount": 1})
        stack.get("/stats")
        processes = descendants(stack.process.pid)
        # The emulator and one environment each for health, score and stats
        assert len(processes) == 4
        stack.process.send_signal(ending)
        stack.process.wait(TIMEOUT_SECONDS)
        wait_for_end(processes)
    assert "Traceback" not in (tmp_path / "stack.log").read_text()


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_busy_function_is_stopped_too(checkout: Path, tmp_path: Path, ending: signal.Signals) -> None:
    template = checkout / "template.yaml"
    template.write_text(template.read_text().replace("Timeout: 10", "Timeout: 3"))
    busy = ("functions/health/app.py", "    return", "    while True: pass\n    return")
    with started(tmp_path / "stack.log", checkout) as stack, stack.edited(*busy), ThreadPoolExecutor() as pool:
        pending = pool.submit(stack.get, "/health")
        time.sleep(1)
        processes = descendants(stack.process.pid)
        stack.process.send_signal(ending)
        stack.process.wait(TIMEOUT_SECONDS)
        wait_for_end(processes)
        assert pending.exception() or pending.result().status_code >= 500


def test_ctrl_c_stops_the_stack_if_sigint_was_ignored(tmp_path: Path) -> None:
    """Scripts start background processes this way."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with started(tmp_path / "stack.log") as stack:
            stack.process.send_signal(signal.SIGINT)
            assert stack.process.wait(TIMEOUT_SECONDS) == 0
    finally:
        signal.signal(signal.SIGINT, before)


def test_environment_variables_of_the_user_are_ignored(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unreachable = "http://127.0.0.1:9"
    for name, value in {
        "AWS_PROFILE": "of-the-user",
        "AWS_ENDPOINT_URL": unreachable,
        "DECISIONS_TABLE": "Other",
        "STATS_SHARDS": "0",
    }.items():
        monkeypatch.setenv(name, value)
    with started(tmp_path / "stack.log", checkout) as stack:
        assert stack.post("/score", json={"amount": 1}).status_code == 200
        assert stack.stats()["total"] == 1


def test_dead_environment_is_replaced(stack: LocalStack) -> None:
    stack.post("/score", json={"amount": 1})
    stack.get("/health")
    environments = processes_of(stack, "bootstrap")
    assert len(environments) >= 2
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
def test_unmatched_request(service: LocalStack, method: str, path: str, status: int, allowed: str | None) -> None:
    response = requests.request(method, service.url + path, timeout=TIMEOUT_SECONDS, allow_redirects=False)
    assert (response.status_code, response.headers.get("Allow")) == (status, allowed)
    assert "Set-Cookie" not in response.headers
    if method != "HEAD":
        assert list(response.json()) == ["error"]


def test_edits_apply_to_the_next_request(stack: LocalStack) -> None:
    rules = "functions/layer/scoring/scorers/rules.json"
    before = stack.stats()["total"]
    assert stack.post("/score", json={"amount": 2500}).json()["score"] == 0
    with stack.edited(rules, "3000}", "2000}"), stack.edited(rules, "1.0-tests", "1.1-tests"):
        scored = stack.post("/score", json={"amount": 2500}).json()
        assert (scored["score"], scored["version"]) == (3, "1.1-tests")
        assert stack.get("/health").json()["version"] == "1.1-tests"
    with stack.edited("functions/health/app.py", '"ok"', '"edited"'):
        assert stack.get("/health").json()["status"] == "edited"
    # The emulator keeps its data.
    assert stack.stats()["total"] == before + 2


@pytest.mark.parametrize(
    ("edit", "error"),
    [
        (('"ok"', "1 / 0"), "ZeroDivisionError"),
        (("return", "retrun"), "SyntaxError"),
        (("from scoring import ", "from scoring import missing, "), "ImportError"),
    ],
)
def test_exception_is_a_500_without_its_traceback(stack: LocalStack, edit: tuple[str, str], error: str) -> None:
    before = stack.log.read_text()
    with stack.edited("functions/health/app.py", *edit):
        response = stack.get("/health")
    assert (response.status_code, response.json()) == (500, {"message": "Internal server error"})
    log = stack.log.read_text().removeprefix(before)
    assert "Traceback" in log
    assert error in log


def test_hanging_function_is_stopped_at_its_timeout(checkout: Path, tmp_path: Path) -> None:
    template = checkout / "template.yaml"
    template.write_text(template.read_text().replace("Timeout: 10", "Timeout: 2"))
    hang = "import time; time.sleep(60)\n"
    with started(tmp_path / "stack.log", checkout) as stack:
        for place, indent in (("    return ENDPOINTS", "    "), ("ENDPOINTS: dict", "")):
            before = stack.log.read_text()
            with stack.edited("functions/lab/app.py", place, f"{indent}{hang}{place}"):
                start = time.monotonic()
                # Larger than the buffer of a pipe, which a hanging function does not empty
                assert stack.post("/echo", json="x" * 300_000).status_code >= 500
                assert 1 < time.monotonic() - start < 10
            assert stack.get("/status").status_code == 200
            assert "LabFunction: Task timed out after 2.00 seconds" in stack.log.read_text().removeprefix(before)
    assert "Exception ignored" not in (tmp_path / "stack.log").read_text()


@contextmanager
def silent_store(log: Path, root: Path) -> Iterator[LocalStack]:
    """Start a stack whose emulator accepts connections but never responds."""
    with started(log, root) as stack:
        stack.post("/score", json={"tx_id": "TX1", "amount": 1})
        (store,) = processes_of(stack, "ministack")
        os.kill(store, signal.SIGSTOP)
        yield stack
        # Otherwise the stack waits for it before it exits.
        os.kill(store, signal.SIGCONT)


@contextmanager
def refusing_store(log: Path, root: Path) -> Iterator[LocalStack]:
    """Start a stack whose functions call a port on which nothing listens."""
    nowhere = f"emulator.variables = lambda _, to=emulator.variables('http://127.0.0.1:{free_port()}'): to"
    program = f"from tests.local import emulator, stack; {nowhere}; stack.main()"
    with started(log, root, ("-c", program, "--port", "0")) as stack:
        yield stack


@pytest.mark.parametrize("store", [silent_store, refusing_store])
def test_missing_store_is_503(
    checkout: Path, tmp_path: Path, store: Callable[[Path, Path], AbstractContextManager[LocalStack]]
) -> None:
    log = tmp_path / "stack.log"
    with store(log, checkout) as stack, ThreadPoolExecutor() as pool:
        pending = [
            pool.submit(stack.post, "/score", json={"amount": 1}),
            pool.submit(stack.get, "/stats"),
            pool.submit(stack.get, "/transaction/TX1"),
        ]
        for response in [one.result() for one in pending]:
            assert response.status_code == 503
            # `make run` starts the store itself; only `sam local` names the command.
            assert response.json() == {"error": str(StoreUnavailable())}
            assert int(response.headers["Retry-After"]) > 0
            assert response.elapsed.total_seconds() < 5
        assert stack.get("/health").status_code == 200
    printed = log.read_text()
    assert re.search(r"^[\d:]+  ERROR  store unavailable  reason=\w+  decision_id=\S+$", printed, re.MULTILINE)
    assert re.search(r"^[\d:]+  503  GET /stats  The store is unavailable .*  \d+ ms$", printed, re.MULTILINE)


@pytest.mark.parametrize(
    ("ending", "how"), [(signal.SIGKILL, "was killed by SIGKILL"), (signal.SIGTERM, "exited with code 0")]
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
        f"error: the emulator of AWS {how} and its data is lost; run the command again\n"
    )


def test_make_emulator_exits_when_the_emulator_dies(tmp_path: Path) -> None:
    """Does not use the Docker bridge."""
    program = "from tests.local import emulator; emulator.bridge_address = lambda: '127.0.0.1'; emulator.main()"
    with (tmp_path / "log").open("wb") as output:
        process = subprocess.Popen(
            [SAM_PYTHON, "-c", program, "--port", str(free_port())], cwd=ROOT, stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while "press Ctrl-C to stop" not in (tmp_path / "log").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        (store,) = descendants(process.pid)
        os.kill(store, signal.SIGKILL)
        assert process.wait(TIMEOUT_SECONDS) == 1
    finally:
        process.kill()
        process.wait()
    _, error = (tmp_path / "log").read_text().splitlines()
    assert error.startswith("error: the emulator of AWS was killed by SIGKILL")


def test_outbox_message_is_recorded(stack: LocalStack) -> None:
    (store,) = processes_of(stack, "ministack")
    variables = Path(f"/proc/{store}/environ").read_bytes().decode().split("\0")
    (port,) = (variable.partition("=")[2] for variable in variables if variable.startswith("GATEWAY_PORT="))
    before = stack.stats()["total"]
    message = encode(decide({"tx_id": "TX-outbox", "amount": 1}, "k1"))
    emulator.client("sqs", f"http://127.0.0.1:{port}").send_message(QueueUrl="OutboxQueue", MessageBody=message)
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while stack.stats()["total"] == before:
        assert time.monotonic() < deadline
    assert stack.get("/transaction/TX-outbox").json()["decisions"][0]["decision_id"] == "k1"
    while not re.search(r"  INFO  recorded from the outbox  decision_id=k1\b", stack.log.read_text()):
        assert time.monotonic() < deadline


def alerts_of(stack: LocalStack) -> list[str]:
    """Return the decision ids of the alerts that were printed."""
    return re.findall(r"^[\d:]+  ALERT  .*  decision (\S+)$", stack.log.read_text(), re.MULTILINE)


def test_high_risk_is_alerted_once(stack: LocalStack) -> None:
    before = alerts_of(stack)
    for amount, key in ((4500, "alerted-1"), (20, "low"), (4500, "alerted-1"), (4501, "alerted-2")):
        headers = {"Idempotency-Key": key}
        assert stack.post("/score", json={"tx_id": f"TX-{key}", "amount": amount}, headers=headers).status_code == 200
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while (alerted := alerts_of(stack)[len(before) :])[-1:] != ["alerted-2"]:
        assert time.monotonic() < deadline, alerted
        time.sleep(0.05)
    assert alerted == ["alerted-1", "alerted-2"]


def run_stack(*options: str) -> "subprocess.CompletedProcess[str]":
    command = [str(SAM_PYTHON), "-m", "tests.local.stack", *options]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)


def test_port_in_use_prints_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run_stack("--port", str(port))
    assert result.returncode == 1
    assert (result.stdout, result.stderr) == (
        "",
        f"error: port {port} on 127.0.0.1 cannot be used: Address already in use\n",
    )


def test_emulator_does_not_take_the_port_of_the_stack(tmp_path: Path) -> None:
    port, other = free_port(), free_port()
    emulator_first_tries_it = f"processes._untried_ports = iter([{port}, {other}])"
    program = f"from tests.local import processes, stack; {emulator_first_tries_it}; stack.main()"
    with started(tmp_path / "stack.log", arguments=("-c", program, "--port", str(port))) as stack:
        assert stack.url == f"http://127.0.0.1:{port}"
        assert stack.stats()["total"] == 0


def test_free_port_is_outside_the_ephemeral_range() -> None:
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    ports = [free_port() for _ in range(100)]
    assert len(set(ports)) == 100
    assert not any(first <= port <= last for port in ports)


@pytest.mark.parametrize("port", ["abc", "-1", "70000", ""])
def test_invalid_port_prints_one_line(port: str) -> None:
    result = run_stack(f"--port={port}")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1
    assert ("port 70000" if port == "70000" else f"{port!r} is not a port number") in result.stderr


def test_unknown_log_format_prints_one_line() -> None:
    result = run_stack("--logs", "xml")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "error: LOGS must be text or json, not 'xml'\n"


def test_body_that_is_not_utf_8_is_400(service: LocalStack) -> None:
    response = service.post("/score", data=b'{"tx_id": "\xff"}', headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()) == (400, {"error": "The body is not valid UTF-8"})
