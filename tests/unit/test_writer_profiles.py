"""LedgerWriter: profiles and lists are read before, and profiles are written with, the decisions."""

import io
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from scoring import decision as decision_module
from scoring.aws.client import CALL_SECONDS
from scoring.aws.queue import Queue
from scoring.decision import Decision
from scoring.errors import CallFailed, InvalidMessage, StoreUnavailable
from scoring.history import profiles
from scoring.ledger import outbox
from scoring.ledger.outbox import Outbox
from scoring.ledger.recorder import Recorder
from scoring.ledger.writer import LedgerWriter, Outcome, Recorded
from tests import events
from tests.profiles import of_customer
from tests.unit.aws_errors import cancellation
from tests.unit.conftest import NO_DEADLINE, SETTINGS, Functions, Intercept, record
from tests.unit.fakes import FakeClient, MotoClient
from tests.unit.test_lookups import KEY, rule, rule_set

SCORER = rule_set()
WITH_LISTS = rule_set(rule("customer_id", "in list", "blocked"), rule("store", "in list", "shops"))
READ = "batch_get_item"
WRITE = "transact_write_items"


def decide(key: str, customer: str = "C1", **fields: Any) -> Decision:
    document = {"tx_id": f"TX-{key}", "amount": 5, "customer_id": customer, **fields}
    return decision_module.decide(document, key, SCORER)


def count(outcome: Outcome, history: str = "customer") -> int:
    assert isinstance(outcome, Recorded)
    number: int = outcome.response["history"][history]["count_1h"]
    return number


def number_in_profile(dynamodb: Any, customer: str = "C1") -> int:
    """Return the number of transactions in the profile of a customer."""
    stored = of_customer(dynamodb, customer)
    assert len(stored.entries) == stored.number
    return stored.number


def packed_profile(dynamodb: Any) -> bytes:
    """Return the only profile as it is stored."""
    (item,) = dynamodb.scan(TableName="ProfilesTable")["Items"]
    packed: bytes = item["profile"]["B"]
    return packed


