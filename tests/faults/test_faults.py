"""Faults on the wire: every transaction is scored and every decision counted once, whatever fails.

``make faults`` runs at full length; ``make test`` sends fewer requests and has shorter outages.
"""

import contextlib
import itertools
import json
import random
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from scoring.aws import client
from scoring.errors import CallFailed
from scoring.ledger.outbox import encode
from tests.faults.harness import THREADS, Harness, ScoreResponse
from tests.faults.proxy import OF_TRANSACTIONS, Down, Fault
from tests.rule_set import decide

# The caller sees a failure, but the call is or may be applied.
MAYBE_APPLIED = {Fault.REPLY_DROPPED, Fault.REPLY_LATE, Fault.CALL_LATE, Fault.ERROR_AFTER, Fault.REFUSED}


def transactions(count: int) -> list[dict[str, Any]]:
    """Return transactions of every risk level, the same in every run."""
    draw = random.Random(count)
    return [
        {"amount": draw.randrange(6000), "category": draw.choice(["electronics", "books"]), "hour": draw.randrange(24)}
        for _ in range(count)
    ]


def from_threads(work: Callable[[Any], Any], items: Any) -> list[Any]:
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, items))


@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name.lower())
def test_faults_neither_lose_nor_double_decisions(harness: Harness, fault: Fault, *, full: bool) -> None:
    # The short run fails a larger share of its calls; otherwise hardly any decision would reach the outbox.
    count, share, queue_share = (4000, 0.1, 0.1) if full else (160, 0.2, 0.5)
    minimum = count * share / 2
    if fault is Fault.REFUSED:
        # Each one refuses all calls for a while.
        share, queue_share, minimum = share / 10, share / 10, 1
    # Start every environment before the first fault.
    from_threads(lambda _: harness.score({}, "warm-up"), range(THREADS))
    harness.store.inject(fault, share, seed=1)
    # This seed lets more messages than threads through before the first refusal, so some reach the queue.
    harness.queue.inject(fault, queue_share, seed=10)
    requests = {f"{fault.name}-{uuid.uuid4()}": transaction for transaction in transactions(count)}

    responses: dict[str, ScoreResponse] = dict(
        zip(requests, from_threads(lambda item: harness.score(item[1], item[0]), requests.items()), strict=True)
    )
    # The faults persist, and each message is delivered three times.
    harness.drain()
    harness.store.clear()

    assert harness.store.injected >= minimum
    deferred = {request for request, response in responses.items() if "recorded" in response.body}
    if fault is Fault.CONFLICT:
        # The retry on another shard succeeds unless this machine is very slow.
        assert len(deferred) < count * share / 2
    else:
        assert deferred
        assert harness.queue.injected or fault in OF_TRANSACTIONS

    assert max(response.seconds for response in responses.values()) < 6
    accepted = {request for request, response in responses.items() if response.status == 200}
    refused = responses.keys() - accepted
    assert {responses[request].status for request in refused} <= {503}
    # 503 only if both store and outbox failed; such a decision is recorded only if a reply was lost.
    assert refused <= harness.unavailable("store") & harness.unavailable("outbox")
    recorded = harness.recorded()
    assert accepted <= recorded.keys() <= accepted | (refused if fault in MAYBE_APPLIED else set())
    for request in accepted:
        assert recorded[request] == {
            name: value for name, value in responses[request].body.items() if name != "recorded"
        }
    harness.check_counts()


def test_repeated_keys_get_one_decision_while_half_the_replies_are_lost(harness: Harness, *, full: bool) -> None:
    keys = {str(uuid.uuid4()): transaction for transaction in transactions(1000 if full else 24)}
    harness.store.inject(Fault.REPLY_DROPPED, 0.5, seed=3)
    harness.queue.inject(Fault.REPLY_DROPPED, 0.5, seed=4)

    def send(key: str) -> ScoreResponse:
        for _ in range(20):
            response = harness.score({"tx_id": f"TX-{key}", **keys[key]}, key, key=True)
            if response.status == 200:
                return response
            assert response.status == 503
        pytest.fail("503 in all 20 attempts")

    # Each key four times, shuffled, so that some attempts of one key overlap.
    attempts = [key for key in keys for _ in range(4)]
    random.Random(5).shuffle(attempts)
    responses = from_threads(send, attempts)
    harness.drain()
    harness.store.clear()

    recorded = harness.recorded()
    assert recorded.keys() == keys.keys()
    for key, response in zip(attempts, responses, strict=True):
        stored = recorded[key]
        assert response.decision == {name: value for name, value in stored.items() if name != "evaluated_at"}
        if "recorded" not in response.body:
            assert response.body == stored
    harness.check_counts()


