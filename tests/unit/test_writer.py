"""LedgerWriter: decisions, counters, replays, conflicts, retries. No concurrency, since moto loses updates."""

import io
import itertools
import json
import math
import string
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scoring import decision as decision_module
from scoring import http_api, shadow, strict_json
from scoring.aws.client import CALL_SECONDS
from scoring.errors import CallFailed, IdempotencyConflict, StoreUnavailable
from scoring.ledger import outbox
from scoring.ledger.reader import LedgerReader, Totals
from scoring.ledger.writer import MAX_BYTES, MAX_CONFLICTS, LedgerWriter, Outcome, Recorded
from scoring.scorers.forest.inputs import Category, Inputs
from scoring.scorers.forest.model import MEAN, Model, Node
from scoring.scorers.forest.scorer import MAX_CONTRIBUTIONS, ForestScorer
from scoring.scorers.rules import MAX_QUOTED_VALUES, RuleSet
from scoring.scorers.rules_loader import MAX_LABELS_LENGTH, MAX_RULES, from_document
from scoring.store import Store
from tests.rule_set import DOCUMENT, R1, R2, R3, decide
from tests.unit.aws_errors import cancellation, dynamodb_errors
from tests.unit.conftest import NO_DEADLINE, SETTINGS, Intercept, record
from tests.unit.fakes import FakeClient, MotoClient
from tests.unit.ledger_model import LedgerModel

CRITICAL = {"tx_id": "TX003", "amount": 4500.0, "category": "electronics", "hour": 3}
LOW = {"tx_id": "TX001", "amount": 50.0}
NO_DECISIONS = Totals(0, 0, {"LOW": 0, "MEDIUM": 0, "HIGH": 0, "CRITICAL": 0}, {})


def stored_shards(dynamodb: Any) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = dynamodb.scan(TableName="StatsTable")["Items"]
    return items


def updated_shards(calls: list[dict[str, Any]]) -> list[int]:
    return [int(call["TransactItems"][1]["Update"]["Key"]["shard"]["N"]) for call in calls]


def writer_on_shard(shard: int, dynamodb: Any) -> LedgerWriter:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scoring.ledger.writer.random.randrange", lambda _: shard)
        return LedgerWriter(MotoClient(dynamodb), SETTINGS)


def test_stored_item(writer: LedgerWriter, dynamodb: Any) -> None:
    decision = decide({**CRITICAL, "card": "4111111111111111"}, "k1")
    recorded = record(writer, decision)

    (item,) = dynamodb.scan(TableName="DecisionsTable")["Items"]
    assert item["tx_id"] == {"S": "TX003"}
    assert item["decision_id"] == {"S": "k1"}
    assert json.loads(item["answer"]["S"]) == recorded.response == decision.response
    assert (item["risk_level"], item["score"]) == ({"S": "CRITICAL"}, {"N": "7"})
    # Unknown fields are not stored, since they may contain anything, such as a card number.
    assert json.loads(item["transaction"]["S"]) == CRITICAL
    assert not recorded.replayed


