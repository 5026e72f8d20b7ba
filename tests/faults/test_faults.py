"""Faults on the wire: every transaction is scored, every decision counted once, whatever fails.

``make faults`` runs it in full, ``make test`` in a short form: fewer requests, and a shorter outage.
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
from tests.faults.harness import THREADS, Answer, Harness
from tests.faults.proxy import OF_TRANSACTIONS, Down, Fault
from tests.rule_set import decide

# Applied, or perhaps applied, though the caller was told of a failure.
APPLIED = {Fault.REPLY_DROPPED, Fault.REPLY_LATE, Fault.CALL_LATE, Fault.ERROR_AFTER, Fault.REFUSED}


def transactions(count: int) -> list[dict[str, Any]]:
    """Transactions of every level, the same ones each time."""
    draw = random.Random(count)
    return [
        {"amount": draw.randrange(6000), "category": draw.choice(["electronics", "books"]), "hour": draw.randrange(24)}
        for _ in range(count)
    ]


def from_threads(work: Callable[[Any], Any], items: Any) -> list[Any]:
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, items))


@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name.lower())
def test_a_share_of_all_calls_fails_and_nothing_is_lost_or_counted_twice(
    harness: Harness, fault: Fault, *, full: bool
) -> None:
    # In short, more of fewer calls: else hardly any decision would reach the outbox, and meet its faults.
    count, share, share_of_queue = (4000, 0.1, 0.1) if full else (160, 0.2, 0.5)
    least = count * share / 2
    if fault is Fault.REFUSED:
        # Begins a spell in which all calls are refused, and many of them in no time.
        share, share_of_queue, least = share / 10, share / 10, 1
    # Every environment has started, else the first fault could pass before they have.
    from_threads(lambda _: harness.score({}, "warm-up"), range(THREADS))
    harness.store.inject(fault, share, seed=1)
    # With this seed the queue's first spell comes after more messages than there are threads: it cannot hit them all.
    harness.queue.inject(fault, share_of_queue, seed=10)
    requests = {f"{fault.name}-{uuid.uuid4()}": transaction for transaction in transactions(count)}

    answers: dict[str, Answer] = dict(
        zip(requests, from_threads(lambda item: harness.score(item[1], item[0]), requests.items()), strict=True)
    )
    # With the faults still there, and each message delivered three times.
    harness.drain()
    harness.store.clear()

    assert harness.store.injected >= least
    deferred = {request for request, answer in answers.items() if "recorded" in answer.body}
    if fault is Fault.CONFLICT:
        # Tried again on another shard, and that is that, unless this machine is very slow.
        assert len(deferred) < count * share / 2
    else:
        assert deferred
        assert harness.queue.injected or fault in OF_TRANSACTIONS

    assert max(answer.seconds for answer in answers.values()) < 6
    accepted = {request for request, answer in answers.items() if answer.status == 200}
    refused = answers.keys() - accepted
    assert {answers[request].status for request in refused} <= {503}
    # 503 only where both were down, and recorded all the same only where a reply was lost on the way.
    assert refused <= harness.unavailable("store") & harness.unavailable("outbox")
    recorded = harness.recorded()
    assert accepted <= recorded.keys() <= accepted | (refused if fault in APPLIED else set())
    for request in accepted:
        assert recorded[request] == {name: value for name, value in answers[request].body.items() if name != "recorded"}
    harness.check_counts()


def test_clients_that_repeat_their_key_get_one_decision_though_half_the_replies_are_lost(
    harness: Harness, *, full: bool
) -> None:
    keys = {str(uuid.uuid4()): transaction for transaction in transactions(1000 if full else 24)}
    harness.store.inject(Fault.REPLY_DROPPED, 0.5, seed=3)
    harness.queue.inject(Fault.REPLY_DROPPED, 0.5, seed=4)

    def send(key: str) -> Answer:
        for _ in range(20):
            answer = harness.score({"tx_id": f"TX-{key}", **keys[key]}, key, key=True)
            if answer.status == 200:
                return answer
            assert answer.status == 503
        pytest.fail("twenty times 503")

    # Four times each, in no order, so that attempts of one key also meet.
    attempts = [key for key in keys for _ in range(4)]
    random.Random(5).shuffle(attempts)
    answers = from_threads(send, attempts)
    harness.drain()
    harness.store.clear()

    recorded = harness.recorded()
    assert recorded.keys() == keys.keys()
    for key, answer in zip(attempts, answers, strict=True):
        stored = recorded[key]
        assert answer.decision == {name: value for name, value in stored.items() if name != "evaluated_at"}
        if "recorded" not in answer.body:
            assert answer.body == stored
    harness.check_counts()


@pytest.mark.parametrize("how", Down, ids=lambda how: how.name.lower())
def test_the_store_is_down_and_all_is_scored_in_time_and_recorded_later(
    harness: Harness, how: Down, *, full: bool
) -> None:
    start = time.monotonic()
    end = start + (30 if full else 3)
    answers: dict[str, Answer] = {}

    def customer(number: int) -> None:
        for transaction in itertools.cycle(transactions(100)[number:]):
            if time.monotonic() > end:
                return
            request = str(uuid.uuid4())
            answers[request] = harness.score(transaction, request)
            time.sleep(0.3)

    with harness.store.down(how):
        from_threads(customer, range(THREADS))
        for function, event in (("StatsFunction", "stats"), ("TransactionFunction", "transaction")):
            asked = time.monotonic()
            response = harness.get(function, event)
            assert (response["statusCode"], response["headers"]["Retry-After"]) == (503, "1")
            # Two attempts of a second each, and the start of the function
            assert time.monotonic() - asked < 4
        # What is delivered meanwhile is not recorded, and stays.
        waiting = harness.waiting()
        harness.deliver(times=1)
        assert harness.waiting() == waiting >= len(answers)
        assert harness.recorded() == {}

    assert len(answers) > THREADS
    assert {answer.status for answer in answers.values()} == {200}
    assert {answer.body["recorded"] for answer in answers.values()} == {False}
    assert max(answer.seconds for answer in answers.values()) < 3
    harness.drain()
    assert harness.recorded().keys() == answers.keys()
    harness.check_counts()


def test_long_retry_pause_is_not_waited_for(wire: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a client of its own, since no attempts are repeated where many were in vain."""
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
def test_store_and_outbox_are_down_and_the_answer_is_503_before_the_function_is_stopped(
    harness: Harness, how: Down
) -> None:
    request = str(uuid.uuid4())
    with harness.store.down(how), harness.queue.down(how):
        answer = harness.score({"amount": 1}, request)
    assert (answer.status, list(answer.body)) == (503, ["error"])
    assert answer.seconds < 6
    assert harness.recorded() == {}
    harness.check_counts()


