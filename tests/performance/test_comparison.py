"""Test the figures, limits and table of the comparison and its detection of wrong results; make a short run."""

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

from tests.local.processes import StartError
from tests.local.template import ROOT
from tests.performance import comparison, implementations
from tests.performance.comparison import (
    LIMITS,
    Figures,
    Measurements,
    MismatchError,
    Repetitions,
    Request,
    StoreAudit,
)
from tests.performance.implementations import (
    BASELINES,
    FOREST_BASELINES,
    HISTORY_BASELINES,
    OURS,
    OURS_FOREST,
    OURS_HISTORY,
    OURS_RULES,
    REFERENCE,
    REFERENCE_FOREST,
    REFERENCE_HISTORY,
    Implementation,
    Interpreter,
    Opinion,
    Sample,
)

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
BODY = {"score": 3, "risk_level": "HIGH", "triggered_rules": ["R1: amount > 3000"], "tx_id": "TX1"}
COUNTERS = {"total": 1, "high": 1, "level#HIGH": 1, "rule#R1: amount > 3000": 1}


def scaled(share: float, **others: float) -> Figures:
    """Return the figures multiplied by ``share``, except those given."""
    return Figures(**{name: share * value for name, value in asdict(FIGURES).items()} | others)


def compared(ours: Figures, history: Figures | None = None, forest: Figures | None = None) -> dict[str, Figures]:
    """Return the figures of all implementations; those with a history are equal to those without by default."""
    others = dict.fromkeys([*BASELINES.values(), REFERENCE_HISTORY, REFERENCE_FOREST], FIGURES)
    return {OURS: ours, OURS_HISTORY: history or ours, OURS_FOREST: forest or scaled(0.1), OURS_RULES: ours} | others


def response(status: int = 200, **fields: Any) -> dict[str, Any]:
    return {"statusCode": status, "body": json.dumps(BODY | {"decision_id": "id-1"} | fields)}


class FakeTables:
    """A DynamoDB client that returns the given items."""

    def __init__(self) -> None:
        self.shards: list[dict[str, int]] = []
        self.pages: list[list[str]] = []

    def scan(self, **_: Any) -> dict[str, Any]:
        return {"Items": [{name: {"N": str(value)} for name, value in shard.items()} for shard in self.shards]}

    def get_paginator(self, _: str) -> "FakeTables":
        return self

    def paginate(self, **_: Any) -> Iterator[dict[str, Any]]:
        for page in self.pages:
            yield {"Items": [{"decision_id": {"S": decision_id}} for decision_id in page]}


@pytest.mark.parametrize(("packs_bytecode", "size"), [(False, 110), (True, 1110)])
def test_figures_summarize_measurements(tmp_path: Path, *, packs_bytecode: bool, size: int) -> None:
    measured = Measurements(
        imported=[0.3, 0.1, 0.2],
        started=[0.9, 0.4, 0.5],
        warm=[0.002, 0.004, 0.003],
        memory=[7, 9, 8],
        latencies=[0.001] * 98 + [0.003, 0.899],
    )
    for name, number in {"function/app.py": 10, "packages/one.py": 100, "packages/__pycache__/one.pyc": 1000}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * number)
    implementation = Implementation("one", tmp_path / "function", tmp_path / "packages", tmp_path, packs_bytecode)
    figures = measured.figures(implementation)
    assert figures == replace(Figures(0.2, 0.5, 0.003, 8, size, 0.001, 0.003, 100), rate=figures.rate)
    assert figures.rate == pytest.approx(100)


@pytest.mark.parametrize(("to", "share"), [(REFERENCE, 0.5), ("FastAPI, Mangum", 0.25)])
def test_ratios(to: str, share: float) -> None:
    figures = compared(scaled(0.5)) | {"FastAPI, Mangum": scaled(2)}
    assert comparison.ratio(figures, OURS, "started", to) == pytest.approx(share)


