"""The comparison: figures, limits and table follow from what was measured, wrong work is noticed; and a real run."""

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import bench, contestants
from tests.benchmarks.bench import LIMITS, Books, Figures, Plan, Raw, Request, WrongError
from tests.benchmarks.contestants import MEASURE, OURS, PEERS, Contestant, Interpreter
from tests.local.processes import StartError
from tests.local.template import ROOT

PYTHON = Interpreter(Path("python"), "3.13.7")
FIGURES = Figures(
    imported=0.2,
    started=0.25,
    warm=0.00125,
    memory=50_000_000,
    package=23_450_000,
    p50=0.004,
    p99=0.01,
    rate=1250.4,
)
REQUEST = Request("id-1", {"tx_id": "TX1", "amount": 4500.0, "hour": 12}, "{}")
ANSWER = {"score": 3, "risk_level": "HIGH", "triggered_rules": ["R1: amount > 3000"], "tx_id": "TX1"}
COUNTERS = {"total": 1, "high": 1, "level#HIGH": 1, "rule#R1: amount > 3000": 1}


def scaled(share: float, **others: float) -> Figures:
    """The figures of one that takes so much of everything, but for those that are given."""
    return Figures(**{name: share * value for name, value in asdict(FIGURES).items()} | others)


def compared(ours: Figures) -> dict[str, Figures]:
    return {OURS: ours} | dict.fromkeys(PEERS.values(), FIGURES)


def answered(status: int = 200, **fields: Any) -> dict[str, Any]:
    return {"statusCode": status, "body": json.dumps(ANSWER | {"decision_id": "id-1"} | fields)}


class Store:
    """What DynamoDB would say is in the tables."""

    def __init__(self) -> None:
        self.shards: list[dict[str, int]] = []
        self.pages: list[list[str]] = []

    def scan(self, **_: Any) -> dict[str, Any]:
        return {"Items": [{name: {"N": str(value)} for name, value in shard.items()} for shard in self.shards]}

    def get_paginator(self, _: str) -> "Store":
        return self

    def paginate(self, **_: Any) -> Iterator[dict[str, Any]]:
        for page in self.pages:
            yield {"Items": [{"decision_id": {"S": decision_id}} for decision_id in page]}


@pytest.mark.parametrize(("packs_bytecode", "size"), [(False, 110), (True, 1110)])
def test_figures_are_medians_and_those_of_all_invocations(tmp_path: Path, *, packs_bytecode: bool, size: int) -> None:
    raw = Raw(
        imported=[0.3, 0.1, 0.2],
        started=[0.9, 0.4, 0.5],
        warm=[0.002, 0.004, 0.003],
        memory=[7, 9, 8],
        latencies=[0.001] * 98 + [0.003, 0.899],
    )
    for name, number in {"function/app.py": 10, "packages/one.py": 100, "packages/__pycache__/one.pyc": 1000}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * number)
    contestant = Contestant("one", tmp_path / "function", tmp_path / "packages", tmp_path, packs_bytecode)
    figures = raw.figures(contestant)
    assert figures == replace(Figures(0.2, 0.5, 0.003, 8, size, 0.001, 0.003, 100), rate=figures.rate)
    assert figures.rate == pytest.approx(100)


@pytest.mark.parametrize(("to", "share"), [(MEASURE, 0.5), ("FastAPI, Mangum", 0.25)])
def test_ratios(to: str, share: float) -> None:
    figures = compared(scaled(0.5)) | {"FastAPI, Mangum": scaled(2)}
    assert bench.ratio(figures, OURS, "started", to) == pytest.approx(share)


