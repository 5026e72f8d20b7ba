"""Stored decisions and outbox messages stay readable: those of an earlier version, and those of another rule set."""

import json
from typing import Any, NamedTuple

import pytest

from scoring.ledger.outbox import decode
from scoring.scorer import Scorer
from scoring.scorers import rules_loader
from tests import events, rule_set
from tests.unit.conftest import Functions


class Earlier(NamedTuple):
    """A decision by the version before reasons, warnings and declared fields.

    Attributes
    ----------
    key, body
        Of the request. That of ``CRITICAL`` has an unknown field.
    tx_id
        Finds the decision in a look-up.
    item
        As that version stored it.
    message
        As that version sent it to the outbox.
    """

    key: str
    body: str
    tx_id: str
    item: dict[str, Any]
    message: str

    @property
    def response(self) -> dict[str, Any]:
        response: dict[str, Any] = json.loads(self.item["answer"]["S"])
        return response

    @property
    def transaction(self) -> dict[str, Any]:
        transaction: dict[str, Any] = json.loads(self.item["transaction"]["S"])
        return transaction


# Items and messages are copies of what that version wrote. Do not edit them.
LOW = Earlier(
    "6f1d0d6c-5b07-4d5e-9f0a-7c1f4f0b1f53",
    '{"amount": 20}',
    "6f1d0d6c-5b07-4d5e-9f0a-7c1f4f0b1f53",
    {
        "tx_id": {"S": "\x1f6f1d0d6c-5b07-4d5e-9f0a-7c1f4f0b1f53"},
        "decision_id": {"S": "6f1d0d6c-5b07-4d5e-9f0a-7c1f4f0b1f53"},
        "transaction": {"S": '{"amount":20}'},
        "answer": {
            "S": '{"score":0,"risk_level":"LOW","triggered_rules":[],"tx_id":"unknown",'
            '"decision_id":"6f1d0d6c-5b07-4d5e-9f0a-7c1f4f0b1f53","version":"1.0-tests",'
            '"evaluated_at":"2026-11-24T09:30:15.123456Z"}'
        },
        "request_hash": {"S": "ddccc0f8c09563212aae6802bc6f095158e222bf5564d12ad36947b5d13936b0"},
        "expires_at": {"N": "1803356548"},
    },
    '{"score":0,"risk_level":"LOW","triggered_rules":[],"tx_id":"unknown",'
    '"decision_id":"6f1d0d6c-5b07-4d5e-9f0a-7c1f4f0b1f53","version":"1.0-tests",'
    '"evaluated_at":"2026-11-24T09:30:15.123456Z","transaction":{"amount":20},'
    '"request_hash":"ddccc0f8c09563212aae6802bc6f095158e222bf5564d12ad36947b5d13936b0"}',
)
CRITICAL = Earlier(
    "order-17",
    '{"tx_id": "TX003", "amount": 4500.0, "category": "electronics", "store": "Kraków", "hour": 3, "card": "tok_1"}',
    "TX003",
    {
        "tx_id": {"S": "TX003"},
        "decision_id": {"S": "order-17"},
        "transaction": {"S": '{"tx_id":"TX003","amount":4500.0,"category":"electronics","store":"Kraków","hour":3}'},
        "answer": {
            "S": '{"score":7,"risk_level":"CRITICAL","triggered_rules":["R1: amount > 3000","R2: electronics > 1500",'
            '"R3: night hour"],"tx_id":"TX003","decision_id":"order-17","version":"1.0-tests",'
            '"evaluated_at":"2026-11-24T09:30:15.123456Z"}'
        },
        "request_hash": {"S": "37d9e2fc62f4549a24204b63b5d0215c7e42d2e49d287a97f399fdb535af4d09"},
        "expires_at": {"N": "1803356548"},
    },
    '{"score":7,"risk_level":"CRITICAL","triggered_rules":["R1: amount > 3000","R2: electronics > 1500",'
    '"R3: night hour"],"tx_id":"TX003","decision_id":"order-17","version":"1.0-tests",'
    '"evaluated_at":"2026-11-24T09:30:15.123456Z","transaction":{"tx_id":"TX003","amount":4500.0,'
    '"category":"electronics","store":"Krak\\u00f3w","hour":3},'
    '"request_hash":"37d9e2fc62f4549a24204b63b5d0215c7e42d2e49d287a97f399fdb535af4d09"}',
)

each_earlier = pytest.mark.parametrize("earlier", [LOW, CRITICAL], ids=["LOW", "CRITICAL"])

OWN_FIELDS = rules_loader.from_document(
    {
        **rule_set.DOCUMENT,
        "version": "1.1-own-fields",
        "fields": {
            "country": {"type": "string", "max_length": 2},
            "usual_amount": {"type": "number"},
            "items": {"type": "integer"},
            "card_present": {"type": "boolean"},
            "local_time": {"type": "time"},
        },
        "rules": [
            {
                "label": "abroad",
                "level": "at least HIGH",
                "when": [
                    {"field": "country", "operator": "!=", "value": "PL"},
                    {"field": "card_present", "operator": "==", "value": False},
                    {"field": "local_time", "of": "hour", "operator": "<", "value": 6},
                    {"field": "amount", "operator": ">", "other": "usual_amount"},
                    {"field": "items", "operator": ">", "value": 0},
                ],
            }
        ],
    }
)
OWN = {
    "tx_id": "TX-own",
    "amount": 20,
    "country": "DE",
    "usual_amount": 1.5,
    "items": 2**63 - 1,
    "card_present": False,
    "local_time": "2026-11-25t03:00:00z",
}


