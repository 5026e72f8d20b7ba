"""Shadow mode: every decision gets the opinion of a model, and every response is that of the rules."""

import functools
import json
import os
import re
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest

from scoring.ledger.outbox import encode
from scoring.lookups import enriched
from tests import events, forests, payments
from tests import service as services
from tests.local import emulator, environments, event_sources, template
from tests.local.environments import APP_PYTHON
from tests.local.template import ROOT
from tests.rule_set import DOCUMENT, RULE_SET, decide
from tests.service import SAM_PYTHON, TIMEOUT_SECONDS, LocalStack, RunningService
from tests.unit.conftest import FOREST
from tests.unit.test_shadow import as_opinion

T = TypeVar("T")

SINGLE, BATCH = 80, 320
FIELDS = ("timestamp", "tx_id", "customer_id", "amount", "store", "category", "hour")
MODEL_PATH = "functions/layer/scoring/scorers/forest.model"
CRITICAL = {"tx_id": "TX003", "amount": 4500.0, "category": "electronics", "hour": 3}


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    """Return payments of four new customers, changed so that the model gives every level."""
    prefix = uuid.uuid4().hex
    return [
        {
            **{name: row[name] for name in FIELDS},
            "tx_id": f"{prefix}-{number}",
            "customer_id": f"{prefix}-{number % 4}",
            **({} if number % 3 else {"category": "electronics"}),
            **({} if number % 20 else {"amount": 2000 + 500 * number / 20}),
        }
        for number, row in enumerate(payments.rows(SINGLE + BATCH))
    ]


def checkout(folder: Path) -> Path:
    """Return a checkout with the tests' rule set and model."""
    root = services.checkout(folder, DOCUMENT)
    forests.write(root / MODEL_PATH)
    return root


@pytest.fixture(scope="module")
def shadowed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """The local stack in shadow mode."""
    folder = tmp_path_factory.mktemp("shadowed")
    with services.started(folder / "stack.log", checkout(folder / "checkout"), Scorer="shadow") as stack:
        yield stack


def wait_for(what: Callable[[], T]) -> T:
    """Return the first true result of a function."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def by_model(transaction: dict[str, Any], response: dict[str, Any]) -> dict[str, Any]:
    """Return the opinion of the model about a transaction with the history in a response."""
    read = enriched(RULE_SET.fields.read(transaction), response.get("history", {}), {})
    assessment = FOREST.assess(read)
    return as_opinion({"version": FOREST.version, "risk_level": assessment.risk_level, **assessment.details})


def opinion(stack: RunningService, tx_id: str) -> dict[str, Any] | None:
    """Return the opinion about the only decision on a transaction, if there is one yet."""
    (found,) = stack.get(f"/transaction/{tx_id}").json()["decisions"]
    shadow: dict[str, Any] | None = found.get("shadow")
    return shadow


def score(stack: RunningService, rows: list[dict[str, Any]]) -> tuple[list[bytes], list[dict[str, Any]]]:
    """Score some rows by themselves and the others in a batch; return the bodies, and the decisions in order."""
    posted = [
        stack.post("/score", json=row, headers={"Idempotency-Key": f"k{number}"})
        for number, row in enumerate(rows[:SINGLE])
    ]
    batch = stack.post("/score/batch", json=rows[SINGLE:], headers={"Idempotency-Key": "batch"})
    assert {response.status_code for response in [*posted, batch]} == {200}
    return (
        [response.content for response in [*posted, batch]],
        [*(response.json() for response in posted), *batch.json()["results"]],
    )


def test_responses_are_those_of_the_rules_and_opinions_those_of_the_model(
    service: RunningService, shadowed: LocalStack, rows: list[dict[str, Any]]
) -> None:
    bodies, decided = score(shadowed, rows)
    expected, _ = score(service, rows)
    times = re.compile(rb'"evaluated_at":"[^"]+"')
    assert [times.sub(b"", body) for body in bodies] == [times.sub(b"", body) for body in expected]

    shifts = set()
    for row, decision in zip(rows, decided, strict=True):
        found = wait_for(functools.partial(opinion, shadowed, row["tx_id"]))
        assert found == by_model(row, decision), row
        shifts.add((decision["risk_level"], found["risk_level"]))
    # Otherwise, the comparison would say little.
    assert {level for _, level in shifts} == {"LOW", "MEDIUM", "HIGH", "CRITICAL"}
    assert len({before for before, _ in shifts}) > 1


def test_replay_is_the_same_after_the_opinion(shadowed: LocalStack) -> None:
    headers = {"Idempotency-Key": "order-17"}
    first = shadowed.post("/score", json=CRITICAL, headers=headers)
    wait_for(lambda: opinion(shadowed, "TX003"))
    again = shadowed.post("/score", json=CRITICAL, headers=headers)
    assert again.content == first.content
    assert again.headers["Idempotent-Replayed"] == "true"


def test_log_names_the_decisions_whose_level_would_change(shadowed: LocalStack) -> None:
    headers = {"Idempotency-Key": "shift-1"}
    transaction = {"tx_id": "TX-shift", "amount": 1200, "category": "electronics"}
    assert shadowed.post("/score", json=transaction, headers=headers).json()["risk_level"] == "LOW"
    line = "level would change  decision_id=shift-1  from=LOW  to=HIGH"
    wait_for(lambda: line in shadowed.log.read_text())
    wait_for(lambda: opinion(shadowed, "TX-shift"))
    assert "Traceback" not in shadowed.log.read_text()


@pytest.mark.parametrize("fault", ["damaged", "raises"])
def test_faulty_model_changes_no_response(tmp_path: Path, fault: str) -> None:
    """Once it is repaired, the decisions that were made in the meantime get their opinions."""
    root = checkout(tmp_path / "checkout")
    file = root / (MODEL_PATH if fault == "damaged" else "functions/layer/scoring/scorers/forest/model.py")
    content = file.read_bytes()
    if fault == "damaged":
        file.write_bytes(content[:-1])
    else:
        assert b"total = 0.0" in content
        file.write_bytes(content.replace(b"total = 0.0", b'raise RuntimeError("no total")'))
    with services.started(tmp_path / "stack.log", root, Scorer="shadow") as stack:
        assert stack.get("/health").json() == {"status": "ok", "version": DOCUMENT["version"]}
        for number in range(5):
            transaction = {**CRITICAL, "tx_id": f"TX{number}"}
            response = stack.post("/score", json=transaction, headers={"Idempotency-Key": f"k{number}"}).json()
            del response["evaluated_at"]
            expected: dict[str, Any] = dict(decide(transaction, f"k{number}").response)
            del expected["evaluated_at"]
            assert response == expected
        error = "forest.model: The model is damaged" if fault == "damaged" else "RuntimeError: no total"
        wait_for(lambda: error in stack.log.read_text())
        assert stack.stats()["total"] == 5
        assert opinion(stack, "TX0") is None
        file.write_bytes(content)
        wait_for(lambda: all(opinion(stack, f"TX{number}") for number in range(5)))
        log = stack.log.read_text()
    if fault == "damaged":
        assert len([line for line in log.splitlines() if error in line]) == 1
        assert "Traceback" not in log


@pytest.fixture
def shadow_template(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let :mod:`tests.local` use the parameter ``Scorer=shadow``."""
    monkeypatch.setenv("Scorer", "shadow")
    template.stack.cache_clear()
    yield
    template.stack.cache_clear()