def test_the_table() -> None:
    figures = {OURS: scaled(0.5), MEASURE: FIGURES}
    assert bench.report(figures).splitlines() == [
        "|  | this service | boto3 alone |",
        "| --- | ---: | ---: |",
        "| start: import, CPU ms | 100 (0.50) | 200 |",
        "| **start and first decision, CPU ms** | 125 (0.50) | 250 |",
        "| a decision after that, CPU ms | 0.62 (0.50) | 1.25 |",
        "| memory, MB | 25.0 (0.50) | 50.0 |",
        "| package, MB | 11.7 (0.50) | 23.4 |",
        "| an invocation, p50, ms | 2.00 (0.50) | 4.00 |",
        "| an invocation, p99, ms | 5.00 (0.50) | 10.00 |",
        "| decisions a second | 625 (0.50) | 1,250 |",
    ]


def test_every_figure_is_in_the_table() -> None:
    assert {row.figure for row in bench.ROWS} == set(asdict(FIGURES))


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        (Plan(), "15 starts, 5 of them with 300 more decisions timed, and 1,000 invocations:"),
        (Plan(starts=2), "2 starts, 2 of them with 300 more decisions timed, and 1,000 invocations:"),
    ],
)
def test_the_caption(plan: Plan, told: str) -> None:
    assert bench.caption(PYTHON, plan) == f"Python 3.13.7, {os.cpu_count()} processors; of each contestant {told}"


@pytest.mark.parametrize(
    ("ours", "found"),
    [
        (scaled(0.3), []),
        (scaled(0.3, started=0.34 * 0.25), ["start and first decision, CPU ms: this service has 0.34 of boto3 alone"]),
        (scaled(0.3, started=0.51 * 0.25), 4 * ["start and first decision, CPU ms: this service has 0.51 of"]),
        (scaled(0.3, warm=0.5 * 0.00125), []),
        (scaled(0.3, warm=0.51 * 0.00125), ["a decision after that, CPU ms: this service has 0.51 of boto3 alone"]),
        (scaled(0.3, memory=0.51 * 50e6), ["memory, MB: this service has 0.51 of boto3 alone, more than 0.50"]),
        (scaled(0.3, p50=0.81 * 0.004), ["an invocation, p50, ms: this service has 0.81 of boto3 alone"]),
        (scaled(0.3, p99=1, imported=1, package=1e9, rate=1), []),
    ],
)
def test_the_limits(ours: Figures, found: list[str]) -> None:
    told = bench.problems(compared(ours))
    assert [problem[: len(start)] for problem, start in zip(told, found, strict=True)] == found


def test_every_other_peer_has_its_limit() -> None:
    limited = {name for limit in LIMITS if limit.figure == "started" for name in limit.others}
    assert limited == set(PEERS.values())


@pytest.mark.parametrize("before", ["", "| an | older | table |\n", "\nmore\n\nlines\n"])
def test_the_readme_is_changed_between_the_markers_only(before: str) -> None:
    text = f"above\n<!-- make bench -->\n{before}<!-- /make bench -->\nbelow\n"
    once = bench.replaced(text, "caption\n\n| table |")
    assert once == "above\n<!-- make bench -->\n\ncaption\n\n| table |\n\n<!-- /make bench -->\nbelow\n"
    assert bench.replaced(once, "caption\n\n| table |") == once


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<!-- make bench -->\n",
        "<!-- /make bench -->\n<!-- make bench -->\n",
        "<!-- make bench -->\n<!-- make bench -->\n<!-- /make bench -->",
        "<!-- make bench -->\n<!-- /make bench -->\n<!-- /make bench -->",
    ],
)
def test_a_readme_without_its_markers(text: str) -> None:
    with pytest.raises(ValueError, match="must be there once each"):
        bench.replaced(text, "table")


def test_the_readme_has_its_markers() -> None:
    assert "table" in bench.replaced(bench.README.read_text(encoding="utf-8"), "table")


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        (answered(), True),
        (answered(version="1.0-rules"), True),
        (answered(201), False),
        (answered(score=2), False),
        (answered(risk_level="CRITICAL"), False),
        (answered(triggered_rules=[]), False),
        (answered(tx_id="TX2"), False),
        (answered(decision_id="id-2"), False),
        ({"statusCode": 503, "body": '{"error": "Not now"}'}, False),
        ({"errorType": "KeyError", "errorMessage": "'amount'"}, False),
        ({"statusCode": 200, "body": "<html>"}, False),
        (None, False),
    ],
)
def test_what_is_a_right_answer(answer: Any, right: bool) -> None:  # noqa: FBT001  a column of the table
    assert (bench.wrong(REQUEST, answer) == "") == right