def test_report() -> None:
    figures = compared(scaled(0.5), scaled(2), scaled(2)) | {"Flask, apig-wsgi": scaled(2)}
    assert comparison.report(figures).splitlines() == [
        "|  | this service | boto3 alone | Powertools, pydantic | FastAPI, Mangum | Flask, apig-wsgi |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| start: import, CPU ms | 100 (0.50) | 200 | 200 (1.00) | 200 (1.00) | 400 (2.00) |",
        "| **start and first decision, CPU ms** | 125 (0.50) | 250 | 250 (1.00) | 250 (1.00) | 500 (2.00) |",
        "| a decision after that, CPU ms | 0.62 (0.50) | 1.25 | 1.25 (1.00) | 1.25 (1.00) | 2.50 (2.00) |",
        "| memory, MB | 25.0 (0.50) | 50.0 | 50.0 (1.00) | 50.0 (1.00) | 100.0 (2.00) |",
        "| package, MB | 11.7 (0.50) | 23.4 | 23.4 (1.00) | 23.4 (1.00) | 46.9 (2.00) |",
        "| an invocation, p50, ms | 2.00 (0.50) | 4.00 | 4.00 (1.00) | 4.00 (1.00) | 8.00 (2.00) |",
        "| an invocation, p99, ms | 5.00 (0.50) | 10.00 | 10.00 (1.00) | 10.00 (1.00) | 20.00 (2.00) |",
        "| decisions a second | 625 (0.50) | 1,250 | 1,250 (1.00) | 1,250 (1.00) | 2,501 (2.00) |",
    ]


def test_report_of_decisions_with_one_history() -> None:
    figures = {OURS: scaled(0.5), OURS_HISTORY: scaled(0.75), REFERENCE: scaled(9), REFERENCE_HISTORY: FIGURES}
    assert comparison.report_history(figures).splitlines()[:3] == [
        "|  | this service, one history | boto3 alone, one history | this service, one history to none |",
        "| --- | ---: | ---: | ---: |",
        "| start: import, CPU ms | 150 (0.75) | 200 | 1.50 |",
    ]


def test_report_of_decisions_by_a_forest() -> None:
    figures = compared(scaled(0.25), forest=scaled(0.5)) | {OURS: scaled(9), REFERENCE: scaled(9)}
    assert comparison.report_forest(figures).splitlines()[:3] == [
        "|  | this service, forest | boto3, scikit-learn | this service, forest to rules |",
        "| --- | ---: | ---: | ---: |",
        "| start: import, CPU ms | 100 (0.50) | 200 | 2.00 |",
    ]


def test_every_figure_is_in_the_table() -> None:
    assert {row.figure for row in comparison.ROWS} == set(asdict(FIGURES))


@pytest.mark.parametrize(
    ("repetitions", "text"),
    [
        (Repetitions(), "15 starts, 5 of them with 300 more timed decisions, and 1,000 invocations:"),
        (Repetitions(starts=2), "2 starts, 2 of them with 300 more timed decisions, and 1,000 invocations:"),
    ],
)
def test_caption(repetitions: Repetitions, text: str) -> None:
    expected = f"Python 3.13.7, {os.cpu_count()} processors; for each: {text}"
    assert comparison.caption(PYTHON, repetitions) == expected


@pytest.mark.parametrize(
    ("ours", "found"),
    [
        (scaled(0.3), []),
        (
            scaled(0.3, started=0.34 * 0.25),
            ["start and first decision, CPU ms: this service takes 0.34 of boto3 alone"],
        ),
        (scaled(0.3, started=0.51 * 0.25), 4 * ["start and first decision, CPU ms: this service takes 0.51 of"]),
        (scaled(0.3, warm=0.5 * 0.00125), []),
        (scaled(0.3, warm=0.51 * 0.00125), ["a decision after that, CPU ms: this service takes 0.51 of boto3 alone"]),
        (scaled(0.3, memory=0.51 * 50e6), ["memory, MB: this service takes 0.51 of boto3 alone, more than 0.50"]),
        (scaled(0.3, p50=0.81 * 0.004), ["an invocation, p50, ms: this service takes 0.81 of boto3 alone"]),
        (scaled(0.3, p99=1, imported=1, package=1e9, rate=1), []),
    ],
)
def test_limits(ours: Figures, found: list[str]) -> None:
    problems = comparison.problems(compared(ours, history=scaled(0.3)))
    assert [problem[: len(start)] for problem, start in zip(problems, found, strict=True)] == found