def serve(invoke: Functions, rules: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the score function decide with this rule set."""
    monkeypatch.setattr(invoke.modules["ScoreFunction"], "SCORER", rules)


def found(invoke: Functions, tx_id: str) -> list[dict[str, Any]]:
    """Return the decisions of a look-up."""
    response = invoke("TransactionFunction", events.load("transaction") | {"pathParameters": {"tx_id": tx_id}})
    decisions: list[dict[str, Any]] = json.loads(response["body"])["decisions"]
    return decisions


def reconcile(invoke: Functions, *bodies: str) -> None:
    """Record messages of the outbox."""
    records = [
        {"messageId": str(number), "body": body, "attributes": {"SentTimestamp": "0"}}
        for number, body in enumerate(bodies)
    ]
    assert invoke("ReconcileFunction", {"Records": records}) == {"batchItemFailures": []}


def stats(invoke: Functions) -> dict[str, Any]:
    response: dict[str, Any] = json.loads(invoke("StatsFunction", events.load("stats"))["body"])
    return response


@each_earlier
def test_item_of_the_version_before_is_found(invoke: Functions, dynamodb: Any, earlier: Earlier) -> None:
    dynamodb.put_item(TableName="DecisionsTable", Item=earlier.item)
    assert found(invoke, earlier.tx_id) == [earlier.response | {"transaction": earlier.transaction}]


@each_earlier
def test_request_of_the_version_before_is_replayed(invoke: Functions, dynamodb: Any, earlier: Earlier) -> None:
    """Without the reasons and warnings that a new decision would have."""
    dynamodb.put_item(TableName="DecisionsTable", Item=earlier.item)
    response = invoke("ScoreFunction", events.post(earlier.body, idempotency_key=earlier.key))
    assert (response["statusCode"], response["headers"]["Idempotent-Replayed"]) == (200, "true")
    assert json.loads(response["body"]) == earlier.response
    other = earlier.body.replace('"amount": ', '"amount": 1')
    assert invoke("ScoreFunction", events.post(other, idempotency_key=earlier.key))["statusCode"] == 422
    assert stats(invoke)["total"] == 0


@each_earlier
def test_message_of_the_version_before_is_decoded(earlier: Earlier) -> None:
    decision = decode(earlier.message)
    assert decision.response == earlier.response
    assert decision.transaction == earlier.transaction
    assert decision.request_hash == earlier.item["request_hash"]["S"]


@each_earlier
def test_message_of_the_version_before_is_recorded_once(invoke: Functions, earlier: Earlier) -> None:
    reconcile(invoke, earlier.message, earlier.message)
    assert found(invoke, earlier.tx_id) == [earlier.response | {"transaction": earlier.transaction}]
    counts = stats(invoke)
    assert (counts["total"], counts["by_risk_level"][earlier.response["risk_level"]]) == (1, 1)


@each_earlier
def test_message_about_an_item_of_the_version_before_is_not_counted(
    invoke: Functions, dynamodb: Any, earlier: Earlier
) -> None:
    dynamodb.put_item(TableName="DecisionsTable", Item=earlier.item)
    reconcile(invoke, earlier.message)
    assert stats(invoke)["total"] == 0


def test_decision_survives_the_removal_of_its_fields(invoke: Functions, monkeypatch: pytest.MonkeyPatch) -> None:
    event = events.post(json.dumps(OWN), idempotency_key="k1")
    serve(invoke, OWN_FIELDS, monkeypatch)
    first = invoke("ScoreFunction", event)
    decision = json.loads(first["body"])
    because = {name: OWN[name] for name in ("country", "card_present", "local_time", "amount", "usual_amount", "items")}
    assert decision["reasons"] == [{"rule": "abroad", "points": 0, "because": because, "level": "at least HIGH"}]
    serve(invoke, rule_set.RULE_SET, monkeypatch)
    assert found(invoke, "TX-own") == [decision | {"transaction": OWN}]
    second = invoke("ScoreFunction", event)
    assert second["headers"].pop("Idempotent-Replayed") == "true"
    assert second == first
    counts = stats(invoke)
    assert (counts["total"], counts["by_rule"]["abroad"]) == (1, 1)
    # A new decision ignores them.
    again = json.loads(invoke("ScoreFunction", events.post(json.dumps(OWN), idempotency_key="k2"))["body"])
    assert (again["risk_level"], len(again["warnings"])) == ("LOW", 5)
    assert found(invoke, "TX-own")[0]["transaction"] == {"tx_id": "TX-own", "amount": 20}


def test_message_survives_the_removal_of_its_fields(
    invoke: Functions, dynamodb: Any, sqs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = dynamodb.describe_table(TableName="DecisionsTable")["Table"]
    dynamodb.delete_table(TableName="DecisionsTable")
    serve(invoke, OWN_FIELDS, monkeypatch)
    decision = json.loads(invoke("ScoreFunction", events.post(json.dumps(OWN), idempotency_key="k1"))["body"])
    assert decision.pop("recorded") is False
    (message,) = sqs.receive_message(QueueUrl="OutboxQueue")["Messages"]
    serve(invoke, rule_set.RULE_SET, monkeypatch)
    dynamodb.create_table(
        **{name: table[name] for name in ("TableName", "KeySchema", "AttributeDefinitions")},
        BillingMode="PAY_PER_REQUEST",
    )
    reconcile(invoke, message["Body"])
    assert found(invoke, "TX-own") == [decision | {"transaction": OWN}]
    assert stats(invoke)["by_rule"]["abroad"] == 1