def test_books_that_hold() -> None:
    store = Store()
    books = Books(store)
    for shard in range(2):
        store.shards.append({"shard": shard, **COUNTERS})
        books.check("one", [REQUEST._replace(decision_id=f"id-{shard}")], [answered(decision_id=f"id-{shard}")])
    store.pages = [["id-1"], [], ["id-0"]]
    books.check_decisions()


@pytest.mark.parametrize(
    ("requests", "answers", "counted", "told"),
    [
        ([REQUEST], [], COUNTERS, "one gave 0 answers to 1 requests"),
        ([REQUEST], [answered(score=0)], COUNTERS, "one answered .*'score': 0"),
        ([REQUEST], [answered()], {}, "one counted {} for"),
        ([REQUEST], [answered()], COUNTERS | {"total": 2}, "one counted .*'total': 2"),
        ([REQUEST], [answered()], COUNTERS | {"level#LOW": 1}, "one counted .*'level#LOW': 1"),
        ([REQUEST, REQUEST], [answered(), answered()], COUNTERS, "one counted .*'total': 1.* for .*'total': 2"),
    ],
)
def test_books_that_do_not(requests: Any, answers: Any, counted: dict[str, int], told: str) -> None:
    store = Store()
    store.shards = [{"shard": 0, **counted}] if counted else []
    with pytest.raises(WrongError, match=told):
        Books(store).check("one", requests, answers)


@pytest.mark.parametrize(("stored", "differ"), [([], 1), (["id-2"], 2), (["id-1", "id-1"], 1), (["id-1", "id-2"], 1)])
def test_decisions_that_are_not_those_of_the_requests(stored: list[str], differ: int) -> None:
    store = Store()
    books = Books(store)
    store.shards, store.pages = [{"shard": 0, **COUNTERS}], [stored]
    books.check("one", [REQUEST], [answered()])
    with pytest.raises(WrongError, match=f"^{differ} decisions are missing in the store, or should not be there"):
        books.check_decisions()


def test_requests_are_the_samples_in_turn_each_with_an_id_of_its_own() -> None:
    requests = bench.new_requests(12)
    assert len({request.decision_id for request in requests}) == 12
    assert requests[10].transaction == requests[0].transaction != requests[1].transaction
    for request in requests:
        event = json.loads(request.event)
        assert event["requestContext"]["requestId"] == request.decision_id
        assert json.loads(event["body"]) == request.transaction
        assert "idempotency-key" not in event["headers"]