def test_decision_expires(writer: LedgerWriter, dynamodb: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scoring.ledger.writer.time.time", lambda: 1_000_000.9)
    record(writer, decide(LOW, "k1"))
    (item,) = dynamodb.scan(TableName="DecisionsTable")["Items"]
    time_to_live = dynamodb.describe_time_to_live(TableName="DecisionsTable")["TimeToLiveDescription"]
    assert item[time_to_live["AttributeName"]] == {"N": str(1_000_000 + 90 * 86_400)}


def test_counters(writer: LedgerWriter, reader: LedgerReader) -> None:
    assert reader.totals(NO_DEADLINE) == NO_DECISIONS
    for number, transaction in enumerate([CRITICAL, LOW, LOW, {"amount": 3200}, {"amount": 1, "hour": 1}]):
        record(writer, decide(transaction, f"k{number}"))
    assert reader.totals(NO_DEADLINE) == Totals(
        total=5,
        high=2,
        by_risk_level={"LOW": 2, "MEDIUM": 1, "HIGH": 1, "CRITICAL": 1},
        by_rule={R1: 2, R2: 1, R3: 2},
    )


def test_repeated_request_is_replayed(writer: LedgerWriter, reader: LedgerReader) -> None:
    first = record(writer, decide(CRITICAL, "k1"))
    again = record(writer, decide(CRITICAL, "k1"))
    assert again.replayed
    assert again.response == first.response
    assert reader.totals(NO_DEADLINE).total == 1


def test_retry_after_a_lost_response_is_not_a_replay(writer: LedgerWriter, reader: LedgerReader) -> None:
    decision = decide(CRITICAL, "k1")
    first = record(writer, decision)
    assert record(writer, decision) == first
    assert reader.totals(NO_DEADLINE).total == 1


def test_key_with_another_body_conflicts(writer: LedgerWriter, reader: LedgerReader) -> None:
    record(writer, decide(CRITICAL, "k1"))
    with pytest.raises(IdempotencyConflict, match="'k1' was already used with another body"):
        record(writer, decide({**CRITICAL, "amount": 1}, "k1"))
    assert reader.totals(NO_DEADLINE).total == 1


def test_every_transaction_has_its_own_token(writer: LedgerWriter, intercept: Intercept) -> None:
    """DynamoDB treats a repeated token as a retry of the same transaction."""
    calls = intercept("transact_write_items", cancellation("TransactionConflict", "None"))
    for key in ("k1", "k2"):
        record(writer, decide(LOW, key))
    tokens = {call["ClientRequestToken"] for call in calls}
    assert len(tokens) == len(calls) == 3
    assert {len(token) for token in tokens} == {32}  # DynamoDB accepts up to 36 characters


def test_key_is_scoped_to_the_transaction(writer: LedgerWriter, reader: LedgerReader) -> None:
    record(writer, decide(CRITICAL, "k1"))
    record(writer, decide(LOW, "k1"))
    assert reader.totals(NO_DEADLINE).total == 2


def test_decision_without_tx_id_is_stored_under_its_own_id(writer: LedgerWriter, reader: LedgerReader) -> None:
    record(writer, decide({"amount": 1}, "k1"))
    record(writer, decide({"amount": 1}, "k2"))
    (found,) = reader.find("k1", NO_DEADLINE)
    assert (found["tx_id"], found["decision_id"]) == ("unknown", "k1")
    assert reader.find("unknown", NO_DEADLINE) == []


def test_environments_spread_over_the_shards() -> None:
    shards = set()
    for _ in range(200):
        client = FakeClient({})
        record(LedgerWriter(client, SETTINGS._replace(stats_shards=64)), decide(LOW, "k1"))
        shards.update(updated_shards(client.calls))
    assert shards <= set(range(64))
    assert len(shards) > 32


@pytest.mark.parametrize("seconds", [-1, 0, CALL_SECONDS - 0.01])
def test_write_respects_the_deadline(writer: LedgerWriter, intercept: Intercept, seconds: float) -> None:
    calls = intercept("transact_write_items")
    with pytest.raises(StoreUnavailable):
        record(writer, decide(LOW, "k1"), time.monotonic() + seconds)
    assert calls == []


@pytest.mark.parametrize(
    "failure",
    [
        cancellation("None", "TransactionConflict"),
        cancellation("TransactionConflict", "None"),
        cancellation("None", "ThrottlingError"),
        cancellation("ProvisionedThroughputExceeded", "None"),
        CallFailed("TransactionInProgressException", 400),
    ],
    ids=lambda failure: str(failure.response.get("CancellationReasons", failure)),
)
def test_retryable_failure_changes_shards(
    dynamodb: Any, intercept: Intercept, monkeypatch: pytest.MonkeyPatch, failure: CallFailed
) -> None:
    writer = writer_on_shard(2, dynamodb)
    steps = iter([3, 2])
    monkeypatch.setattr("scoring.ledger.writer.random.randrange", lambda *_: next(steps))
    calls = intercept("transact_write_items", failure, failure)

    record(writer, decide(CRITICAL, "k1"))
    record(writer, decide(LOW, "k2"))

    assert updated_shards(calls) == [2, 1, 3, 3]
    (shard,) = stored_shards(dynamodb)
    assert (shard["shard"], shard["total"]) == ({"N": "3"}, {"N": "2"})


@pytest.mark.parametrize("shards", [1, 2, 64])
def test_retry_changes_shards_if_there_are_several(monkeypatch: pytest.MonkeyPatch, shards: int) -> None:
    monkeypatch.setattr("scoring.ledger.writer.time.sleep", lambda _: None)
    monkeypatch.setattr("scoring.ledger.writer.RETRY_BUDGET_SECONDS", 60)
    client = FakeClient(*[cancellation("TransactionConflict")] * 50, {})
    record(LedgerWriter(client, SETTINGS._replace(stats_shards=shards)), decide(LOW, "k1"))
    used = updated_shards(client.calls)
    assert set(used) <= set(range(shards))
    assert all(one != other for one, other in itertools.pairwise(used)) or shards == 1


def test_retries_end_with_the_retry_budget(
    writer: LedgerWriter, reader: LedgerReader, intercept: Intercept, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    clock = [0.0]
    monkeypatch.setattr("scoring.ledger.writer.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("scoring.ledger.writer.time.sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    calls = intercept("transact_write_items", *[cancellation("TransactionConflict", "None")] * 1000)
    with pytest.raises(StoreUnavailable):
        record(writer, decide(LOW, "k1"))
    assert 8 < len(calls) < 100
    assert 0.5 <= clock[0] < 0.6
    assert json.loads(log.getvalue())["reason"] == "TransactionConflict"
    assert reader.totals(NO_DEADLINE) == NO_DECISIONS


@pytest.mark.parametrize(
    "error",
    [
        *dynamodb_errors("TransactWriteItems", without={"TransactionInProgressException"}),
        cancellation("ValidationError"),
    ],
    ids=str,
)
def test_error_of_dynamodb_is_store_unavailable(
    writer: LedgerWriter, reader: LedgerReader, intercept: Intercept, error: CallFailed, log: io.StringIO
) -> None:
    intercept("transact_write_items", error)
    with pytest.raises(StoreUnavailable):
        record(writer, decide(LOW, "k1"))
    assert reader.totals(NO_DEADLINE) == NO_DECISIONS
    line = json.loads(log.getvalue())
    assert (line["level"], line["message"], line["reason"]) == ("ERROR", "store unavailable", error.reason)
    assert line["decision_id"] == "k1"


TEXT = {"S": "{}"}


def stored_item(**changes: Any) -> dict[str, Any]:
    """Return the stored decision with the id ``k1``, with changes of its response."""
    decision = decide(LOW, "k1")
    response = {"S": json.dumps(decision.response | changes)}
    return {"request_hash": {"S": decision.request_hash}, "answer": response}


@pytest.mark.parametrize(
    "response",
    [
        {"message": "Welcome"},
        {"__type": "SomethingElse"},
        {"MessageId": "1"},
        {"CancellationReasons": []},
        # The request does not ask for the consumed capacity.
        {"ConsumedCapacity": []},
    ],
    ids=str,
)
def test_unexpected_response_does_not_confirm(log: io.StringIO, response: dict[str, Any]) -> None:
    with pytest.raises(StoreUnavailable):
        record(LedgerWriter(FakeClient(response), SETTINGS), decide(LOW, "k1"))
    assert json.loads(log.getvalue())["reason"] == "UnexpectedResponse"


def test_empty_response_confirms_the_write() -> None:
    assert not record(LedgerWriter(FakeClient({}), SETTINGS), decide(LOW, "k1")).replayed


def test_response_of_an_earlier_version_is_replayed(writer: LedgerWriter, reader: LedgerReader) -> None:
    """Newer responses may have more fields."""
    first = record(writer, decide(CRITICAL, "k1"))
    decision = decide(CRITICAL, "k1")
    newer: Any = {**decision.response, "new": 1}
    again = record(writer, decision._replace(response=newer))
    assert (again.response, again.replayed) == (first.response, True)
    with pytest.raises(IdempotencyConflict):
        record(writer, decide({**CRITICAL, "amount": 1}, "k1"))
    assert reader.totals(NO_DEADLINE).total == 1


@pytest.mark.parametrize(
    "reasons",
    [
        None,
        "TransactionConflict",
        5,
        {"Code": "TransactionConflict"},
        [None],
        ["TransactionConflict"],
        [[]],
        [{"Code": "ConditionalCheckFailed"}, None],
        [{"Code": ["TransactionConflict"]}],
        [{"Code": None}],
        [{"Code": "ConditionalCheckFailed"}],
        [{"Code": "ConditionalCheckFailed", "Item": "item"}],
        [{"Code": "ConditionalCheckFailed", "Item": ["item"]}],
        [{"Code": "ConditionalCheckFailed", "Item": {"request_hash": TEXT}}],
        [{"Code": "ConditionalCheckFailed", "Item": {"request_hash": "x", "answer": TEXT}}],
        [{"Code": "ConditionalCheckFailed", "Item": {"request_hash": TEXT, "answer": {"S": "{"}}}],
        [{"Code": "ConditionalCheckFailed", "Item": {"request_hash": TEXT, "answer": {"S": 5}}}],
        [{"Code": "ConditionalCheckFailed", "Item": {"request_hash": TEXT, "answer": {"S": "[]"}}}],
        [{"Code": "ConditionalCheckFailed", "Item": {"request_hash": TEXT, "answer": {"S": "{}"}}}],
        [{"Code": "ConditionalCheckFailed", "Item": {"request_hash": TEXT, "answer": {"S": "[" * 100_000}}}],
        [{"Code": "ConditionalCheckFailed", "Item": stored_item(decision_id="other")}],
        [{"Code": "ConditionalCheckFailed", "Item": stored_item(score=math.nan)}],
        [{"Code": "ConditionalCheckFailed", "Item": stored_item() | {"request_hash": {"S": 5}}}],
    ],
    ids=lambda reasons: str(reasons)[:90],
)
def test_malformed_cancellation_is_store_unavailable(log: io.StringIO, reasons: Any) -> None:
    """The decision then goes to the outbox."""
    failure = CallFailed("TransactionCanceledException", 400, {"CancellationReasons": reasons})
    with pytest.raises(StoreUnavailable):
        record(LedgerWriter(FakeClient(failure), SETTINGS), decide(LOW, "k1"))
    assert json.loads(log.getvalue())["reason"] in {"TransactionCanceledException", "UnexpectedResponse"}


def explained(rules: RuleSet, names: list[str]) -> ForestScorer:
    """Return a model with the longest version, which knows no value of these fields, but to which each contributes."""
    tree: Node = 1.0
    for column in range(len(names)):
        tree = (column, 0.5, tree, 0.0)
    inputs = Inputs([Category(name, ("x",)) for name in names])
    levels = ((3, 0.9), (2, 0.5), (1, 0.1))
    return ForestScorer(rules, Model("🂡" * 40, inputs, MEAN, [tree], (1.0,) * (len(names) + 1), levels, 0.5, {}))


@pytest.mark.parametrize("character", ["x", "é", "€", "🂡", "\x7f", "\\u0001", '\\"'])
def test_largest_decision_fits_into_an_item(character: str) -> None:
    """DynamoDB accepts 400 KB of names and values in UTF-8.

    Here the most rules hit, and quote as much as they can; and two models explain as much as they can, in the decision
    and in an opinion about it.
    """
    own = [letter * 40 for letter in string.ascii_lowercase]
    when = [{"field": name, "operator": "is present"} for name in own]
    label = "🂡" * (MAX_LABELS_LENGTH // MAX_RULES - 3)
    document = {
        **DOCUMENT,
        "version": "🂡" * 64,
        "fields": {name: {"type": "string"} for name in own},
        "rules": [{"label": f"{number:03}{label}", "points": 1, "when": when} for number in range(MAX_RULES)],
    }
    unknown = {f"{number}{'🂡' * 63}": 1 for number in range(9)}
    transaction = {"amount": 1, "tx_id": "🂡" * 128, **dict.fromkeys(own, "🂡" * 64), **unknown}
    start = json.dumps(transaction, ensure_ascii=False)[:-1]
    size = http_api.MAX_BODY_BYTES - len(start.encode()) - 20
    body = f'{start}, "store": "{character * (size // len(character.encode()))}"}}'
    assert http_api.MAX_BODY_BYTES - 100 < len(body.encode()) <= http_api.MAX_BODY_BYTES
    scorer = explained(from_document(document), own)
    decision = decision_module.decide(strict_json.parse(body), "k" * 128, scorer)
    assert len(decision.response["contributions"]) == MAX_CONTRIBUTIONS
    assert len(decision.response["unseen"]) == len(own)
    assert sum(len(reason["because"]) for reason in decision.response["reasons"]) == MAX_QUOTED_VALUES
    client = FakeClient({})
    record(LedgerWriter(client, SETTINGS), decision)
    item = client.calls[0]["TransactItems"][0]["Put"]["Item"]
    image = {name: text for name, value in item.items() for text in value.values()}
    image["shadow"] = shadow.judge(image, scorer).document
    assert sum(len((name + text).encode()) for name, text in image.items()) < 350_000
    assert len(outbox.encode(decision)) < 1024 * 1024


@given(
    calls=st.lists(
        st.tuples(
            st.integers(0, 3),
            st.lists(
                st.tuples(
                    st.sampled_from(["k1", "k2", "k3"]),
                    st.sampled_from(
                        [LOW, CRITICAL, {"amount": 1}, {"tx_id": "TX001", "amount": 3001}, {"tx_id": "k1", "amount": 1}]
                    ),
                ),
                min_size=1,
                max_size=8,
            ),
        ),
        max_size=8,
    )
)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_ledger_behaves_as_its_model(dynamodb: Any, calls: list[Any]) -> None:
    """The first request with a key decides, later ones replay or conflict; a shard's levels add up to its total."""
    for table, names in {"DecisionsTable": ["tx_id", "decision_id"], "StatsTable": ["shard"]}.items():
        for item in dynamodb.scan(TableName=table)["Items"]:
            dynamodb.delete_item(TableName=table, Key={name: item[name] for name in names})
    writers = [writer_on_shard(shard, dynamodb) for shard in range(SETTINGS.stats_shards)]
    reader, model = LedgerReader(Store(MotoClient(dynamodb)), SETTINGS), LedgerModel()

    def comparable(outcomes: list[Outcome]) -> list[Recorded | str]:
        return [outcome if isinstance(outcome, Recorded) else str(outcome) for outcome in outcomes]

    for shard, requests in calls:
        decisions = [decide(document, key) for key, document in requests]
        outcomes = writers[shard].record(decisions, NO_DEADLINE)
        assert comparable(outcomes) == comparable(model.record(decisions, NO_DEADLINE))
        assert reader.totals(NO_DEADLINE) == model.totals(NO_DEADLINE)
        for tx_id in ("TX001", "k1", "k2", "k3", "unknown"):
            assert reader.find(tx_id, NO_DEADLINE) == model.find(tx_id, NO_DEADLINE)
        for item in stored_shards(dynamodb):
            levels = sum(int(value["N"]) for name, value in item.items() if name.startswith("level#"))
            assert int(item["total"]["N"]) == levels


class TestManyDecisions:
    """One call with many decisions."""

    def test_one_transaction_per_99_decisions(
        self, writer: LedgerWriter, reader: LedgerReader, intercept: Intercept
    ) -> None:
        calls = intercept("transact_write_items")
        decisions = [decide({**CRITICAL, "tx_id": f"TX{number}"}, "k1") for number in range(250)]
        outcomes = writer.record(decisions, NO_DEADLINE)
        assert outcomes == [Recorded(decision.response, replayed=False) for decision in decisions]
        assert [len(call["TransactItems"]) for call in calls] == [100, 100, 53]
        assert reader.totals(NO_DEADLINE) == Totals(
            total=250,
            high=250,
            by_risk_level={"LOW": 0, "MEDIUM": 0, "HIGH": 0, "CRITICAL": 250},
            by_rule={R1: 250, R2: 250, R3: 250},
        )

    @pytest.mark.parametrize("character", ["x", "é", "🂡", "\x7f", '"'])
    def test_transaction_stays_below_the_size_limit(self, character: str) -> None:
        """In the table and in the request, where JSON escapes some characters."""
        client = FakeClient(*[{}] * 99)
        text = character * (50_000 // len(character.encode()))
        decisions = [decide({"tx_id": f"TX{number}", "amount": 1, "store": text}, "k") for number in range(99)]
        LedgerWriter(client, SETTINGS).record(decisions, NO_DEADLINE)
        stored = [
            sum(
                len(name) + len(text.encode())
                for action in call["TransactItems"][:-1]
                for name, value in action["Put"]["Item"].items()
                for text in value.values()
            )
            for call in client.calls
        ]
        sent = [len(strict_json.encode(call)) for call in client.calls]
        assert sum(len(call["TransactItems"]) - 1 for call in client.calls) == 99
        assert max(stored) <= 4_000_000
        assert max(sent) <= 4_000_000
        # As many as fit: an item takes up to 310,000 bytes.
        assert min(sent[:-1]) > MAX_BYTES - 310_000

    def test_no_decisions_make_no_call(self) -> None:
        assert LedgerWriter(FakeClient(), SETTINGS).record([], NO_DEADLINE) == []

    def test_existing_decisions_are_replayed_and_the_rest_is_written(
        self, writer: LedgerWriter, reader: LedgerReader, intercept: Intercept
    ) -> None:
        first = [record(writer, decide(LOW, f"k{number}")) for number in range(5)]
        calls = intercept("transact_write_items")
        outcomes = writer.record([decide(LOW, f"k{number}") for number in range(20)], NO_DEADLINE)
        assert outcomes[:5] == [Recorded(recorded.response, replayed=True) for recorded in first]
        assert [outcome.replayed for outcome in outcomes if isinstance(outcome, Recorded)] == [True] * 5 + [False] * 15
        assert [len(call["TransactItems"]) for call in calls] == [21, 16]
        assert reader.totals(NO_DEADLINE).total == 20
        assert all(
            isinstance(one, Recorded) and one.replayed
            for one in writer.record([decide(LOW, f"k{number}") for number in range(20)], NO_DEADLINE)
        )
        assert len(calls) == 3

    def test_equal_keys_are_one_decision(
        self, writer: LedgerWriter, reader: LedgerReader, intercept: Intercept
    ) -> None:
        calls = intercept("transact_write_items")
        decisions = [decide(LOW, "k1"), decide(LOW, "k2"), decide(LOW, "k1"), decide({**LOW, "amount": 1}, "k1")]
        first, other, again, conflict = writer.record(decisions, NO_DEADLINE)
        assert first == Recorded(decisions[0].response, replayed=False)
        assert other == Recorded(decisions[1].response, replayed=False)
        assert again == Recorded(decisions[0].response, replayed=True)
        assert isinstance(conflict, IdempotencyConflict)
        assert len(calls) == 1
        assert reader.totals(NO_DEADLINE).total == 2

    def test_conflicts_move_the_shard_then_halve_the_transaction(
        self, reader: LedgerReader, dynamodb: Any, intercept: Intercept
    ) -> None:
        writer = LedgerWriter(MotoClient(dynamodb), SETTINGS)
        conflict = cancellation(*["None"] * 8, "TransactionConflict")
        calls = intercept("transact_write_items", *[conflict] * MAX_CONFLICTS)
        outcomes = writer.record([decide(LOW, f"k{number}") for number in range(8)], NO_DEADLINE)
        assert [isinstance(outcome, Recorded) for outcome in outcomes] == [True] * 8
        assert [len(call["TransactItems"]) - 1 for call in calls] == [*[8] * MAX_CONFLICTS, 4, 4]
        shards = [call["TransactItems"][-1]["Update"]["Key"]["shard"]["N"] for call in calls]
        assert len(set(shards[: MAX_CONFLICTS + 1])) > 1
        assert reader.totals(NO_DEADLINE).total == 8

    def test_slow_conflict_halves_the_transaction(
        self, writer: LedgerWriter, reader: LedgerReader, dynamodb: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It takes longer than the retry budget, which is that of one transaction."""
        clock = [1000.0]
        monkeypatch.setattr("scoring.ledger.writer.time.monotonic", lambda: clock[0])
        monkeypatch.setattr("scoring.ledger.writer.time.sleep", lambda _: None)
        transact_write_items = dynamodb.transact_write_items
        sizes: list[int] = []

        def slow(**parameters: Any) -> Any:
            clock[0] += 0.6
            sizes.append(len(parameters["TransactItems"]) - 1)
            if len(sizes) == 1:
                raise cancellation("TransactionConflict")
            return transact_write_items(**parameters)

        monkeypatch.setattr(dynamodb, "transact_write_items", slow)
        outcomes = writer.record([decide(LOW, f"k{number}") for number in range(8)], NO_DEADLINE)
        assert all(isinstance(outcome, Recorded) for outcome in outcomes)
        assert sizes == [8, 4, 4]
        assert reader.totals(NO_DEADLINE).total == 8

    def test_refused_decision_is_isolated(
        self, writer: LedgerWriter, reader: LedgerReader, dynamodb: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        transact_write_items = dynamodb.transact_write_items

        def refuse(**parameters: Any) -> Any:
            puts = parameters["TransactItems"][:-1]
            if any(put["Put"]["Item"]["decision_id"]["S"] == "k37" for put in puts):
                raise ClientError({"Error": {"Code": "ValidationException", "Message": "m"}}, "TransactWriteItems")
            return transact_write_items(**parameters)

        monkeypatch.setattr(dynamodb, "transact_write_items", refuse)
        outcomes = writer.record([decide(LOW, f"k{number}") for number in range(99)], NO_DEADLINE)
        refused = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, StoreUnavailable)]
        assert refused == [37]
        assert reader.totals(NO_DEADLINE).total == 98

    def test_nothing_is_written_after_the_first_failure(
        self, writer: LedgerWriter, reader: LedgerReader, intercept: Intercept
    ) -> None:
        calls = intercept("transact_write_items", None, CallFailed("InternalServerError", 500))
        outcomes = writer.record([decide(LOW, f"k{number}") for number in range(250)], NO_DEADLINE)
        assert [isinstance(outcome, Recorded) for outcome in outcomes] == [True] * 99 + [False] * 151
        assert len(calls) == 2
        assert reader.totals(NO_DEADLINE).total == 99

    def test_lost_confirmation_is_no_replay(self, writer: LedgerWriter, reader: LedgerReader) -> None:
        decisions = [decide(LOW, f"k{number}") for number in range(10)]
        writer.record(decisions, NO_DEADLINE)
        outcomes = writer.record(decisions, NO_DEADLINE)
        assert outcomes == [Recorded(decision.response, replayed=False) for decision in decisions]
        assert reader.totals(NO_DEADLINE).total == 10

    def test_malformed_stored_item_spoils_no_other(
        self, writer: LedgerWriter, reader: LedgerReader, dynamodb: Any
    ) -> None:
        dynamodb.put_item(TableName="DecisionsTable", Item={"tx_id": {"S": "TX001"}, "decision_id": {"S": "k1"}})
        one, other = writer.record([decide(LOW, "k1"), decide(LOW, "k2")], NO_DEADLINE)
        assert isinstance(one, StoreUnavailable)
        assert isinstance(other, Recorded)
        assert reader.totals(NO_DEADLINE).total == 1