@pytest.mark.parametrize(
    ("history", "found"),
    [
        (scaled(0.3, started=1.14 * 0.2 * 0.25, warm=1.99 * 0.2 * 0.00125), []),
        (
            scaled(0.2, started=1.16 * 0.2 * 0.25),
            ["start and first decision, CPU ms: this service, one history takes 1.16"],
        ),
        (
            scaled(0.2, warm=2.21 * 0.2 * 0.00125),
            ["a decision after that, CPU ms: this service, one history takes 2.21"],
        ),
        (
            scaled(0.2, p50=0.81 * 0.004),
            ["an invocation, p50, ms: this service, one history takes 0.81 of boto3 alone, one"],
        ),
    ],
)
def test_limits_with_one_history(history: Figures, found: list[str]) -> None:
    problems = comparison.problems(compared(scaled(0.2), history))
    assert [problem[: len(start)] for problem, start in zip(problems, found, strict=True)] == found


@pytest.mark.parametrize(
    ("forest", "found"),
    [
        (scaled(0.1, memory=0.32 * 50e6), []),
        (
            scaled(0.1, warm=0.34 * 0.00125),
            ["a decision after that, CPU ms: this service, forest takes 0.34"],
        ),
        (
            scaled(0.1, memory=0.34 * 50e6),
            ["memory, MB: this service, forest takes 0.34"],
        ),
    ],
)
def test_limits_with_a_forest(forest: Figures, found: list[str]) -> None:
    problems = comparison.problems(compared(scaled(0.3), forest=forest))
    assert [problem[: len(start)] for problem, start in zip(problems, found, strict=True)] == found


def test_every_baseline_has_a_limit() -> None:
    limited = {(limit.name, name) for limit in LIMITS if limit.figure == "started" for name in limit.others}
    alone = {(OURS, name) for name in BASELINES.values()}
    with_history = {(OURS_HISTORY, name) for name in [OURS, *HISTORY_BASELINES.values()]}
    assert limited == alone | with_history | {(OURS_FOREST, name) for name in [OURS_RULES, *FOREST_BASELINES.values()]}


@pytest.mark.parametrize("before", ["", "| an | older | table |\n", "\nmore\n\nlines\n"])
def test_only_the_section_between_the_markers_is_replaced(before: str) -> None:
    text = f"above\n<!-- make bench -->\n{before}<!-- /make bench -->\nbelow\n"
    once = comparison.replace_section(text, "caption\n\n| table |")
    assert once == "above\n<!-- make bench -->\n\ncaption\n\n| table |\n\n<!-- /make bench -->\nbelow\n"
    assert comparison.replace_section(once, "caption\n\n| table |") == once


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
def test_missing_or_repeated_markers_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must each occur once"):
        comparison.replace_section(text, "table")


def test_readme_has_the_markers() -> None:
    assert "table" in comparison.replace_section(comparison.README.read_text(encoding="utf-8"), "table")


@pytest.mark.parametrize(
    ("response", "matches"),
    [
        (response(), True),
        (response(version="1.0-rules"), True),
        (response(201), False),
        (response(score=2), False),
        (response(risk_level="CRITICAL"), False),
        (response(triggered_rules=[]), False),
        (response(tx_id="TX2"), False),
        (response(decision_id="id-2"), False),
        ({"statusCode": 503, "body": '{"error": "Not now"}'}, False),
        ({"errorType": "KeyError", "errorMessage": "'amount'"}, False),
        ({"statusCode": 200, "body": "<html>"}, False),
        (None, False),
    ],
)
def test_mismatch(response: Any, *, matches: bool) -> None:
    assert (comparison.mismatch(REQUEST, response) == "") == matches


OPINION = Opinion(0.75, 3)
BY_MODEL = {"risk_level": "CRITICAL", "fraud": True, "fraud_probability": 0.75}


