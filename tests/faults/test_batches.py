"""Batches under faults on the wire: every decision is recorded and counted once, whatever fails."""

import contextlib
import itertools
import uuid
from typing import Any

import pytest

from scoring.batches import MAX_ITEMS
from tests.faults.harness import Harness, ScoreResponse
from tests.faults.proxy import Down, Fault
from tests.faults.test_faults import from_threads, transactions

TIMEOUT_SECONDS = 29


def in_batches(count: int, size: int) -> dict[str, list[dict[str, Any]]]:
    """Return batches of transactions by idempotency key, the same transactions in every run."""
    drawn = iter(transactions(count * size))
    return {str(uuid.uuid4()): list(itertools.islice(drawn, size)) for _ in range(count)}


def send(harness: Harness, batches: dict[str, list[dict[str, Any]]]) -> dict[str, ScoreResponse]:
    responses = from_threads(lambda key: harness.score_batch(batches[key], key), batches)
    assert max(response.seconds for response in responses) < TIMEOUT_SECONDS
    assert {response.status for response in responses} <= {200, 503}
    return dict(zip(batches, responses, strict=True))


def ids(batches: dict[str, list[dict[str, Any]]]) -> set[str]:
    return {f"{key}:{index}" for key, batch in batches.items() for index in range(len(batch))}


def decided(response: ScoreResponse) -> list[dict[str, Any]]:
    """Return the decisions of a response as they are stored."""
    return [
        {name: value for name, value in result.items() if name not in {"recorded", "replayed"}}
        for result in response.body["results"]
    ]


@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name.lower())
def test_faults_neither_lose_nor_double_decisions(harness: Harness, fault: Fault, *, full: bool) -> None:
    batches = in_batches(*((40, 150) if full else (24, 20)))
    # A batch makes few calls, so a larger share of them fails. Each refusal refuses all calls for a while.
    share = 0.02 if fault is Fault.REFUSED else 0.3
    harness.store.inject(fault, share, seed=1)
    harness.queue.inject(fault, share, seed=2)
    responses = send(harness, batches)
    harness.drain()
    harness.store.clear()

    assert harness.store.injected
    recorded = harness.recorded()
    accepted = {key: batch for key, batch in batches.items() if responses[key].status == 200}
    for key in accepted:
        for index, decision in enumerate(decided(responses[key])):
            assert recorded[f"{key}:{index}"] == decision
    # After a 503, some decisions of the batch are recorded.
    assert ids(accepted) <= recorded.keys() <= ids(batches)
    assert accepted
    harness.check_counts()


def test_repeated_batches_get_one_decision_each_while_half_the_replies_are_lost(
    harness: Harness, *, full: bool
) -> None:
    batches = in_batches(*((20, 100) if full else (6, 30)))
    harness.store.inject(Fault.REPLY_DROPPED, 0.5, seed=3)
    harness.queue.inject(Fault.REPLY_DROPPED, 0.5, seed=4)

    def retried(key: str) -> ScoreResponse:
        for _ in range(20):
            response = harness.score_batch(batches[key], key)
            if response.status == 200:
                return response
            assert response.status == 503
        pytest.fail("503 in all 20 attempts")

    # Each batch four times, so that some attempts overlap.
    attempts = [key for _ in range(4) for key in batches]
    responses = from_threads(retried, attempts)
    harness.drain()
    harness.store.clear()

    recorded = harness.recorded()
    assert recorded.keys() == ids(batches)
    for key, response in zip(attempts, responses, strict=True):
        for index, result in enumerate(response.body["results"]):
            stored = recorded[f"{key}:{index}"]
            if "recorded" in result:
                # Not confirmed: an overlapping attempt with another `evaluated_at` may have been recorded first.
                stored = {**stored, "evaluated_at": result["evaluated_at"]}
            assert {name: value for name, value in result.items() if name not in {"recorded", "replayed"}} == stored
    harness.check_counts()


@pytest.mark.parametrize("how", Down, ids=lambda how: how.name.lower())
def test_store_outage_puts_batches_into_the_outbox(harness: Harness, how: Down, *, full: bool) -> None:
    batches = in_batches(4, 30) | in_batches(1, MAX_ITEMS if full else 200)
    with harness.store.down(how):
        responses = send(harness, batches)
        assert {response.status for response in responses.values()} == {200}
        results = [result for response in responses.values() for result in response.body["results"]]
        assert {result["recorded"] for result in results} == {False}
        assert harness.recorded() == {}
        assert harness.queued() == len(results)
    # Long before the timeout, although the outbox takes ten decisions at a time
    assert max(response.seconds for response in responses.values()) < TIMEOUT_SECONDS / 2
    harness.drain()
    assert harness.recorded() == {
        one["decision_id"]: one for response in responses.values() for one in decided(response)
    }
    harness.check_counts()


@pytest.mark.parametrize("how", Down, ids=lambda how: how.name.lower())
def test_store_and_outbox_outage_is_503_within_the_timeout(harness: Harness, how: Down) -> None:
    batches = in_batches(2, MAX_ITEMS)
    with harness.store.down(how), harness.queue.down(how):
        responses = send(harness, batches)
    assert {(response.status, *response.body) for response in responses.values()} == {(503, "error")}
    assert harness.recorded() == {}
    # The same batches succeed afterwards, and count once.
    for _ in range(2):
        assert {response.status for response in send(harness, batches).values()} == {200}
    assert harness.recorded().keys() == ids(batches)
    harness.check_counts()


def test_outage_in_the_middle_of_a_batch(harness: Harness) -> None:
    """The first decisions are recorded, the others go to the outbox."""
    calls = itertools.count()

    def fail_later(operation: str, _: bytes) -> contextlib.nullcontext[Fault | None]:
        late = operation == "TransactWriteItems" and next(calls) >= 2
        return contextlib.nullcontext(Fault.ERROR_BEFORE if late else None)

    batches = in_batches(1, 500)
    harness.store.follow(fail_later)
    (response,) = send(harness, batches).values()
    unrecorded = ["recorded" in result for result in response.body["results"]]
    first = unrecorded.index(True)
    assert first > 0
    assert unrecorded == [False] * first + [True] * (500 - first)
    assert (len(harness.recorded()), harness.queued()) == (first, 500 - first)
    harness.store.clear()
    harness.drain()
    assert harness.recorded() == {one["decision_id"]: one for one in decided(response)}
    harness.check_counts()
