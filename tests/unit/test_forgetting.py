"""``DELETE /customer/{customer_id}``: which profiles and list entries are deleted."""

import io
import json
import time
from typing import Any

import pytest

from scoring.aws.client import CALL_SECONDS
from scoring.errors import CallFailed, StoreUnavailable
from scoring.forgetting import Customers, Forgotten
from scoring.history import profiles
from scoring.lists import ListEntry, Lists
from scoring.scorers import rules_loader
from scoring.store import Store
from tests import events, rule_set
from tests.unit.aws_errors import dynamodb_errors
from tests.unit.conftest import NO_DEADLINE, SETTINGS, Functions, Intercept
from tests.unit.fakes import FakeClient, MotoClient


def rules(*, ignores_case: bool = False) -> Any:
    """Return a rule set that checks customers against two lists, in one case by a rule that is turned off."""

    def rule(field: str, name: str, **more: Any) -> dict[str, Any]:
        condition = {"field": field, "operator": "in list", "value": name}
        return {"label": name, "points": 1, "when": [condition], **more}

    fields = {"customer_id": {"case": "ignore"}} if ignores_case else {}
    return rules_loader.from_document(
        rule_set.DOCUMENT
        | {
            "fields": fields,
            "rules": [
                rule("customer_id", "blocked"),
                rule("customer_id", "trusted", enabled=False),
                rule("store", "stores"),
            ],
        }
    )


def store_profile(dynamodb: Any, field: str, value: str, distinct: str) -> None:
    item = {"subject": {"S": profiles.subject(field, value)}, "distinct": {"S": distinct}, "profile": {"B": b"x"}}
    dynamodb.put_item(TableName="ProfilesTable", Item=item)


def left(dynamodb: Any) -> tuple[int, set[tuple[str, str]]]:
    """Return the number of profiles that are left, and the list entries."""
    entries = dynamodb.scan(TableName="ListsTable")["Items"]
    return (
        dynamodb.scan(TableName="ProfilesTable")["Count"],
        {(entry["list"]["S"], entry["entry"]["S"]) for entry in entries},
    )


def forget(functions: Functions, customer_id: str) -> dict[str, Any]:
    response = functions(
        "CustomerFunction", events.load("customer-delete") | {"pathParameters": {"customer_id": customer_id}}
    )
    assert response["statusCode"] == 200, response
    document: dict[str, Any] = json.loads(response["body"])
    return document


@pytest.fixture
def customers(dynamodb: Any) -> Customers:
    return Customers(Store(MotoClient(dynamodb)), SETTINGS)


@pytest.fixture
def lists(dynamodb: Any) -> Lists:
    return Lists(Store(MotoClient(dynamodb)), "ListsTable")


def test_profiles_and_entries_of_the_customer_only(
    invoke: Functions, dynamodb: Any, lists: Lists, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invoke.modules["CustomerFunction"], "RULES", rules())
    for customer in ("C-1", "c-1"):
        for distinct in ("store", "card"):
            store_profile(dynamodb, "customer_id", customer, distinct)
    store_profile(dynamodb, "ip", "C-1", "store")
    for name in ("blocked", "trusted", "stores", "others"):
        for entry in ("C-1", "C-2"):
            lists.put(name, ListEntry(entry, 1), NO_DEADLINE)
    assert forget(invoke, "C-1") == {"customer_id": "C-1", "profiles": 2, "list_entries": 2}
    assert left(dynamodb) == (
        3,
        {
            ("blocked", "C-2"),
            ("trusted", "C-2"),
            *((name, entry) for name in ("stores", "others") for entry in ("C-1", "C-2")),
        },
    )
    assert forget(invoke, "C-1") == {"customer_id": "C-1", "profiles": 0, "list_entries": 0}


