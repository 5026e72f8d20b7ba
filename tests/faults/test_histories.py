"""History under concurrency and faults: each decision sees those before it, and no profile has a transaction twice."""

import struct
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest

from scoring.ledger.writer import COOLDOWN_SECONDS
from tests import profiles
from tests.faults.harness import THREADS, Harness, ScoreResponse
from tests.faults.proxy import Down, Fault
from tests.faults.test_faults import from_threads

CUSTOMERS = 8


def payments(count: int, customers: int = CUSTOMERS) -> dict[str, dict[str, Any]]:
    """Return transactions by request id, each with an amount of its own that a profile stores exactly."""
    return {
        str(uuid.uuid4()): {"amount": float(number), "customer_id": f"C{number % customers}", "store": f"s{number % 5}"}
        for number in range(count)
    }


def send(harness: Harness, requests: dict[str, dict[str, Any]]) -> dict[str, ScoreResponse]:
    responses = from_threads(lambda item: harness.score(item[1], item[0]), requests.items())
    return dict(zip(requests, responses, strict=True))


def warm_up(harness: Harness) -> None:
    """Start every environment."""
    from_threads(lambda _: harness.score({}, "warm-up"), range(THREADS))


def check_profiles(harness: Harness, requests: dict[str, dict[str, Any]]) -> None:
    """Fail unless each profile has exactly the recorded decisions of its customer, each once."""
    recorded = harness.recorded()
    for customer in {request["customer_id"] for request in requests.values()}:
        decisions = [one for key, one in recorded.items() if requests[key]["customer_id"] == customer]
        expected = sorted(
            (int(datetime.fromisoformat(one["evaluated_at"]).timestamp()), requests[one["decision_id"]]["amount"])
            for one in decisions
        )
        found = profiles.of_customer(harness.dynamodb, customer)
        assert found.number == len(expected)
        entries = sorted((entry.time, struct.unpack(">d", entry.amount_bits + bytes(3))[0]) for entry in found.entries)
        assert entries == expected[-64:] if len(expected) <= 64 else Counter(entries) <= Counter(expected)


def counts(responses: dict[str, ScoreResponse], requests: dict[str, dict[str, Any]]) -> dict[str, list[int]]:
    """Return ``count_1h`` of the decisions that are not degraded, by customer, sorted."""
    found: dict[str, list[int]] = {}
    for key, response in responses.items():
        if response.status == 200 and "degraded" not in response.body:
            count = response.body["history"]["customer"]["count_1h"]
            found.setdefault(requests[key]["customer_id"], []).append(count)
    return {customer: sorted(numbers) for customer, numbers in found.items()}


