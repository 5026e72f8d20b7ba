"""The lab's requests and the fields of its responses.

The service has the tests' rule set, whose rules are the lab's.
"""

from typing import Any

import pytest

from tests.rule_set import R1, R2, R3, RULE_SET
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
        ("tx", "score", "risk_level", "triggered_rules"),
        [
            ({"tx_id": "TX001", "amount": 50.0, "category": "food", "hour": 14}, 0, "LOW", []),
            ({"tx_id": "TX002", "amount": 1800.0, "category": "electronics", "hour": 10}, 2, "MEDIUM", [R2]),
            ({"tx_id": "TX003", "amount": 4500.0, "category": "electronics", "hour": 3}, 7, "CRITICAL", [R1, R2, R3]),
        ],
        ids=["TX001", "TX002", "TX003"],
    )
    def test_task_4_2_score(
        self, service: RunningService, tx: dict[str, Any], score: int, risk_level: str, triggered_rules: list[str]
    ) -> None:
        response = service.post("/score", json=tx)
        assert response.status_code == 200
        lab = {"score": score, "risk_level": risk_level, "triggered_rules": triggered_rules, "tx_id": tx["tx_id"]}
        assert response.json().items() >= lab.items()
        assert list(response.json())[:4] == list(lab)

    def test_task_4_2_score_without_tx_id(self, service: RunningService) -> None:
        assert service.post("/score", json={"amount": 50.0}).json()["tx_id"] == "unknown"

    def test_task_4_2_health(self, service: RunningService) -> None:
        response = service.get("/health")
        assert response.status_code == 200
        assert response.json() == {"status": "ok", "version": RULE_SET.version}

    @pytest.mark.parametrize("tx", [{"tx_id": "TX000"}, {}])
    def test_task_4_3_missing_amount(self, service: RunningService, tx: dict[str, Any]) -> None:
        response = service.post("/score", json=tx)
        assert (response.status_code, response.json()) == (400, {"error": "Missing required field 'amount'"})

    def test_homework_1_stats(self, service: RunningService) -> None:
        before = service.stats()
        for amount in (50.0, 3200.0, 4500.0):
            service.post("/score", json={"amount": amount, "category": "electronics"})
        after = service.stats()
        assert after["total"] - before["total"] == 3
        assert after["high"] - before["high"] == 2

    def test_homework_2_negative_amount(self, service: RunningService) -> None:
        before = service.stats()
        response = service.post("/score", json={"tx_id": "TX001", "amount": -1})
        assert (response.status_code, response.json()) == (400, {"error": "Field 'amount' must not be negative"})
        assert service.stats() == before