@pytest.mark.parametrize(
    ("opinion", "fields", "matches"),
    [
        (OPINION, BY_MODEL, True),
        (OPINION, BY_MODEL | {"fraud_probability": 0.75 + 7e-13}, True),
        (OPINION, BY_MODEL | {"fraud_probability": 0.75 + 8e-13}, False),
        (OPINION, BY_MODEL | {"fraud_probability": None}, False),
        (OPINION, BY_MODEL | {"fraud": False}, False),
        (OPINION, BY_MODEL | {"risk_level": "HIGH"}, False),
        (OPINION, {}, False),
        (Opinion(0.25, 1), {"risk_level": "HIGH", "fraud": False, "fraud_probability": 0.25}, True),
        (Opinion(0.25, 1), {"risk_level": "MEDIUM", "fraud": False, "fraud_probability": 0.25}, False),
        (Opinion(0.0, 0), {"fraud": False, "fraud_probability": 1e-13}, False),
    ],
)
def test_mismatch_with_a_model(opinion: Opinion, fields: dict[str, Any], *, matches: bool) -> None:
    assert (comparison.mismatch(REQUEST._replace(opinion=opinion), response(**fields)) == "") == matches


def test_audit_of_correct_responses() -> None:
    store = FakeTables()
    audit = StoreAudit(store)
    for shard in range(2):
        store.shards.append({"shard": shard, **COUNTERS})
        audit.check("one", [REQUEST._replace(decision_id=f"id-{shard}")], [response(decision_id=f"id-{shard}")])
    store.pages = [["id-1"], [], ["id-0"]]
    audit.check_decisions()


@pytest.mark.parametrize(
    ("requests", "responses", "counted", "message"),
    [
        ([REQUEST], [], COUNTERS, "one returned 0 responses to 1 requests"),
        ([REQUEST], [response(score=0)], COUNTERS, "one returned for .*'score': 0"),
        ([REQUEST], [response()], {}, "one counted {}, expected"),
        ([REQUEST], [response()], COUNTERS | {"total": 2}, "one counted .*'total': 2"),
        ([REQUEST], [response()], COUNTERS | {"level#LOW": 1}, "one counted .*'level#LOW': 1"),
        ([REQUEST, REQUEST], [response(), response()], COUNTERS, "one counted .*'total': 1.*, expected .*'total': 2"),
    ],
)
def test_audit_of_wrong_responses(requests: Any, responses: Any, counted: dict[str, int], message: str) -> None:
    store = FakeTables()
    store.shards = [{"shard": 0, **counted}] if counted else []
    with pytest.raises(MismatchError, match=message):
        StoreAudit(store).check("one", requests, responses)


@pytest.mark.parametrize(("stored", "number"), [([], 1), (["id-2"], 2), (["id-1", "id-1"], 1), (["id-1", "id-2"], 1)])
def test_audit_of_wrong_decisions(stored: list[str], number: int) -> None:
    store = FakeTables()
    audit = StoreAudit(store)
    store.shards, store.pages = [{"shard": 0, **COUNTERS}], [stored]
    audit.check("one", [REQUEST], [response()])
    with pytest.raises(MismatchError, match=f"^{number} decisions are missing from the store or should not be in it"):
        audit.check_decisions()


def history(seconds: int | None, **features: Any) -> dict[str, Any]:
    """Return a response with a history: by default, that of the second of two equal transactions."""
    usual: dict[str, Any] = dict.fromkeys(("count_1h", "count_24h", "count_7d"), 1)
    usual |= {"sum_24h": 4500.0, "max_24h": 4500.0}
    usual |= {"amount_ratio": 1.0, "distinct_24h": 1, "is_new": False, "seconds_since_last": seconds}
    return response(history={"customer": usual | features})


NONE = dict.fromkeys(("count_1h", "count_24h", "count_7d", "distinct_24h"), 0)
FIRST = history(None, **NONE, sum_24h=0.0, max_24h=0.0, amount_ratio=None, is_new=True)


