"""Every request of the lab, sent to the running service, is answered with the lab's fields.

What the rules decide is compared with the shipped rule set; that this is the lab's is checked by
``tests/unit/test_lab_rules.py``. The same file runs against `make run` and against `sam local start-api` (``API_URL``
names the service).
"""

from typing import Any

import pytest

from scoring import score_transaction, scorers
from scoring.assessment import HIGH_RISK_LEVELS
from tests.integration.service import Service

TX0042 = {"tx_id": "TX0042", "amount": 4500.0, "store": "Krakow", "category": "electronics"}


def test_part_1_home(service: Service) -> None:
    response = service.get("/")
    assert (response.status_code, response.text) == (200, "Welcome to the transaction monitoring system!")


def test_task_2_1_hello(service: Service) -> None:
    assert service.get("/hello").text == "Hello, stranger!"
    assert service.get("/hello?name=Anna").text == "Hello, Anna!"


def test_task_2_1_transaction(service: Service) -> None:
    assert service.post("/score", json=TX0042).status_code == 200
    response = service.get("/transaction/TX0042")
    assert response.status_code == 200
    assert response.json().items() >= {"tx_id": "TX0042", "status": "found"}.items()


def test_task_2_2_status(service: Service) -> None:
    response = service.get("/status")
    assert response.status_code == 200
    assert response.json() == {"service": "monitoring", "version": "1.0", "status": "ok"}


def test_part_3_echo(service: Service) -> None:
    response = service.post("/echo", json=TX0042)
    assert response.status_code == 200
    assert response.json() == {"received": TX0042, "field_count": 4}


def test_task_3_1_wrong_method(service: Service) -> None:
    response = service.get("/echo")
    assert response.status_code == 405
    assert response.headers["Allow"] == "POST"


@pytest.mark.parametrize(
    "tx",
    [
        {"tx_id": "TX001", "amount": 50.0, "category": "food", "hour": 14},
        {"tx_id": "TX002", "amount": 1800.0, "category": "electronics", "hour": 10},
        {"tx_id": "TX003", "amount": 4500.0, "category": "electronics", "hour": 3},
    ],
    ids=lambda tx: tx["tx_id"],
)
def test_task_4_2_score(service: Service, tx: dict[str, Any]) -> None:
    response = service.post("/score", json=tx)
    assert response.status_code == 200
    assert response.json().items() >= {**score_transaction(tx), "tx_id": tx["tx_id"]}.items()


def test_task_4_2_score_without_tx_id(service: Service) -> None:
    assert service.post("/score", json={"amount": 50.0}).json()["tx_id"] == "unknown"


def test_task_4_2_health(service: Service) -> None:
    response = service.get("/health")
    assert response.status_code == 200
    assert response.json() == {"status": "ok", "version": scorers.load().version}


@pytest.mark.parametrize("tx", [{"tx_id": "TX000"}, {}])
def test_task_4_3_missing_amount(service: Service, tx: dict[str, Any]) -> None:
    response = service.post("/score", json=tx)
    assert (response.status_code, response.json()) == (400, {"error": "Missing required field 'amount'"})


def test_homework_1_stats(service: Service) -> None:
    before = service.stats()
    sent = [{"amount": amount, "category": "electronics"} for amount in (50.0, 3200.0, 4500.0)]
    for tx in sent:
        service.post("/score", json=tx)
    after = service.stats()
    assert after["total"] - before["total"] == 3
    high = [tx for tx in sent if score_transaction(tx)["risk_level"] in HIGH_RISK_LEVELS]
    assert after["high"] - before["high"] == len(high)


def test_homework_2_negative_amount(service: Service) -> None:
    before = service.stats()
    response = service.post("/score", json={"tx_id": "TX001", "amount": -1})
    assert (response.status_code, response.json()) == (400, {"error": "Field 'amount' must not be negative"})
    assert service.stats() == before
