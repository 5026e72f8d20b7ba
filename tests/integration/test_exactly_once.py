"""Exactly-once recording over HTTP, with several execution environments."""

import random
import statistics
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from tests.service import RunningService

THREADS = 32


class TestIdempotencyKey:
    """Runs against the local stack here; subclassed for other targets."""

    def test_repeated_key_is_one_decision(self, service: RunningService) -> None:
        before = service.stats()["total"]
        transaction = {"tx_id": f"TX-{uuid.uuid4()}", "amount": 4500.0, "hour": 3}
        headers = {"Idempotency-Key": "attempt"}

        first = service.post("/score", json=transaction, headers=headers)
        second = service.post("/score", json=transaction, headers=headers)

        assert (first.status_code, second.status_code) == (200, 200)
        assert second.content == first.content
        assert "Idempotent-Replayed" not in first.headers
        assert second.headers["Idempotent-Replayed"] == "true"
        assert first.json()["decision_id"] == "attempt"
        assert len(service.get(f"/transaction/{transaction['tx_id']}").json()["decisions"]) == 1
        assert service.stats()["total"] == before + 1

    def test_key_with_another_body_is_422(self, service: RunningService) -> None:
        transaction = {"tx_id": f"TX-{uuid.uuid4()}", "amount": 4500.0}
        headers = {"Idempotency-Key": "attempt"}
        assert service.post("/score", json=transaction, headers=headers).status_code == 200
        before = service.stats()
        response = service.post("/score", json={**transaction, "amount": 4501.0}, headers=headers)
        assert response.status_code == 422
        assert response.json() == {"error": "Header 'Idempotency-Key': 'attempt' was already used with another body"}
        assert service.stats() == before

    def test_requests_without_key_are_separate_decisions(self, service: RunningService) -> None:
        transaction = {"tx_id": f"TX-{uuid.uuid4()}", "amount": 1}
        ids = [service.post("/score", json=transaction).json()["decision_id"] for _ in range(3)]
        found = service.get(f"/transaction/{transaction['tx_id']}").json()["decisions"]
        assert [decision["decision_id"] for decision in found] == ids[::-1]


def test_concurrent_requests_with_one_key_are_one_decision(service: RunningService) -> None:
    before = service.stats()["total"]
    transaction = {"tx_id": f"TX-{uuid.uuid4()}", "amount": 1}
    barrier = threading.Barrier(16)

    def send(_: int) -> tuple[int, bytes]:
        barrier.wait()
        response = service.post("/score", json=transaction, headers={"Idempotency-Key": "k"})
        return response.status_code, response.content

    with ThreadPoolExecutor(16) as pool:
        responses = set(pool.map(send, range(16)))
    assert [status for status, _ in responses] == [200]
    assert service.stats()["total"] == before + 1


def test_lookup_omits_unknown_fields(service: RunningService) -> None:
    transaction = {"tx_id": f"TX-{uuid.uuid4()}", "amount": 20.0, "category": "książki", "store": "Kraków", "hour": 3}
    scored = service.post("/score", json={**transaction, "card": "4111111111111111"}).json()
    (found,) = service.get(f"/transaction/{transaction['tx_id']}").json()["decisions"]
    assert found == {**scored, "transaction": transaction}


def test_key_without_tx_id_does_not_block_the_same_tx_id(service: RunningService) -> None:
    name = str(uuid.uuid4())
    headers = {"Idempotency-Key": name}
    before = service.stats()["total"]
    anonymous = service.post("/score", json={"amount": 1}, headers=headers).json()
    assert service.get(f"/transaction/{name}").json()["decisions"] == [{**anonymous, "transaction": {"amount": 1}}]
    own = service.post("/score", json={"tx_id": name, "amount": 2}, headers=headers)
    assert own.status_code == 200
    (found,) = service.get(f"/transaction/{name}").json()["decisions"]
    assert found == {**own.json(), "transaction": {"tx_id": name, "amount": 2}}
    for transaction in ({"amount": 1}, {"tx_id": name, "amount": 2}):
        again = service.post("/score", json=transaction, headers=headers)
        assert again.headers["Idempotent-Replayed"] == "true"
    assert service.stats()["total"] == before + 2


def test_2000_concurrent_requests_are_all_counted(service: RunningService) -> None:
    before = service.stats()
    latencies: list[float] = []

    def send(number: int) -> tuple[int, str]:
        started = time.perf_counter()
        response = service.post("/score", json={"amount": number * 3, "category": "electronics", "hour": number % 24})
        latencies.append(time.perf_counter() - started)
        return response.status_code, response.json().get("risk_level")

    # Shuffled: decisions with many hits take longer and must not all come last.
    numbers = random.Random(1).sample(range(2000), 2000)
    with ThreadPoolExecutor(THREADS) as pool:
        responses = Counter(pool.map(send, numbers))

    after = service.stats()
    assert {status for status, _ in responses} == {200}
    assert after["total"] - before["total"] == 2000
    for level, count in before["by_risk_level"].items():
        assert after["by_risk_level"][level] - count == responses[200, level]
    # Growing tables must not slow the store down. A busy machine does not double a median; an emulator that copies
    # its tables in every transaction would multiply it.
    assert statistics.median(latencies[-500:]) < 2 * statistics.median(latencies[:500])