@pytest.mark.parametrize(
    ("ours", "write", "code"), [(scaled(0.3), True, 0), (scaled(1), True, 1), (scaled(0.3), False, 0)]
)
def test_a_run_writes_where_it_is_told_to_and_fails_above_a_limit(
    ours: Figures,
    write: bool,  # noqa: FBT001  a column of the table
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("<!-- make bench -->\n<!-- /make bench -->\n")
    monkeypatch.setattr(bench, "README", readme)
    measured(monkeypatch, compared(ours))
    assert bench.run(PYTHON, Plan(), write=write) == code
    printed = capsys.readouterr().out
    assert ("FAILED" in printed) == bool(code)
    assert (bench.report(compared(ours)) in readme.read_text()) == write
    assert bench.report(compared(ours)) in printed


def test_a_run_in_which_one_was_wrong(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is written, since nothing holds."""
    monkeypatch.setattr(bench, "README", Path("/nowhere"))
    measured(monkeypatch, WrongError("one counted nothing"))
    assert bench.run(PYTHON, Plan(), write=True) == 1
    assert capsys.readouterr().out == "FAILED     one counted nothing\n"


def measured(monkeypatch: pytest.MonkeyPatch, result: dict[str, Figures] | WrongError) -> None:
    """Have this measured without measuring it."""

    @contextmanager
    def prepared(_: Any) -> Iterator[None]:
        yield None

    def measure(*_: Any) -> dict[str, Figures]:
        if isinstance(result, WrongError):
            raise result
        return result

    monkeypatch.setattr(bench, "prepared", prepared)
    monkeypatch.setattr(bench, "measure", measure)


@pytest.mark.parametrize("name", ["no-such-python", "/dev/null", "false"])
def test_what_is_no_python(name: str) -> None:
    with pytest.raises(StartError, match=f"^{name} is no Python from 3.11 on$"):
        contestants.interpreter(name)


def test_an_invocation_without_an_answer(tmp_path: Path) -> None:
    def invoke(_: bytes) -> bytes:
        return b"Task timed out after 10.00 seconds"

    contestant = Contestant("one", tmp_path, tmp_path, tmp_path)
    with pytest.raises(WrongError, match=r"^one failed behind the runtime interface: JSONDecodeError"):
        bench._invocations(contestant, invoke, Books(Store()), 1)


def test_the_python_of_an_environment_is_the_one_that_made_it() -> None:
    found = contestants.interpreter(None)
    assert found.version == ".".join(map(str, sys.version_info[:3]))
    assert found.path.resolve().is_relative_to(Path(sys.base_prefix).resolve())


def test_what_is_installed_is_made_anew_only_where_its_sources_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contestants, "_INSTALLED", tmp_path / "bench")
    monkeypatch.setattr(contestants, "ROOT", tmp_path)
    source, made = tmp_path / "requirements.txt", []

    def make(folder: Path) -> None:
        folder.mkdir()
        made.append(folder)

    for text in ("a==1", "a==1", "a==2", "a==2"):
        source.write_text(text)
        contestants._made("one", [source], contestants.interpreter(None), make)
    assert len(made) == 2

    def fail(_: Path) -> None:
        raise StartError("no network")

    source.write_text("a==3")
    with pytest.raises(StartError):
        contestants._made("one", [source], contestants.interpreter(None), fail)
    contestants._made("one", [source], contestants.interpreter(None), make)
    assert len(made) == 3


def pins(file: Path) -> dict[str, str]:
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    found = [re.fullmatch(r"([\w.-]+)==(\S+)", line) for line in lines]
    assert all(found), lines
    return {one[1]: one[2] for one in found if one}


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_has_the_versions_that_layer_and_tests_have(name: str) -> None:
    boto3 = {package: one for package, one in pins(ROOT / "tests" / "requirements.txt").items() if "boto" in package}
    ours = boto3 | pins(ROOT / "functions" / "layer" / "requirements.txt")
    peer = pins(ROOT / "tests" / "benchmarks" / "peers" / name / "requirements.txt")
    assert {"boto3", "botocore"} <= peer.keys()
    assert {package: ours.get(package, version) for package, version in peer.items()} == peer


def test_a_short_run() -> None:
    """Every answer, count and stored decision is checked on the way; a peer that is wrong fails the run."""
    plan = Plan(starts=1, warm_starts=1, warm_up=5, decisions=10, rounds=1, requests=20)
    with bench.prepared(contestants.interpreter(None)) as setup:
        figures = bench.measure(setup, plan)
        ours = setup.contestants[0]
        broken = replace(ours, function=setup.folder / "broken")
        broken.function.mkdir()
        (broken.function / "app.py").write_text(
            "def lambda_handler(event, context):\n    raise KeyError('of its own')\n"
        )
        with setup.store() as (endpoint, books), pytest.raises(WrongError, match=r"^this service failed: KeyError"):
            bench._start(setup, broken, endpoint, books, 1)
    assert list(figures) == [OURS, *PEERS.values()]
    for measured in figures.values():
        assert 0 < measured.imported < measured.started
        assert 0 < measured.warm < measured.started
        assert 10e6 < measured.memory < 500e6
        assert measured.package > 0
        assert 0 < measured.p50 <= measured.p99
        assert 1 / measured.p99 < measured.rate
