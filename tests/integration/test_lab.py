"""The lab's requests and the fields of its responses.

The expected scores come from the shipped rule set; ``tests/unit/test_lab_rules.py`` checks that it is the lab's.
"""

from typing import Any

import pytest

from scoring import score_transaction, scorers
from scoring.assessment import HIGH_RISK_LEVELS
from tests.service import RunningService

TX0042 = {"tx_id": "TX0042", "amount": 4500.0, "store": "Krakow", "category": "electronics"}


class TestLab:
    """Runs against the local stack here; subclassed for other targets."""

    def test_part_1_home(self, service: RunningService) -> None:
        response = service.get("/")
        assert (response.status_code, response.text) == (200, "Welcome to the transaction monitoring system!")

    def test_task_2_1_hello(self, service: RunningService) -> None:
        assert service.get("/hello").text == "Hello, stranger!"
        assert service.get("/hello?name=Anna").text == "Hello, Anna!"

    def test_task_2_1_transaction(self, service: RunningService) -> None:
        assert service.post("/score", json=TX0042).status_code == 200
        response = service.get("/transaction/TX0042")
        assert response.status_code == 200
        assert response.json().items() >= {"tx_id": "TX0042", "status": "found"}.items()

    def test_task_2_2_status(self, service: RunningService) -> None:
        response = service.get("/status")
        assert response.status_code == 200
        assert response.json() == {"service": "monitoring", "version": "1.0", "status": "ok"}

    def test_part_3_echo(self, service: RunningService) -> None:
        response = service.post("/echo", json=TX0042)
        assert response.status_code == 200
        assert response.json() == {"received": TX0042, "field_count": 4}

    def test_task_3_1_wrong_method(self, service: RunningService) -> None:
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
    def test_task_4_2_score(self, service: RunningService, tx: dict[str, Any]) -> None:
        response = service.post("/score", json=tx)
        assert response.status_code == 200
        assert response.json().items() >= {**score_transaction(tx), "tx_id": tx["tx_id"]}.items()

    def test_task_4_2_score_without_tx_id(self, service: RunningService) -> None:
        assert service.post("/score", json={"amount": 50.0}).json()["tx_id"] == "unknown"

    def test_task_4_2_health(self, service: RunningService) -> None:
        response = service.get("/health")
        assert response.status_code == 200
        assert response.json() == {"status": "ok", "version": scorers.load().version}

    @pytest.mark.parametrize("tx", [{"tx_id": "TX000"}, {}])
    def test_task_4_3_missing_amount(self, service: RunningService, tx: dict[str, Any]) -> None:
        response = service.post("/score", json=tx)
        assert (response.status_code, response.json()) == (400, {"error": "Missing required field 'amount'"})

    def test_homework_1_stats(self, service: RunningService) -> None:
        before = service.stats()
        sent = [{"amount": amount, "category": "electronics"} for amount in (50.0, 3200.0, 4500.0)]
        for tx in sent:
            service.post("/score", json=tx)
        after = service.stats()
        assert after["total"] - before["total"] == 3
        high = [tx for tx in sent if score_transaction(tx)["risk_level"] in HIGH_RISK_LEVELS]
        assert after["high"] - before["high"] == len(high)

    def test_homework_2_negative_amount(self, service: RunningService) -> None:
        before = service.stats()
        response = service.post("/score", json={"tx_id": "TX001", "amount": -1})
        assert (response.status_code, response.json()) == (400, {"error": "Field 'amount' must not be negative"})
        assert service.stats() == before