@pytest.mark.parametrize(
    ("second", "wrong"),
    [
        (history(0), False),
        (history(1, sum_24h=4500.0001), False),
        (history(0, sum_24h=4500.1), True),
        (history(0, count_1h=0), True),
        (history(0, is_new=True), True),
        (history(0, amount_ratio=None), True),
        (history(0, more=1), True),
        (history(None), True),
        (history(-1), True),
        (FIRST, True),
        (response(), True),
    ],
)
def test_audit_of_histories(second: dict[str, Any], *, wrong: bool) -> None:
    store = FakeTables()
    store.shards = [COUNTERS | {"total": 2, "high": 2, "level#HIGH": 2, "rule#R1: amount > 3000": 2}]
    request = REQUEST._replace(transaction=REQUEST.transaction | {"customer_id": "C1", "store": "Krakow"})
    audit = StoreAudit(store)
    if wrong:
        with pytest.raises(MismatchError, match=r"^one returned for .* the history .*, not {"):
            audit.check("one", [request, request], [FIRST, second])
    else:
        audit.check("one", [request, request], [FIRST, second])


def test_audit_of_a_history_that_should_not_be_there() -> None:
    store = FakeTables()
    store.shards = [{"shard": 0, **COUNTERS}]
    with pytest.raises(MismatchError, match=r"^one returned for .* the history"):
        StoreAudit(store).check("one", [REQUEST], [history(0)])


def test_history_is_that_of_the_64_latest() -> None:
    earlier = [{"amount": float(n), "store": "first" if n == 0 else "other"} for n in range(65)]
    found = comparison.history(earlier, {"amount": 64.0, "store": "first"})
    assert found == {
        **dict.fromkeys(("count_1h", "count_24h", "count_7d"), 64),
        "sum_24h": 2080.0,
        "max_24h": 64.0,
        "amount_ratio": 2.0,
        "distinct_24h": 1,
        "is_new": True,
    }


SENDER = Implementation("one", Path(), Path(), Path())


def test_requests_cycle_through_samples_with_new_ids() -> None:
    requests = comparison.new_requests(12, SENDER)
    assert len({request.decision_id for request in requests}) == 12
    assert requests[10].transaction == requests[0].transaction != requests[1].transaction
    for request in requests:
        event = json.loads(request.event)
        assert event["requestContext"]["requestId"] == request.decision_id
        assert json.loads(event["body"]) == request.transaction
        assert "idempotency-key" not in event["headers"]


def test_requests_of_a_customer() -> None:
    (request,) = comparison.new_requests(1, replace(SENDER, customer="C1"))
    assert request.transaction["customer_id"] == json.loads(json.loads(request.event)["body"])["customer_id"] == "C1"


def test_requests_of_samples_with_opinions() -> None:
    sender = replace(SENDER, samples=(Sample('{"tx_id": "TX1"}', OPINION), Sample('{"tx_id": "TX2"}')))
    requests = comparison.new_requests(3, sender)
    assert [(request.transaction["tx_id"], request.opinion) for request in requests] == [
        ("TX1", OPINION),
        ("TX2", None),
        ("TX1", OPINION),
    ]