def test_outbox_and_failing_deliveries(shadow_template: None, tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    """Deliveries are lost, repeated, and fail after they were applied."""
    layer = template.copy_layer(tmp_path / "layer", DOCUMENT)
    forests.write(layer / "scoring" / "scorers" / "forest.model")
    delivered: list[int] = []
    with ExitStack() as stack, (tmp_path / "log").open("w") as log:
        endpoint = stack.enter_context(emulator.running())
        variables = emulator.variables(endpoint)
        functions = stack.enter_context(environments.running(variables, log=log.fileno(), layer=layer))

        def invoke(name: str, event: str) -> str:
            if name != "ShadowFunction":
                return functions.invoke(name, event)
            delivered.append(len(json.loads(event)["Records"]))
            kind = len(delivered) % 4
            result = functions.invoke(name, event) if kind else "lost"
            if kind == 1:
                result = functions.invoke(name, event)
            return result if kind in {1, 3} else json.dumps({"errorType": "Runtime.ExitError"})

        stack.enter_context(event_sources.running(endpoint, invoke))
        sqs, dynamodb = emulator.client("sqs", endpoint), emulator.client("dynamodb", endpoint)
        queued, posted = rows[:100], rows[100:140]
        for number, row in enumerate(queued):
            message = encode(decide({**row, "customer_id": f"C{number}"}, f"q{number}").fallback)
            for _ in range(2):
                sqs.send_message(QueueUrl="OutboxQueue", MessageBody=message)
        for number, row in enumerate(posted):
            request = events.post(json.dumps(row), idempotency_key=f"p{number}")
            assert json.loads(functions.invoke("ScoreFunction", json.dumps(request)))["statusCode"] == 200

        def items() -> list[dict[str, Any]]:
            pages = dynamodb.get_paginator("scan").paginate(TableName="DecisionsTable", ConsistentRead=True)
            return [item for page in pages for item in page["Items"]]

        wait_for(lambda: len(found := items()) == 140 and all("shadow" in item for item in found))
        stored = {item["decision_id"]["S"]: item for item in items()}
        for item in stored.values():
            response = json.loads(item["answer"]["S"])
            assert json.loads(item["shadow"]["S"]) == by_model(json.loads(item["transaction"]["S"]), response)
        stats = json.loads(functions.invoke("StatsFunction", json.dumps(events.load("stats"))))
        assert json.loads(stats["body"])["total"] == 140
    assert len(delivered) > 4


@pytest.mark.parametrize(("python", "module"), [(SAM_PYTHON, "tests.local.stack"), (APP_PYTHON, "tests.local.stream")])
def test_unknown_scorer_is_one_line(python: Path, module: str) -> None:
    result = subprocess.run(
        [python, "-m", module],
        cwd=ROOT,
        env={**os.environ, "Scorer": "forrest"},
        check=False,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "error: Scorer must be one of rules, forest, shadow, not 'forrest'\n"
