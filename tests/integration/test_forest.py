"""A model decides: the service with ``Scorer=forest`` does all that it does with rules."""

import json
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scoring import http_api, scorers
from scoring.assessment import HIGH_RISK_LEVELS, RISK_LEVELS
from scoring.scorers.forest import model_file
from scoring.scorers.forest.inputs import Inputs, Number
from tests import batch_corpus, corpus, forests, payments
from tests import service as services
from tests.batch_corpus import ARRAY, FORMATS, LINES, Format
from tests.corpus import Case
from tests.forests import SMALL, decide_again
from tests.integration import test_batches, test_exactly_once, test_lab
from tests.rule_set import DOCUMENT, R1, R2, R3
from tests.sending import check, level_changes, send
from tests.service import STACK_LOGGING_JSON, TIMEOUT_SECONDS, LocalStack, RunningService
from tests.unit.conftest import FOREST
from tests.unit.test_openapi import SCHEMAS, validator

SINGLE, BATCH = 40, 100
ROWS_PER_LOOKUP = 4
THREADS, CONCURRENT = 8, 64
FIELDS = ("timestamp", "tx_id", "customer_id", "amount", "store", "category", "hour")
MODEL_PATH = "functions/layer/scoring/scorers/forest.model"
CRITICAL = {"tx_id": "TX003", "amount": 4500.0, "category": "electronics", "hour": 3}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """The local stack with the tests' rule set and model, logging JSON."""
    folder = tmp_path_factory.mktemp("forest")
    root = services.checkout(folder / "checkout", DOCUMENT)
    forests.write(root / MODEL_PATH)
    with services.started(folder / "stack.log", root, STACK_LOGGING_JSON, Scorer="forest") as stack:
        yield stack
    assert "Traceback" not in (folder / "stack.log").read_text()


class TestForestLab(test_lab.TestLab):
    """The lab's requests: fields are only added, and the model raises one level."""

    @pytest.mark.parametrize(
        ("tx", "score", "risk_level", "triggered_rules"),
        [
            ({"tx_id": "TX001", "amount": 50.0, "category": "food", "hour": 14}, 0, "LOW", []),
            ({"tx_id": "TX002", "amount": 1800.0, "category": "electronics", "hour": 10}, 2, "HIGH", [R2]),
            ({"tx_id": "TX003", "amount": 4500.0, "category": "electronics", "hour": 3}, 7, "CRITICAL", [R1, R2, R3]),
        ],
        ids=["TX001", "TX002", "TX003"],
    )
    def test_task_4_2_score(
        self, service: RunningService, tx: dict[str, Any], score: int, risk_level: str, triggered_rules: list[str]
    ) -> None:
        super().test_task_4_2_score(service, tx, score, risk_level, triggered_rules)

    def test_task_4_2_health(self, service: RunningService) -> None:
        response = service.get("/health")
        assert (response.status_code, response.json()) == (200, {"status": "ok", "version": "1.0-tests+2.0-tests"})


class TestForestIdempotencyKey(test_exactly_once.TestIdempotencyKey):
    """Idempotency keys of decisions that a model has made."""


class TestForestBatch(test_batches.TestBatch):
    """Batches that a model decides."""


def by_model(case: Case, decision: Mapping[str, Any]) -> Case:
    """Return a valid case with the response of the model; fail if it changes more than the level."""
    assert isinstance(case.expected, Mapping)
    expected = decide_again(FOREST, http_api.document(case.body), decision)
    for name in case.expected.keys() - {"risk_level"}:
        assert expected[name] == case.expected[name]
    return replace(case, expected=expected)


def test_corpus_gets_the_same_errors(service: LocalStack) -> None:
    before, counted = service.stats(), Counter[str]()
    for case in (case for case in corpus.CASES if case.path == "/score" and not case.only_event):
        response = send(service, case)
        expected = case
        if case.counted:
            assert response.status == 200
            decision = json.loads(response.body)
            expected = by_model(case, decision)
            counted[decision["risk_level"]] += 1
        check(response, expected)
    assert level_changes(before, service.stats()) == counted


@pytest.mark.parametrize("how", FORMATS, ids=["array", "lines"])
def test_corpus_gets_the_same_errors_in_batches(service: LocalStack, how: Format) -> None:
    for batch in batch_corpus.batched(batch_corpus.carried(corpus.CASES, how)):
        results = test_batches.send(service, batch_corpus.body(batch, how), how)
        for case, result in zip(batch, results[1::2], strict=True):
            batch_corpus.check(case if "error" in result else by_model(case, result), result)


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
        for number, row in enumerate(payments.rows(SINGLE + 2 * BATCH))
    ]