@pytest.mark.parametrize(
    ("ours", "write", "code"), [(scaled(0.3), True, 0), (scaled(1), True, 1), (scaled(0.3), False, 0)]
)
def test_run_writes_if_asked_and_fails_above_a_limit(
    ours: Figures,
    *,
    write: bool,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("<!-- make bench -->\n<!-- /make bench -->\n")
    monkeypatch.setattr(comparison, "README", readme)
    measured(monkeypatch, compared(ours))
    assert comparison.run(PYTHON, Repetitions(), write=write) == code
    printed = capsys.readouterr().out
    assert ("FAILED" in printed) == bool(code)
    for report in comparison.report, comparison.report_history, comparison.report_forest:
        assert (report(compared(ours)) in readme.read_text()) == write
    assert comparison.report(compared(ours)) in printed


def test_run_with_a_mismatch_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(comparison, "README", Path("/nowhere"))
    measured(monkeypatch, MismatchError("one counted nothing"))
    assert comparison.run(PYTHON, Repetitions(), write=True) == 1
    assert capsys.readouterr().out == "FAILED     one counted nothing\n"


def measured(monkeypatch: pytest.MonkeyPatch, result: dict[str, Figures] | MismatchError) -> None:
    """Replace the measurement by its result."""

    @contextmanager
    def prepared(_: Any) -> Iterator[None]:
        yield None

    def measure(*_: Any) -> dict[str, Figures]:
        if isinstance(result, MismatchError):
            raise result
        return result

    monkeypatch.setattr(comparison, "prepared", prepared)
    monkeypatch.setattr(comparison, "measure", measure)


@pytest.mark.parametrize("name", ["no-such-python", "/dev/null", "false"])
def test_unusable_interpreter(name: str) -> None:
    with pytest.raises(StartError, match=f"^{name} is not Python 3.11 or newer$"):
        implementations.interpreter(name)


def test_invocation_without_a_json_response(tmp_path: Path) -> None:
    def invoke(_: bytes) -> bytes:
        return b"Task timed out after 10.00 seconds"

    implementation = Implementation("one", tmp_path, tmp_path, tmp_path)
    with pytest.raises(MismatchError, match=r"^one failed behind the runtime interface: JSONDecodeError"):
        comparison.time_invocations(implementation, invoke, StoreAudit(FakeTables()), 1)


def test_default_interpreter_is_the_one_that_created_the_environment() -> None:
    found = implementations.interpreter(None)
    assert found.version == ".".join(map(str, sys.version_info[:3]))
    assert found.path.resolve().is_relative_to(Path(sys.base_prefix).resolve())


def test_cache_is_rebuilt_only_if_its_sources_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(implementations, "CACHE", tmp_path / "bench")
    monkeypatch.setattr(implementations, "ROOT", tmp_path)
    source, built = tmp_path / "requirements.txt", []

    def build(folder: Path) -> None:
        folder.mkdir()
        built.append(folder)

    for text in ("a==1", "a==1", "a==2", "a==2"):
        source.write_text(text)
        implementations.cached("one", [source], implementations.interpreter(None), build)
    assert len(built) == 2

    def fail(_: Path) -> None:
        raise StartError("no network")

    source.write_text("a==3")
    with pytest.raises(StartError):
        implementations.cached("one", [source], implementations.interpreter(None), fail)
    implementations.cached("one", [source], implementations.interpreter(None), build)
    assert len(built) == 3


def pins(file: Path) -> dict[str, str]:
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line and line[0] not in "# "]
    found = [re.match(r"([\w.-]+)==(\S+) ", line) for line in lines]
    assert all(found), lines
    return {one[1]: one[2] for one in found if one}


@pytest.mark.parametrize("name", BASELINES | HISTORY_BASELINES | FOREST_BASELINES)
def test_baseline_has_the_versions_of_layer_and_tests(name: str) -> None:
    boto3 = {package: one for package, one in pins(ROOT / "tests" / "requirements.txt").items() if "boto" in package}
    ours = (
        boto3
        | pins(ROOT / "functions" / "layer" / "requirements.txt")
        | pins(ROOT / "functions/offline/requirements.txt")
    )
    baseline = pins(ROOT / "tests" / "performance" / "baselines" / name / "requirements.txt")
    assert {"boto3", "botocore"} <= baseline.keys()
    assert {package: ours.get(package, version) for package, version in baseline.items()} == baseline
    assert ("scikit-learn" in baseline) == (name in FOREST_BASELINES)


def test_short_run() -> None:
    """The run itself checks every response, count and stored decision."""
    repetitions = Repetitions(starts=1, warm_starts=1, warm_up=5, decisions=10, rounds=1, requests=20)
    with comparison.prepared(implementations.interpreter(None)) as setup:
        figures = comparison.measure(setup, repetitions)
        ours = setup.implementations[0]
        broken = replace(ours, function=setup.folder / "broken")
        broken.function.mkdir()
        (broken.function / "app.py").write_text(
            "def lambda_handler(event, context):\n    raise KeyError('of its own')\n"
        )
        with setup.store() as (endpoint, audit), pytest.raises(MismatchError, match=r"^this service failed: KeyError"):
            comparison.start(setup, broken, endpoint, audit, 1)
    baselines = BASELINES | HISTORY_BASELINES | FOREST_BASELINES
    assert set(figures) == {OURS, OURS_HISTORY, OURS_FOREST, OURS_RULES, *baselines.values()}
    for measured in figures.values():
        assert 0 < measured.imported < measured.started
        assert 0 < measured.warm < measured.started
        assert 10e6 < measured.memory < 500e6
        assert measured.package > 0
        assert 0 < measured.p50 <= measured.p99
        assert 1 / measured.p99 < measured.rate