@pytest.mark.parametrize("customers", [1, 4])
def test_simultaneous_decisions_about_a_customer_are_serialized(harness: Harness, customers: int) -> None:
    warm_up(harness)
    requests = payments(64, customers)
    responses = send(harness, requests)
    assert {response.status for response in responses.values()} == {200}
    assert harness.queued() == 0
    each = list(range(64 // customers))
    assert counts(responses, requests) == {f"C{number}": each for number in range(customers)}
    harness.check_counts()
    check_profiles(harness, requests)


@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name.lower())
def test_no_transaction_is_twice_in_a_profile(harness: Harness, fault: Fault, *, full: bool) -> None:
    check_under_fault(harness, fault, payments(500 if full else 96), full=full)


def check_under_fault(harness: Harness, fault: Fault, requests: dict[str, dict[str, Any]], *, full: bool) -> None:
    """Send requests during a fault; fail if a decision is not stored as returned, or not counted or observed once."""
    share, queue_share = (0.1, 0.1) if full else (0.1, 0.3)
    if fault is Fault.REFUSED:
        share, queue_share = share / 10, queue_share / 10
    warm_up(harness)
    harness.store.inject(fault, share, seed=1)
    harness.queue.inject(fault, queue_share, seed=10)
    responses = send(harness, requests)
    harness.drain()
    harness.store.clear()

    assert harness.store.injected
    recorded = harness.recorded()
    accepted = {key: response.body for key, response in responses.items() if response.status == 200}
    assert accepted.keys() <= recorded.keys()
    for key, body in accepted.items():
        stored = recorded[key]
        if "recorded" in body and "degraded" not in stored:
            # The write was applied, but never confirmed.
            stored = {**stored, "degraded": ["history"], "evaluated_at": body["evaluated_at"]}
        assert {name: value for name, value in body.items() if name != "recorded"} == stored
    # No two decisions saw the same history.
    for numbers in counts(responses, requests).values():
        assert max(Counter(number for number in numbers if number < 64).values()) == 1
    harness.check_counts()
    check_profiles(harness, requests)


def test_repeated_keys_are_in_the_profile_once_while_half_the_replies_are_lost(harness: Harness) -> None:
    requests = payments(24, 3)
    harness.store.inject(Fault.REPLY_DROPPED, 0.5, seed=3)

    def retried(key: str) -> ScoreResponse:
        for _ in range(20):
            response = harness.score({"tx_id": key, **requests[key]}, key, key=True)
            if response.status == 200:
                return response
        pytest.fail("503 in all 20 attempts")

    from_threads(retried, [key for _ in range(3) for key in requests])
    harness.drain()
    harness.store.clear()
    assert harness.recorded().keys() == requests.keys()
    harness.check_counts()
    check_profiles(harness, requests)


@pytest.mark.parametrize("how", Down, ids=lambda how: how.name.lower())
def test_outage_is_scored_without_history_and_profiles_catch_up(harness: Harness, how: Down, *, full: bool) -> None:
    before = payments(16)
    send(harness, before)
    end = time.monotonic() + (30 if full else 2)
    requests: dict[str, dict[str, Any]] = {}
    responses: dict[str, ScoreResponse] = {}
    with harness.store.down(how):
        while time.monotonic() < end:
            some = payments(32)
            requests |= some
            responses |= send(harness, some)
            time.sleep(0.2)
    assert {response.status for response in responses.values()} == {200}
    assert all(one.body["degraded"] == ["history"] and one.body["recorded"] is False for one in responses.values())
    assert max(response.seconds for response in responses.values()) < 4
    harness.drain()
    harness.check_counts()
    assert harness.recorded().keys() == (before | requests).keys()
    check_profiles(harness, before | requests)
    # The circuits close.
    time.sleep(COOLDOWN_SECONDS if how is not Down.REFUSING else 0)
    after = payments(CUSTOMERS)
    found = counts(send(harness, after), after)
    known = Counter(request["customer_id"] for request in (before | requests).values())
    assert found == {customer: [min(number, 64)] for customer, number in known.items()}


def test_items_of_a_batch_see_those_before_them(harness: Harness) -> None:
    batch = list(payments(300, 5).values())
    seen: Counter[str] = Counter()
    for key in ("b1", "b2"):
        for payment, result in zip(batch, harness.score_batch(batch, key).body["results"], strict=True):
            assert result["history"]["customer"]["count_1h"] == min(seen[payment["customer_id"]], 64)
            seen[payment["customer_id"]] += 1
    harness.store.inject(Fault.REPLY_DROPPED, 0.3, seed=2)
    for key in ("b1", "b3", "b4", "b3"):
        assert harness.score_batch(batch, key).status == 200
    harness.drain()
    harness.store.clear()
    harness.check_counts()
    assert [profiles.of_customer(harness.dynamodb, f"C{number}").number for number in range(5)] == [240] * 5


@pytest.mark.parametrize(("rate", "outbox"), [(30, False), (300, True)])
def test_lasting_burst_about_one_customer(harness: Harness, rate: int, *, outbox: bool, full: bool) -> None:
    """At a rate that one value can take, all is in order; beyond it, nothing is lost."""
    warm_up(harness)
    requests = payments(rate * (20 if full else 2), 1)
    start = time.monotonic()

    def at_its_time(item: tuple[int, tuple[str, dict[str, Any]]]) -> ScoreResponse:
        number, (key, request) = item
        time.sleep(max(0, start + number / rate - time.monotonic()))
        return harness.score(request, key)

    with ThreadPoolExecutor(256) as pool:
        responses = dict(zip(requests, pool.map(at_its_time, enumerate(requests.items())), strict=True))
    assert {response.status for response in responses.values()} == {200}
    if not outbox:
        seconds = sorted(response.seconds for response in responses.values())
        assert seconds[int(len(seconds) * 0.99)] < 4
        assert harness.queued() == 0
        assert counts(responses, requests) == {"C0": [min(number, 64) for number in range(len(requests))]}
    harness.drain()
    assert harness.recorded().keys() == requests.keys()
    harness.check_counts()
    check_profiles(harness, requests)