def test_decisions_are_those_of_the_model_wherever_they_are_read(
    service: LocalStack, rows: list[dict[str, Any]]
) -> None:
    before = service.stats()

    def score() -> list[tuple[bytes, list[dict[str, Any]]]]:
        """Return the bodies and the decisions in them."""
        posted = [
            service.post("/score", json=row, headers={"Idempotency-Key": f"k{number}"})
            for number, row in enumerate(rows[:SINGLE])
        ]
        for start, how in ((SINGLE, ARRAY), (SINGLE + BATCH, LINES)):
            items = [json.dumps(row).encode() for row in rows[start : start + BATCH]]
            headers = {"Content-Type": how.content_type, "Idempotency-Key": f"batch-{start}"}
            body = how.start + how.separator.join(items) + how.end
            posted.append(service.post("/score/batch", data=body, headers=headers))
        assert {response.status_code for response in posted} == {200}
        return [(one.content, one.json().get("results", [one.json()])) for one in posted]

    first, second = score(), score()
    decisions = [decision for _, of_one in first for decision in of_one]
    conforms = validator(SCHEMAS["Decision"])
    for number, (row, decision) in enumerate(zip(rows, decisions, strict=True)):
        assert list(decision.items()) == list(decide_again(FOREST, row, decision).items()), row
        assert decision["version"] == "1.0-tests+2.0-tests"
        assert ("contributions" in decision) == (decision["risk_level"] in HIGH_RISK_LEVELS)
        assert decision.get("unseen", []) == SMALL.inputs.unseen(row)
        conforms.validate(decision)
        if number % ROWS_PER_LOOKUP == 0:
            (found,) = service.get(f"/transaction/{row['tx_id']}").json()["decisions"]
            assert list(found.items()) == [*decision.items(), ("transaction", row)]
    # Otherwise, the comparison would say little.
    assert {decision["risk_level"] for decision in decisions} == set(RISK_LEVELS)
    assert any(decision["risk_level"] in HIGH_RISK_LEVELS and not decision["score"] for decision in decisions)

    assert [body for body, _ in second[:SINGLE]] == [body for body, _ in first[:SINGLE]]
    replays = [{**decision, "replayed": True} for _, of_one in first[SINGLE:] for decision in of_one]
    assert [decision for _, of_one in second[SINGLE:] for decision in of_one] == replays
    assert level_changes(before, service.stats()) == Counter(decision["risk_level"] for decision in decisions)
    alerted = {one["decision_id"]: one for one in decisions if one["risk_level"] in HIGH_RISK_LEVELS}
    for decision_id, alert in alerts(service, alerted.keys()).items():
        names = alert.keys() - {"alert_id", "message", "timestamp"}
        assert names >= {"fraud", "fraud_probability", "contributions"}
        assert {name: alert[name] for name in names} == {name: alerted[decision_id][name] for name in names}


def alerts(service: LocalStack, decision_ids: AbstractSet[str]) -> dict[str, dict[str, Any]]:
    """Wait until all these decisions have been alerted, and return the alerts by decision id."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while True:
        lines = service.log.read_text().splitlines()
        entries = [json.loads(line) for line in lines if line.startswith('{"timestamp"')]
        found = {entry["decision_id"]: entry for entry in entries if entry["message"] == "alert"}
        if decision_ids <= found.keys():
            return {decision_id: found[decision_id] for decision_id in decision_ids}
        assert time.monotonic() < deadline, decision_ids - found.keys()
        time.sleep(0.1)


def test_simultaneous_requests_about_a_customer_are_decided_in_order_and_counted(service: LocalStack) -> None:
    before, customer = service.stats(), uuid.uuid4().hex
    requests = [{"amount": 1001.0 + number, "customer_id": customer, "hour": 4} for number in range(CONCURRENT)]
    with ThreadPoolExecutor(THREADS) as pool:
        responses = list(pool.map(lambda request: service.post("/score", json=request), requests))
    decisions = [response.json() for response in responses]
    assert {response.status_code for response in responses} == {200}
    for request, decision in zip(requests, decisions, strict=True):
        assert decision == decide_again(FOREST, request, decision)
    assert sorted(one["history"]["customer"]["count_1h"] for one in decisions) == list(range(CONCURRENT))
    # The model takes more than three transactions in an hour for a fraud.
    assert level_changes(before, service.stats()) == {"MEDIUM": 4, "HIGH": CONCURRENT - 4}


def test_damaged_model_is_one_line_and_503_until_repaired(service: LocalStack) -> None:
    file = service.root / MODEL_PATH
    valid = file.read_bytes()
    begin, total = len(service.log.read_text()), service.stats()["total"]
    other = model_file.encode(SMALL._replace(inputs=Inputs([*SMALL.inputs.features, Number("card_age", 0.0)])))
    try:
        for content, problem in (
            (valid[:-1], "The model is damaged: its content does not have the SHA-256 of its first line"),
            (b"", "The file is not a model: it does not begin with a line of risk-scoring-model"),
            (other, "Model '2.0-tests' needs 'card_age', which rule set '1.0-tests' does not declare"),
        ):
            file.write_bytes(content)
            for response in (service.post("/score", json=CRITICAL), service.get("/health")):
                assert response.status_code == 503
                assert response.json() == {"error": problem if content == other else f"forest.model: {problem}"}
            batch = service.post("/score/batch", json=[CRITICAL])
            assert batch.status_code == 503
            assert service.stats()["total"] == total
        file.write_bytes(valid)
        assert service.post("/score", json=CRITICAL).json()["version"] == "1.0-tests+2.0-tests"
    finally:
        file.write_bytes(valid)
    lines = [json.loads(line) for line in service.log.read_text()[begin:].splitlines()]
    assert len([line for line in lines if line.get("level") == "ERROR"]) == 3


def test_shipped_model_decides_with_the_shipped_rules(tmp_path: Path) -> None:
    """As ``Scorer=forest make run`` does in a fresh clone."""
    transaction = {"amount": 900.0, "category": "shopping_net", "hour": 23, "customer_id": "C-1"}
    with services.started(tmp_path / "stack.log", Scorer="forest") as stack:
        for _ in range(3):
            decision = stack.post("/score", json=transaction).json()
            expected = decide_again(scorers.load_forest(), transaction, decision)
            assert list(decision.items()) == list(expected.items())
        assert decision["history"]["customer"]["count_1h"] == 2