def test_what_can_never_be_recorded_ends_in_the_dead_letter_queue_and_holds_up_no_other(harness: Harness) -> None:
    policy = harness.sqs.get_queue_attributes(QueueUrl="OutboxQueue", AttributeNames=["RedrivePolicy"])["Attributes"]
    sooner = {"RedrivePolicy": json.dumps(json.loads(policy["RedrivePolicy"]) | {"maxReceiveCount": 3})}
    taken = str(uuid.uuid4())
    harness.score({"tx_id": taken, "amount": 1}, taken, key=True)
    poison = ["poison", encode(decide({"tx_id": taken, "amount": 2}, taken))]
    good = {key: encode(decide({"tx_id": key, "amount": 3}, key)) for key in (str(uuid.uuid4()) for _ in range(30))}
    harness.sqs.set_queue_attributes(QueueUrl="OutboxQueue", Attributes=sooner)
    try:
        for body in [poison[0], *good.values(), poison[1]]:
            harness.sqs.send_message(QueueUrl="OutboxQueue", MessageBody=body)
        for _ in range(4):
            harness.deliver()
        assert good.keys() <= harness.recorded().keys()
        assert harness.waiting() == len(poison)
        harness.drain()
    finally:
        harness.sqs.set_queue_attributes(QueueUrl="OutboxQueue", Attributes=policy)
    dead = harness.sqs.receive_message(QueueUrl="OutboxDeadLetterQueue", MaxNumberOfMessages=10)["Messages"]
    assert sorted(message["Body"] for message in dead) == sorted(poison)
    harness.check_counts()