def test_decision_counter_and_profile_are_one_transaction(
    writer: LedgerWriter, dynamodb: Any, intercept: Intercept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scoring.ledger.known.time.time", lambda: 1_000_000.9)
    reads, writes = intercept(READ), intercept(WRITE)
    assert [count(record(writer, decide(f"k{number}"))) for number in range(3)] == [0, 1, 2]
    assert (len(reads), len(writes)) == (3, 3)
    assert [list(action) for action in writes[0]["TransactItems"]] == [["Put"], ["Put"], ["Update"]]
    (read,) = reads[0]["RequestItems"].items()
    assert read == (
        "ProfilesTable",
        {"Keys": [{"subject": {"S": KEY.subject}, "distinct": {"S": "store"}}], "ConsistentRead": True},
    )
    (item,) = dynamodb.scan(TableName="ProfilesTable")["Items"]
    assert item.keys() == {"subject", "distinct", "profile", "revision", "expires_at"}
    assert len(item["revision"]["S"]) == 12
    assert item["expires_at"] == {"N": str(1_000_000 + SETTINGS.profile_days * 86_400)}
    assert number_in_profile(dynamodb) == 3
    # No personal data
    assert "C1" not in str(item)


def test_stored_decision_has_the_history(writer: LedgerWriter, dynamodb: Any) -> None:
    response = record(writer, decide("k1")).response
    (item,) = dynamodb.scan(TableName="DecisionsTable")["Items"]
    assert json.loads(item["answer"]["S"]) == response
    assert "history" in response
    assert "degraded" not in response


def test_decision_without_lookups_reads_nothing(writer: LedgerWriter, intercept: Intercept) -> None:
    reads = intercept(READ)
    record(writer, decision_module.decide({"amount": 5, "store": "x"}, "k1", SCORER))
    assert reads == []


def test_replay_is_not_counted_in_the_profile(writer: LedgerWriter, dynamodb: Any) -> None:
    first = record(writer, decide("k1"))
    again = record(writer, decide("k1"))
    assert (again.response, again.replayed) == (first.response, True)
    assert number_in_profile(dynamodb) == 1


def test_own_write_with_a_lost_response_is_no_replay(writer: LedgerWriter, dynamodb: Any) -> None:
    decision = decide("k1")
    first = record(writer, decision)
    assert not first.replayed
    assert record(writer, decision).response == first.response
    assert number_in_profile(dynamodb) == 1


def competing(dynamodb: Any, monkeypatch: pytest.MonkeyPatch, compete: Callable[[int], Any]) -> None:
    """Call ``compete(number)`` before each transaction, except for its own ones."""
    original, number = dynamodb.transact_write_items, iter(range(1000))

    def transact(**parameters: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(dynamodb, "transact_write_items", original)
            compete(next(number))
        return original(**parameters)

    monkeypatch.setattr(dynamodb, "transact_write_items", transact)


def test_changed_profile_is_decided_again_by_the_returned_item(
    writer: LedgerWriter, dynamodb: Any, intercept: Intercept, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = LedgerWriter(MotoClient(dynamodb), SETTINGS)
    record(other, decide("before"))
    competing(dynamodb, monkeypatch, lambda number: number or record(other, decide("other")))
    reads = intercept(READ)
    assert count(record(writer, decide("k1"))) == 2
    # One read of each writer: the cancelled transaction returned the new profile.
    assert len(reads) == 2
    assert number_in_profile(dynamodb) == 3


def test_profile_that_changes_often_is_read_again(
    writer: LedgerWriter, dynamodb: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = LedgerWriter(MotoClient(dynamodb), SETTINGS)
    competing(dynamodb, monkeypatch, lambda number: number < 6 and record(other, decide(f"other {number}")))
    assert count(record(writer, decide("k1"))) == 6
    assert number_in_profile(dynamodb) == 7


def test_profile_that_was_created_or_deleted_meanwhile(
    writer: LedgerWriter, dynamodb: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = LedgerWriter(MotoClient(dynamodb), SETTINGS)
    key = {"subject": {"S": KEY.subject}, "distinct": {"S": KEY.distinct}}
    steps: list[Callable[[], Any]] = [
        lambda: record(other, decide("other")),
        lambda: dynamodb.delete_item(TableName="ProfilesTable", Key=key),
    ]
    competing(dynamodb, monkeypatch, lambda number: number < 2 and steps[number]())
    assert count(record(writer, decide("k1"))) == 0
    assert number_in_profile(dynamodb) == 1


def test_profile_that_keeps_changing_is_unavailable_and_opens_no_circuit(
    writer: LedgerWriter, dynamodb: Any, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    clock = [0.0]
    monkeypatch.setattr("scoring.ledger.writer.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("scoring.ledger.writer.time.sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    changes = iter(range(10_000))

    def change(_: int) -> None:
        key = {"subject": {"S": KEY.subject}, "distinct": {"S": KEY.distinct}}
        number = next(changes)
        packed = profiles.update(None, profiles.Observation(KEY, number, 1.0, bytes(3)))[1]
        item = {**key, "profile": {"B": packed}, "revision": {"S": str(number)}}
        dynamodb.put_item(TableName="ProfilesTable", Item=item)

    decision = decide("k1")
    with pytest.MonkeyPatch.context() as patch:
        competing(dynamodb, patch, change)
        with pytest.raises(StoreUnavailable):
            record(writer, decision)
    assert 3 <= clock[0] < 3.2
    assert json.loads(log.getvalue())["reason"] == "ProfileChanged"
    assert dynamodb.scan(TableName="DecisionsTable")["Items"] == []
    # The last decision was made by the last history.
    assert decision.lookups
    assert decision.fallback.response["degraded"] == ["history"]
    assert decision.fallback.response["history"]["customer"]["count_7d"] == 0
    assert isinstance(writer.record([decision_module.decide({"amount": 1}, "k2", SCORER)], NO_DEADLINE)[0], Recorded)


def test_items_of_one_customer_are_decided_in_order(writer: LedgerWriter, dynamodb: Any, intercept: Intercept) -> None:
    reads, writes = intercept(READ), intercept(WRITE)
    decisions = [decide(f"k{number}", f"C{number % 3}") for number in range(30)]
    assert [count(outcome) for outcome in writer.record(decisions, NO_DEADLINE)] == [n // 3 for n in range(30)]
    # One read, and one write with each of the 3 profiles once.
    assert (len(reads), len(writes)) == (1, 1)
    assert len(writes[0]["TransactItems"]) == 30 + 3 + 1
    assert [number_in_profile(dynamodb, f"C{number}") for number in range(3)] == [10, 10, 10]


def test_chunks_have_at_most_100_actions(writer: LedgerWriter, intercept: Intercept) -> None:
    reads, writes = intercept(READ), intercept(WRITE)
    decisions = [decide(f"k{number}", f"C{number % 40}", ip=f"ip{number % 7}") for number in range(150)]
    outcomes = writer.record(decisions, NO_DEADLINE)
    assert [count(outcome) for outcome in outcomes] == [number // 40 for number in range(150)]
    assert [count(outcome, "ip") for outcome in outcomes] == [number // 7 for number in range(150)]
    sizes = [len(call["TransactItems"]) for call in writes]
    assert sum(sizes) > 150 + 47
    assert max(sizes) == 100
    assert len(reads) == len(writes) == 3


def test_lookups_of_a_chunk_fit_into_one_call(writer: LedgerWriter, intercept: Intercept) -> None:
    reads = intercept(READ)
    decisions = [
        decision_module.decide({"amount": 5, "store": f"s{n}", "customer_id": f"C{n}"}, f"k{n}", WITH_LISTS)
        for n in range(40)
    ]
    assert all(isinstance(outcome, Recorded) for outcome in writer.record(decisions, NO_DEADLINE))
    sizes = [sum(len(keys["Keys"]) for keys in call["RequestItems"].values()) for call in reads]
    assert sizes == [99, 21]


def test_replays_in_a_batch_are_not_counted_in_the_profile(writer: LedgerWriter, dynamodb: Any) -> None:
    writer.record([decide("k1"), decide("k2")], NO_DEADLINE)
    outcomes = writer.record([decide("k0"), decide("k1"), decide("k3"), decide("k3")], NO_DEADLINE)
    assert [count(outcome) for outcome in outcomes] == [2, 0, 3, 3]
    assert [isinstance(one, Recorded) and one.replayed for one in outcomes] == [False, True, False, True]
    assert number_in_profile(dynamodb) == 4


def test_conflict_in_a_batch_keeps_the_order(writer: LedgerWriter, dynamodb: Any, intercept: Intercept) -> None:
    intercept(WRITE, *[cancellation(*["None"] * 8, "TransactionConflict")] * 3)
    outcomes = writer.record([decide(f"k{number}") for number in range(8)], NO_DEADLINE)
    assert [count(outcome) for outcome in outcomes] == list(range(8))
    assert number_in_profile(dynamodb) == 8


DAMAGED = [
    {"profile": {"B": b""}},
    {"profile": {"B": b"\x01"}},
    {"profile": {"B": b"\x02" + bytes(16)}},
    {"profile": {"B": b"\x01" + bytes(17)}},
    {"profile": {"S": "x"}},
    {},
]


@pytest.mark.parametrize("damaged", DAMAGED, ids=str)
def test_decision_with_a_damaged_profile_is_degraded_and_recorded(
    writer: LedgerWriter, dynamodb: Any, log: io.StringIO, damaged: dict[str, Any]
) -> None:
    """It must not hold up a Kafka partition, and a newer version may be able to read the profile."""
    key = {"subject": {"S": KEY.subject}, "distinct": {"S": KEY.distinct}}
    dynamodb.put_item(TableName="ProfilesTable", Item={**key, **damaged})
    first, second, third = writer.record([decide("k1", "C2"), decide("k2"), decide("k3", "C2")], NO_DEADLINE)
    assert (count(first), count(third)) == (0, 1)
    assert isinstance(second, Recorded)
    assert second.response["degraded"] == ["history"]
    assert "history" not in second.response
    line = json.loads(log.getvalue())
    assert (line["message"], line["reason"]) == ("profile unavailable", "InvalidProfile")
    assert dynamodb.get_item(TableName="ProfilesTable", Key=key)["Item"] == {**key, **damaged}
    message = outbox.decode(outbox.encode(decide("k4").fallback))
    assert isinstance(writer.record([message], NO_DEADLINE)[0], Recorded)
    assert dynamodb.get_item(TableName="ProfilesTable", Key=key)["Item"] == {**key, **damaged}


def test_transaction_with_a_damaged_profile_is_in_no_other_profile(writer: LedgerWriter, dynamodb: Any) -> None:
    record(writer, decide("k0", ip="1"))
    (item,) = [one for one in dynamodb.scan(TableName="ProfilesTable")["Items"] if one["distinct"] == {"S": "card"}]
    dynamodb.put_item(TableName="ProfilesTable", Item={**item, "profile": {"B": b"damaged"}})
    first, second = writer.record([decide("k1", ip="1"), decide("k2")], NO_DEADLINE)
    assert isinstance(first, Recorded)
    assert first.response["degraded"] == ["history"]
    assert count(second) == 1
    assert number_in_profile(dynamodb) == 2


def test_applied_write_with_a_lost_reply_and_a_throttled_retry_is_no_replay(
    writer: LedgerWriter, dynamodb: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decision is then made again, and differs from the one that was written."""
    original = dynamodb.transact_write_items
    lost = iter([True])

    def transact(**parameters: Any) -> Any:
        response = original(**parameters)
        if next(lost, False):
            raise CallFailed("TransactionInProgressException", 400)
        return response

    monkeypatch.setattr(dynamodb, "transact_write_items", transact)
    recorded = record(writer, decide("k1"))
    assert (recorded.replayed, count(recorded)) == (False, 0)
    assert number_in_profile(dynamodb) == 1
    assert record(writer, decide("k1")).replayed


@pytest.mark.parametrize(
    "response",
    [
        {},
        {"Responses": {}, "UnprocessedKeys": {}},
        {"Responses": {"ProfilesTable": {}}, "UnprocessedKeys": {}},
        {"Responses": {"ProfilesTable": [{}]}, "UnprocessedKeys": {}},
        {"Responses": {"ProfilesTable": [{"subject": {"S": "x"}}]}, "UnprocessedKeys": {}},
        {"message": "Welcome"},
    ],
    ids=str,
)
def test_malformed_profiles_are_store_unavailable(log: io.StringIO, response: dict[str, Any]) -> None:
    with pytest.raises(StoreUnavailable):
        record(LedgerWriter(FakeClient(response), SETTINGS), decide("k1"))
    assert json.loads(log.getvalue())["reason"] == "UnexpectedResponse"


def test_unprocessed_keys_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scoring.ledger.batch_get.time.sleep", lambda _: None)
    unread: dict[str, Any] = {"Responses": {}, "UnprocessedKeys": {"ProfilesTable": {"Keys": [{}]}}}
    client = FakeClient(unread, unread, {"Responses": {"ProfilesTable": []}, "UnprocessedKeys": {}}, {})
    assert count(record(LedgerWriter(client, SETTINGS), decide("k1"))) == 0
    assert len(client.calls) == 4


@pytest.mark.parametrize("seconds", [-1, 0, CALL_SECONDS - 0.01])
def test_lookup_respects_the_deadline(writer: LedgerWriter, intercept: Intercept, seconds: float) -> None:
    reads, writes = intercept(READ), intercept(WRITE)
    with pytest.raises(StoreUnavailable):
        record(writer, decide("k1"), time.monotonic() + seconds)
    assert reads == writes == []


def test_slow_failure_of_a_lookup_opens_the_circuit(
    writer: LedgerWriter, intercept: Intercept, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    clock = [0.0]
    monkeypatch.setattr("scoring.ledger.writer.time.monotonic", lambda: clock[0])
    failing = writer._dynamodb

    def call(*_: Any) -> Any:
        clock[0] += 2
        raise CallFailed("TimeoutError")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(failing, "call", call)
        assert isinstance(writer.record([decide("k1")], NO_DEADLINE)[0], StoreUnavailable)
    reads = intercept(READ)
    assert isinstance(writer.record([decide("k2")], NO_DEADLINE)[0], StoreUnavailable)
    assert reads == []
    assert [json.loads(line)["reason"] for line in log.getvalue().splitlines()] == ["TimeoutError", "CircuitOpen"]
    clock[0] += 2
    assert count(record(writer, decide("k3"))) == 0


class TestOutbox:
    """Decisions that were not recorded at once."""

    @pytest.fixture
    def recorder(self, writer: LedgerWriter, sqs: Any) -> Recorder:
        return Recorder(writer, Outbox(Queue(MotoClient(sqs), "OutboxQueue")))

    def test_decision_without_history_is_degraded_and_kept(
        self, recorder: Recorder, intercept: Intercept, sqs: Any
    ) -> None:
        intercept(READ, CallFailed("InternalServerError", 500))
        recorded = recorder.record_one(decide("k1"), NO_DEADLINE)
        assert (recorded.response["recorded"], recorded.response["degraded"]) == (False, ["history"])
        assert "history" not in recorded.response
        assert not recorded.replayed
        (message,) = sqs.receive_message(QueueUrl="OutboxQueue")["Messages"]
        kept = outbox.decode(message["Body"])
        assert kept.response == {name: value for name, value in recorded.response.items() if name != "recorded"}
        assert [one.key for one in kept.observations] == [KEY]

    def test_decision_that_was_not_confirmed_keeps_its_history(
        self, recorder: Recorder, writer: LedgerWriter, intercept: Intercept
    ) -> None:
        record(writer, decide("before"))
        intercept(WRITE, CallFailed("InternalServerError", 500))
        recorded = recorder.record_one(decide("k1"), NO_DEADLINE)
        assert (recorded.response["recorded"], recorded.response["degraded"]) == (False, ["history"])
        assert recorded.response["history"]["customer"]["count_1h"] == 1
        assert not recorded.replayed

    def test_equal_keys_in_a_batch_are_one_decision(self, recorder: Recorder, intercept: Intercept) -> None:
        intercept(READ, CallFailed("InternalServerError", 500))
        first, second = recorder.record([decide("k1"), decide("k1")], NO_DEADLINE)
        assert isinstance(first, Recorded)
        assert isinstance(second, Recorded)
        assert first.response == second.response
        assert (first.replayed, second.replayed) == (False, True)

    def test_profile_gets_each_decision_once_in_any_order(self, writer: LedgerWriter, dynamodb: Any) -> None:
        messages = [
            outbox.encode(decide(f"k{number}", timestamp=f"2026-11-2{number}T00:00:00Z", store=f"s{number}").fallback)
            for number in range(5)
        ]
        for number in (3, 1, 1, 4, 0, 3, 2, 0):
            writer.record([outbox.decode(messages[number])], NO_DEADLINE)
        assert number_in_profile(dynamodb) == 5
        in_order = None
        for message in messages:
            in_order = profiles.update(in_order, outbox.decode(message).observations[0])[1]
        assert packed_profile(dynamodb) == in_order

    def test_response_stays_what_the_caller_got(self, writer: LedgerWriter) -> None:
        record(writer, decide("before"))
        decision = outbox.decode(outbox.encode(decide("k1").fallback))
        recorded = record(writer, decision)
        assert recorded.response == decision.response
        assert recorded.response["degraded"] == ["history"]

    @pytest.mark.parametrize(
        "observations",
        [
            5,
            [5],
            [[]],
            [["s", "d", 1, 1.0]],
            [["s", "d", 1, 1.0, "000000", 0]],
            [[1, "d", 1, 1.0, "000000"]],
            [["s", None, 1, 1.0, "000000"]],
            [["s", "d", 1.0, 1.0, "000000"]],
            [["s", "d", True, 1.0, "000000"]],
            [["s", "d", 1, 1, "000000"]],
            [["s", "d", 1, "1", "000000"]],
            [["s", "d", 1, 1.0, 0]],
            [["s", "d", 1, 1.0, "00000"]],
            [["s", "d", 1, 1.0, "00000x"]],
            [["s", "d", 1, 1.0, "00 00 "]],
            [["s", "d", 2**39, 1.0, "000000"]],
        ],
        ids=str,
    )
    def test_wrong_observations_are_no_decision(self, observations: Any) -> None:
        message = json.loads(outbox.encode(decide("k1").fallback))
        with pytest.raises(InvalidMessage):
            outbox.decode(json.dumps({**message, "observations": observations}))


class TestLists:
    """List entries in the table."""

    def hits(self, writer: LedgerWriter, key: str, **fields: Any) -> list[str]:
        document = {"amount": 5, "customer_id": "C1", "store": "x", **fields}
        response = record(writer, decision_module.decide(document, key, WITH_LISTS)).response
        labels: list[str] = response["triggered_rules"]
        return labels

    def test_entry_counts_from_the_next_decision_until_it_expires(
        self, writer: LedgerWriter, dynamodb: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("scoring.ledger.known.time.time", lambda: 1_000_000.5)
        assert self.hits(writer, "k1") == []
        entry = {"list": {"S": "blocked"}, "entry": {"S": "C1"}}
        dynamodb.put_item(TableName="ListsTable", Item=entry)
        assert self.hits(writer, "k2") == ["customer_id in list"]
        for key, expires_at, expected in [("k3", 1_000_001, ["customer_id in list"]), ("k4", 1_000_000, [])]:
            dynamodb.put_item(TableName="ListsTable", Item={**entry, "expires_at": {"N": str(expires_at)}})
            assert self.hits(writer, key) == expected

    def test_profile_and_entries_are_read_in_one_call(self, writer: LedgerWriter, intercept: Intercept) -> None:
        reads = intercept(READ)
        self.hits(writer, "k1")
        (read,) = reads
        assert {table: len(keys["Keys"]) for table, keys in read["RequestItems"].items()} == {
            "ProfilesTable": 1,
            "ListsTable": 2,
        }
        assert all(keys["ConsistentRead"] for keys in read["RequestItems"].values())

    def test_unreadable_lists_are_degraded(self, writer: LedgerWriter, sqs: Any, intercept: Intercept) -> None:
        recorder = Recorder(writer, Outbox(Queue(MotoClient(sqs), "OutboxQueue")))
        intercept(READ, CallFailed("InternalServerError", 500))
        document = {"amount": 5, "store": "x"}
        response = recorder.record_one(decision_module.decide(document, "k1", WITH_LISTS), NO_DEADLINE).response
        assert (response["degraded"], response["recorded"]) == (["lists"], False)

    def test_lists_that_were_read_are_not_degraded(self, writer: LedgerWriter, sqs: Any, intercept: Intercept) -> None:
        recorder = Recorder(writer, Outbox(Queue(MotoClient(sqs), "OutboxQueue")))
        intercept(WRITE, CallFailed("InternalServerError", 500))
        document = {"amount": 5, "store": "x"}
        response = recorder.record_one(decision_module.decide(document, "k1", WITH_LISTS), NO_DEADLINE).response
        assert "degraded" not in response
        assert response["recorded"] is False


def test_profile_that_was_created_again_is_not_overwritten(
    writer: LedgerWriter, dynamodb: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal numbers of transactions are not enough: they may be others."""
    other = LedgerWriter(MotoClient(dynamodb), SETTINGS)
    record(writer, decide("k1"))

    def create_again(number: int) -> None:
        if not number:
            key = {"subject": {"S": KEY.subject}, "distinct": {"S": KEY.distinct}}
            dynamodb.delete_item(TableName="ProfilesTable", Key=key)
            record(other, decide("k2", amount=9))

    competing(dynamodb, monkeypatch, create_again)
    response = record(writer, decide("k3")).response
    assert response["history"]["customer"]["max_24h"] == 9
    assert number_in_profile(dynamodb) == 2


def test_profile_without_a_revision_is_replaced_once(writer: LedgerWriter, dynamodb: Any) -> None:
    """Profiles of the first version had none."""
    record(writer, decide("k1"))
    (item,) = dynamodb.scan(TableName="ProfilesTable")["Items"]
    del item["revision"]
    dynamodb.put_item(TableName="ProfilesTable", Item=item)
    assert count(record(writer, decide("k2"))) == 1
    assert count(record(writer, decide("k3"))) == 2
    assert number_in_profile(dynamodb) == 3


@pytest.mark.parametrize("is_available", [True, False])
def test_no_value_that_history_is_kept_by_is_logged(
    invoke: Functions, intercept: Intercept, log: io.StringIO, *, is_available: bool
) -> None:
    intercept(READ, *([] if is_available else [CallFailed("InternalServerError", 500)] * 2))
    body = json.dumps({"amount": 5000, "customer_id": "alice@example.com", "store": "Krakow"})
    invoke("ScoreFunction", events.post(body))
    invoke("BatchFunction", events.post(f"[{body}, {body}]"))
    assert log.getvalue()
    assert not [word for word in ("alice", "Krakow", KEY.subject.partition("#")[0]) if word in log.getvalue()]
