"""Faults while a model decides: each decision is stored as it was returned, by its history, and counted once."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from scoring.assessment import HIGH_RISK_LEVELS
from tests import events
from tests.faults import harness as harnesses
from tests.faults.harness import Harness, ProxiedFunctions
from tests.faults.proxy import Down, Fault
from tests.faults.test_histories import check_under_fault, payments, send
from tests.forests import decide_again
from tests.unit.conftest import FOREST


@pytest.fixture(scope="module")
def proxied_functions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxiedFunctions]:
    with harnesses.running(tmp_path_factory.mktemp("faults") / "functions.log", "forest") as functions:
        yield functions


def of_several_levels(count: int) -> dict[str, dict[str, Any]]:
    """Return payments to which the model gives different levels."""
    return {
        key: {**one, "amount": one["amount"] + 1000.0 * (number % 2), "hour": 3, "category": "electronics"}
        | ({"category": "grocery", "hour": 12} if number % 3 else {})
        for number, (key, one) in enumerate(payments(count).items())
    }


def check_model(harness: Harness, requests: dict[str, dict[str, Any]]) -> None:
    """Fail unless each stored decision is exactly the one that the model makes by the stored history."""
    recorded = harness.recorded()
    for key, decision in recorded.items():
        expected = decide_again(FOREST, requests[key], decision)
        assert {name: value for name, value in decision.items() if name != "degraded"} == expected
        assert ("contributions" in decision) == (decision["risk_level"] in HIGH_RISK_LEVELS)
    assert {decision["risk_level"] for decision in recorded.values()} >= {"LOW", "MEDIUM", "HIGH"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize by every fault, or by those that differ most in the short form."""
    if "fault" in metafunc.fixturenames:
        short = (Fault.REPLY_DROPPED, Fault.CONFLICT)
        faults = Fault if metafunc.config.getoption("--full") else short
        metafunc.parametrize("fault", faults, ids=lambda fault: fault.name.lower())


def test_decisions_of_a_model_are_stored_as_returned(harness: Harness, fault: Fault, *, full: bool) -> None:
    requests = of_several_levels(500 if full else 96)
    check_under_fault(harness, fault, requests, full=full)
    check_model(harness, requests)


def test_outbox_keeps_what_the_model_said(harness: Harness) -> None:
    requests = of_several_levels(48)
    with harness.store.down(Down.REFUSING):
        responses = send(harness, requests)
    assert {(one.status, one.body["recorded"]) for one in responses.values()} == {(200, False)}
    harness.drain()
    returned = {
        key: {name: one for name, one in it.body.items() if name != "recorded"} for key, it in responses.items()
    }
    assert harness.recorded() == returned
    check_model(harness, requests)
    harness.check_counts()


def test_kafka_records_are_decided_by_the_model(harness: Harness) -> None:
    sent = list(of_several_levels(48).values())
    event = events.load("stream-kafka")
    topic, (record, *_) = next(iter(event["records"].items()))
    event["records"] = {
        topic: [
            {**record, "headers": [], "offset": offset, "value": base64.b64encode(json.dumps(one).encode()).decode()}
            for offset, one in enumerate(sent)
        ]
    }
    for _ in range(2):
        result = json.loads(harness.functions.invoke("StreamFunction", json.dumps(event)))
        assert result == {"batchItemFailures": []}
    check_model(harness, {f"{topic}-{offset}": one for offset, one in enumerate(sent)})
    assert len(harness.recorded()) == len(sent)
    harness.check_counts()