@pytest.mark.parametrize("how", Down, ids=lambda how: how.name.lower())
def test_store_outage_is_scored_in_time_and_recorded_later(harness: Harness, how: Down, *, full: bool) -> None:
    start = time.monotonic()
    end = start + (30 if full else 3)
    responses: dict[str, ScoreResponse] = {}

    def send_until_end(number: int) -> None:
        for transaction in itertools.cycle(transactions(100)[number:]):
            if time.monotonic() > end:
                return
            request = str(uuid.uuid4())
            responses[request] = harness.score(transaction, request)
            time.sleep(0.3)

    with harness.store.down(how):
        from_threads(send_until_end, range(THREADS))
        for function, event in (("StatsFunction", "stats"), ("TransactionFunction", "transaction")):
            called = time.monotonic()
            response = harness.get(function, event)
            assert (response["statusCode"], response["headers"]["Retry-After"]) == (503, "1")
            # Two attempts of a second each and the start of the function
            assert time.monotonic() - called < 4
        # Messages that are delivered during the outage return to the queue.
        queued = harness.queued()
        harness.deliver(times=1)
        assert harness.queued() == queued >= len(responses)
        assert harness.recorded() == {}

    assert len(responses) > THREADS
    assert {response.status for response in responses.values()} == {200}
    assert {response.body["recorded"] for response in responses.values()} == {False}
    assert max(response.seconds for response in responses.values()) < 3
    harness.drain()
    assert harness.recorded().keys() == responses.keys()
    harness.check_counts()


def test_long_retry_after_is_ignored(wire: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uses a new client, because one with many failures no longer retries."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", wire.store.endpoint)
    dynamodb = client.dynamodb()
    wire.store.inject(Fault.ERROR_BEFORE, 1.0, seed=1)
    start = time.monotonic()
    with contextlib.closing(dynamodb._connection), pytest.raises(CallFailed, match="InternalServerError"):
        dynamodb.call("ListTables", {})
    assert wire.store.injected == 2
    assert time.monotonic() - start < 2
    wire.store.clear()


@pytest.mark.parametrize("how", Down, ids=lambda how: how.name.lower())
def test_store_and_outbox_outage_is_503_within_the_timeout(harness: Harness, how: Down) -> None:
    request = str(uuid.uuid4())
    with harness.store.down(how), harness.queue.down(how):
        response = harness.score({"amount": 1}, request)
    assert (response.status, list(response.body)) == (503, ["error"])
    assert response.seconds < 6
    assert harness.recorded() == {}
    harness.check_counts()


def test_unrecordable_messages_end_in_the_dead_letter_queue(harness: Harness) -> None:
    policy = harness.sqs.get_queue_attributes(QueueUrl="OutboxQueue", AttributeNames=["RedrivePolicy"])["Attributes"]
    early_redrive = {"RedrivePolicy": json.dumps(json.loads(policy["RedrivePolicy"]) | {"maxReceiveCount": 3})}
    used = str(uuid.uuid4())
    harness.score({"tx_id": used, "amount": 1}, used, key=True)
    poison = ["poison", encode(decide({"tx_id": used, "amount": 2}, used))]
    valid = {key: encode(decide({"tx_id": key, "amount": 3}, key)) for key in (str(uuid.uuid4()) for _ in range(30))}
    harness.sqs.set_queue_attributes(QueueUrl="OutboxQueue", Attributes=early_redrive)
    try:
        for body in [poison[0], *valid.values(), poison[1]]:
            harness.sqs.send_message(QueueUrl="OutboxQueue", MessageBody=body)
        for _ in range(4):
            harness.deliver()
        assert valid.keys() <= harness.recorded().keys()
        assert harness.queued() == len(poison)
        harness.drain()
    finally:
        harness.sqs.set_queue_attributes(QueueUrl="OutboxQueue", Attributes=policy)
    dead = harness.sqs.receive_message(QueueUrl="OutboxDeadLetterQueue", MaxNumberOfMessages=10)["Messages"]
    assert sorted(message["Body"] for message in dead) == sorted(poison)
    harness.check_counts()