def test_history_starts_anew(invoke: Functions) -> None:
    """The key of a profile is the one that decisions use."""
    transaction = json.dumps({"amount": 5, "customer_id": "DE/47 11"})
    counts = []
    for number in range(3):
        response = invoke("ScoreFunction", events.post(transaction, request_id=f"request-{number}"))
        counts.append(json.loads(response["body"])["history"]["customer"]["count_1h"])
        if number == 1:
            assert forget(invoke, "DE/47 11")["profiles"] == 1
    assert counts == [0, 1, 0]


def test_field_that_ignores_case(customers: Customers, dynamodb: Any, lists: Lists) -> None:
    """Items from before the field ignored case are deleted, too."""
    for customer in ("straße", "strasse", "STRASSE"):
        store_profile(dynamodb, "customer_id", customer, "store")
        lists.put("blocked", ListEntry(customer, 1), NO_DEADLINE)
    assert customers.forget("STRASSE", rules(ignores_case=True), NO_DEADLINE) == Forgotten(2, 2)
    assert left(dynamodb) == (1, {("blocked", "straße")})


def test_customer_who_is_too_long_for_a_list(customers: Customers, dynamodb: Any) -> None:
    """Folded, the id has 384 characters."""
    store_profile(dynamodb, "customer_id", ("ΐ" * 128).casefold(), "store")
    assert customers.forget("ΐ" * 128, rules(ignores_case=True), NO_DEADLINE) == Forgotten(1, 0)


def test_every_page_of_profiles_is_deleted() -> None:
    keys: list[dict[str, Any]] = [{"subject": {"S": "s"}, "distinct": {"S": str(number)}} for number in range(3)]
    deleted = {"Attributes": {"profile": {"B": "eA=="}}}
    client = FakeClient(
        {"Items": keys[:2], "LastEvaluatedKey": keys[1]}, {"Items": keys[2:]}, deleted, {}, deleted, {}, {}
    )
    customers = Customers(Store(client), SETTINGS)
    assert customers.forget("C-1", rules(), NO_DEADLINE) == Forgotten(2, 0)
    assert [call["Key"] for call in client.calls[2:5]] == keys
    assert [call["Key"]["list"]["S"] for call in client.calls[5:]] == ["blocked", "trusted"]


def test_profiles_are_read_consistently(customers: Customers, intercept: Intercept) -> None:
    calls = intercept("query")
    customers.forget("C-1", rules(), NO_DEADLINE)
    assert [call["ConsistentRead"] for call in calls] == [True]


@pytest.mark.parametrize("failure", dynamodb_errors("Query", "DeleteItem"), ids=lambda failure: failure.reason)
@pytest.mark.parametrize("calls", [0, 1, 2])
def test_every_error_of_dynamodb_is_503(failure: CallFailed, calls: int, log: io.StringIO) -> None:
    key = {"subject": {"S": "s"}, "distinct": {"S": "store"}}
    responses = [{"Items": [key]}, {"Attributes": key}][:calls]
    customers = Customers(Store(FakeClient(*responses, failure)), SETTINGS)
    with pytest.raises(StoreUnavailable):
        customers.forget("C-1", rules(), NO_DEADLINE)
    assert json.loads(log.getvalue())["reason"] == failure.reason


def test_no_call_that_could_end_after_the_deadline(log: io.StringIO) -> None:
    client = FakeClient()
    with pytest.raises(StoreUnavailable):
        Customers(Store(client), SETTINGS).forget("C-1", rules(), time.monotonic() + CALL_SECONDS - 0.01)
    assert client.calls == []
    assert "NoTimeLeft" in log.getvalue()


def test_unavailable_store_is_503_without_personal_data(invoke: Functions, dynamodb: Any, log: io.StringIO) -> None:
    dynamodb.delete_table(TableName="ProfilesTable")
    response = invoke("CustomerFunction", events.load("customer-delete"))
    assert (response["statusCode"], response["headers"]["Retry-After"]) == (503, "1")
    assert "C-1001" not in log.getvalue()
    assert "store unavailable" in log.getvalue()
