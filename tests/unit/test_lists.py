"""Lists: the handler, and the entries in DynamoDB."""

import io
import json
import time
from typing import Any
from urllib.parse import urlencode

import pytest

from scoring import http_api, lists
from scoring.aws.client import CALL_SECONDS
from scoring.errors import CallFailed, StoreUnavailable
from scoring.lists import ListEntry, Lists
from scoring.scorers import rules_loader
from scoring.store import Store
from tests import events, rule_set
from tests.corpus import INJECTED, RESPONSE_HEADERS
from tests.lists_corpus import CASES, ListCase
from tests.unit.aws_errors import dynamodb_errors
from tests.unit.conftest import NO_DEADLINE, Functions, Intercept
from tests.unit.fakes import FakeClient, MotoClient

NOW = 1_795_166_400


def condition(field: str, name: str) -> dict[str, Any]:
    return {"field": field, "operator": "in list", "value": name}


RULE_SET = rules_loader.from_document(
    rule_set.DOCUMENT
    | {
        "fields": {"country": {"type": "string", "case": "ignore"}, "address": {"type": "string", "case": "ignore"}},
        "rules": [
            {
                "label": "customer",
                "level": "at least CRITICAL",
                "when": [condition("customer_id", "blocked_customers")],
            },
            {"label": "store", "points": 1, "enabled": False, "when": [condition("store", "trusted_stores")]},
            {
                "label": "country",
                "points": 1,
                "when": [{"any": [condition("country", "risky"), condition("address", "risky")]}],
            },
        ],
    }
)


@pytest.fixture
def listing(invoke: Functions, monkeypatch: pytest.MonkeyPatch) -> Functions:
    """Return the functions, with a rule set that uses lists."""
    monkeypatch.setattr(invoke.modules["ListsFunction"], "RULES", RULE_SET)
    return invoke


@pytest.fixture
def entries(dynamodb: Any) -> Lists:
    return Lists(Store(MotoClient(dynamodb)), "ListsTable")


def send(functions: Functions, method: str, path: str, body: Any = None) -> dict[str, Any]:
    """Return the body of a successful response; ``path`` is decoded."""
    case = ListCase("", method, path, "" if body is None else json.dumps(body), 200, None, only_event="decoded")
    response = functions(*case.event())
    assert response["statusCode"] == 200, response
    document: dict[str, Any] = json.loads(response["body"])
    return document


def test_corpus(listing: Functions, subtests: pytest.Subtests, log: io.StringIO) -> None:
    for case in CASES:
        with subtests.test(case.name):
            response = listing(*case.event())
            case.check(response["statusCode"], json.loads(response["body"]))
            assert response["headers"].keys() <= RESPONSE_HEADERS
            assert INJECTED not in str(response["headers"])
    assert log.getvalue() == ""


def test_corpus_is_large_and_its_names_are_unique() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 60


def test_added_entry_is_returned_and_stored(listing: Functions, dynamodb: Any) -> None:
    details = {"reason": "chargeback", "expires_at": "2126-12-31T01:00:00+01:00"}
    before = int(time.time())
    added = send(listing, "PUT", "/lists/blocked_customers/C-1", details)
    assert list(added) == ["list", "entry", "reason", "expires_at", "added_at"]
    assert added.pop("added_at") >= lists._rfc3339(before)
    assert added == {
        "list": "blocked_customers",
        "entry": "C-1",
        "reason": "chargeback",
        "expires_at": "2126-12-31T00:00:00Z",
    }
    (item,) = dynamodb.scan(TableName="ListsTable")["Items"]
    assert before <= int(item.pop("added_at")["N"]) <= time.time()
    assert item == {
        "list": {"S": "blocked_customers"},
        "entry": {"S": "C-1"},
        "reason": {"S": "chargeback"},
        "expires_at": {"N": "4954348800"},
    }


def test_added_again_replaces(listing: Functions) -> None:
    send(listing, "PUT", "/lists/blocked_customers/C-1", {"reason": "a", "expires_at": "2126-12-31T00:00:00Z"})
    send(listing, "PUT", "/lists/blocked_customers/C-1", {"reason": "b"})
    (found,) = send(listing, "GET", "/lists/blocked_customers")["entries"]
    assert found.keys() == {"entry", "reason", "added_at"}
    assert found["reason"] == "b"


def test_delete_can_be_repeated(listing: Functions) -> None:
    send(listing, "PUT", "/lists/blocked_customers/C-1")
    send(listing, "PUT", "/lists/blocked_customers/C-2")
    send(listing, "PUT", "/lists/trusted_stores/C-1")
    for deleted in (True, False):
        assert send(listing, "DELETE", "/lists/blocked_customers/C-1") == {
            "list": "blocked_customers",
            "entry": "C-1",
            "deleted": deleted,
        }
    assert [one["entry"] for one in send(listing, "GET", "/lists/blocked_customers")["entries"]] == ["C-2"]
    assert [one["entry"] for one in send(listing, "GET", "/lists/trusted_stores")["entries"]] == ["C-1"]


@pytest.mark.parametrize(
    ("name", "warned"),
    [("blocked_customers", False), ("trusted_stores", False), ("risky", False), ("bloked_customers", True)],
)
def test_warning_if_no_rule_uses_the_list(listing: Functions, name: str, warned: bool) -> None:  # noqa: FBT001
    """A disabled rule counts: its list is filled before it is enabled."""
    warnings = [f"No rule of version '1.0-tests' uses the list {name!r}"] if warned else None
    assert send(listing, "PUT", f"/lists/{name}/x").get("warnings") == warnings
    assert "warnings" not in send(listing, "GET", f"/lists/{name}")


def test_entries_are_folded_if_their_fields_ignore_case(listing: Functions) -> None:
    assert send(listing, "PUT", "/lists/risky/Straße")["entry"] == "strasse"
    assert send(listing, "PUT", "/lists/blocked_customers/Straße")["entry"] == "Straße"
    assert [one["entry"] for one in send(listing, "GET", "/lists/risky")["entries"]] == ["strasse"]
    assert send(listing, "DELETE", "/lists/risky/STRASSE") == {"list": "risky", "entry": "strasse", "deleted": True}


def test_listed_value_is_found_by_the_rule(listing: Functions) -> None:
    """The stored entry is the value that rules search for."""
    for name, field, value in (("risky", "country", "ΐ-İ"), ("blocked_customers", "customer_id", "ΐ-İ")):
        stored = send(listing, "PUT", f"/lists/{name}/{value}")["entry"]
        facts = RULE_SET.fields.read({"amount": 1, field: value}).facts
        assert facts[field] == stored


def test_folding_must_not_make_an_entry_too_long(listing: Functions) -> None:
    """One character can become three."""
    fits, longer = "ΐ" * 85, "ΐ" * 86
    assert len(send(listing, "PUT", f"/lists/risky/{fits}")["entry"]) == 255
    assert len(send(listing, "PUT", f"/lists/blocked_customers/{longer}")["entry"]) == 86
    response = listing(*ListCase("", "PUT", f"/lists/risky/{longer}", "", 400, None, only_event="decoded").event())
    assert json.loads(response["body"]) == {"error": "Field 'entry' must have 1 to 256 characters"}


def test_entry_added_before_its_field_ignored_case_can_be_deleted(listing: Functions, entries: Lists) -> None:
    entries.put("risky", ListEntry("DE", NOW), NO_DEADLINE)
    assert send(listing, "DELETE", "/lists/risky/DE")["deleted"]
    assert send(listing, "GET", "/lists/risky")["entries"] == []


def test_pages_cover_the_list_once(listing: Functions, entries: Lists) -> None:
    names = sorted([f"C-{number:03}" for number in range(205)] + ["é", "🂡", "~", " "], key=str.encode)
    for name in names:
        entries.put("blocked_customers", ListEntry(name, NOW), NO_DEADLINE)
    entries.put("blocked_customer", ListEntry("other list", NOW), NO_DEADLINE)
    for limit, pages in ((None, 3), (100, 3), (209, 1), (208, 2), (1000, 1)):
        found, number, query = [], 0, {} if limit is None else {"limit": limit}
        while True:
            event = events.load("lists-page") | {"rawQueryString": urlencode(query)}
            page = json.loads(listing("ListsFunction", event)["body"])
            found += [one["entry"] for one in page["entries"]]
            number += 1
            assert len(page["entries"]) <= (limit or 100)
            if "next" not in page:
                break
            assert page["next"] == page["entries"][-1]["entry"]
            query["after"] = page["next"]
        assert (found, number) == (names, pages)


def test_expired_entries_are_left_out_to_the_second(entries: Lists, monkeypatch: pytest.MonkeyPatch) -> None:
    """DynamoDB deletes them later."""
    for number in range(30):
        entries.put("many", ListEntry(f"{number:02}", NOW - 100, expires_at=NOW + number), NO_DEADLINE)
    entries.put("many", ListEntry("z", NOW), NO_DEADLINE)
    monkeypatch.setattr("scoring.lists.time.time", lambda: NOW + 27.5)
    assert [one.entry for one in entries.page("many", None, 100, NO_DEADLINE).entries] == ["28", "29", "z"]
    # A page that would end within expired entries
    assert entries.page("many", None, 2, NO_DEADLINE).next == "29"
    assert entries.page("many", "29", 1, NO_DEADLINE) == ([ListEntry("z", NOW)], None)
    assert not entries.delete("many", "27", NO_DEADLINE)
    assert entries.delete("many", "28", NO_DEADLINE)


def test_no_next_if_only_expired_entries_follow(entries: Lists, monkeypatch: pytest.MonkeyPatch) -> None:
    entries.put("few", ListEntry("a", NOW), NO_DEADLINE)
    for entry in "bcdef":
        entries.put("few", ListEntry(entry, NOW, expires_at=NOW), NO_DEADLINE)
    monkeypatch.setattr("scoring.lists.time.time", lambda: NOW)
    assert entries.page("few", None, 1, NO_DEADLINE) == ([ListEntry("a", NOW)], None)


def test_expiry_must_be_a_second_ahead(listing: Functions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing.modules["ListsFunction"].time, "time", lambda: NOW + 0.9)
    for seconds, status in ((-1, 400), (0, 400), (1, 200)):
        body = json.dumps({"expires_at": lists._rfc3339(NOW + seconds)})
        case = ListCase("", "PUT", "/lists/blocked_customers/x", body, status, None)
        assert listing(*case.event())["statusCode"] == status


def test_page_fits_into_a_response_of_lambda(entries: Lists) -> None:
    large = ListEntry("🂡" * 252, NOW, "🂡" * 500)
    for number in range(1_000):
        entries.put("large", large._replace(entry=f"{number:04}{large.entry}"), NO_DEADLINE)
    page = entries.page("large", None, 1_000, NO_DEADLINE)
    assert page.next == page.entries[-1].entry
    document = {"list": "large", "entries": [one.document() for one in page.entries], "next": page.next}
    assert 5_000_000 < len(json.dumps(http_api.json_response(document))) < 6_000_000
    rest = entries.page("large", page.next, 1_000, NO_DEADLINE)
    assert rest.entries[0].entry[:4] == f"{len(page.entries):04}"


def test_pages_are_read_consistently(entries: Lists, intercept: Intercept) -> None:
    calls = intercept("query")
    entries.page("few", None, 10, NO_DEADLINE)
    assert [call["ConsistentRead"] for call in calls] == [True]


def test_many_expired_entries_are_skipped_in_large_steps() -> None:
    expired = {"entry": {"S": "a"}, "added_at": {"N": "1"}, "expires_at": {"N": "2"}}
    key = {"list": {"S": "few"}, "entry": {"S": "a"}}
    client = FakeClient({"Items": [expired] * 11, "LastEvaluatedKey": key}, {"Items": [expired] * 500})
    assert Lists(Store(client), "ListsTable").page("few", None, 10, NO_DEADLINE) == ([], None)
    first, second = client.calls
    assert (first["Limit"], "ExclusiveStartKey" in first) == (11, False)
    assert (second["Limit"], second["ExclusiveStartKey"]) == (1000, key)


def attempts(client: FakeClient, deadline: float) -> list[Any]:
    """Return the methods of lists, to be called."""
    stored = Lists(Store(client), "ListsTable")
    return [
        lambda: stored.put("few", ListEntry("a", NOW), deadline),
        lambda: stored.delete("few", "a", deadline),
        lambda: stored.page("few", None, 10, deadline),
    ]


@pytest.mark.parametrize(
    "failure", dynamodb_errors("PutItem", "DeleteItem", "Query"), ids=lambda failure: failure.reason
)
def test_every_error_of_dynamodb_is_503(failure: CallFailed, log: io.StringIO) -> None:
    for number in range(3):
        with pytest.raises(StoreUnavailable):
            attempts(FakeClient(failure), NO_DEADLINE)[number]()
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [(line["message"], line["reason"], line["decision_id"]) for line in lines] == [
        ("store unavailable", failure.reason, None)
    ] * 3


def test_no_call_that_could_end_after_the_deadline(log: io.StringIO) -> None:
    client = FakeClient()
    for number in range(3):
        with pytest.raises(StoreUnavailable):
            attempts(client, time.monotonic() + CALL_SECONDS - 0.01)[number]()
    assert client.calls == []
    assert log.getvalue().count("NoTimeLeft") == 3


@pytest.mark.parametrize(
    "response",
    [
        {},
        {"Items": None},
        {"Items": {}},
        {"Items": [None]},
        {"Items": [{}]},
        {"Items": [{"entry": {"S": "a"}}]},
        {"Items": [{"entry": {"S": "a"}, "added_at": {"N": "x"}}]},
        {"Items": [{"entry": {"S": "a"}, "added_at": {"S": "1"}}]},
        {"Items": [{"entry": {"S": "a"}, "added_at": None}]},
        {"Items": [{"entry": {"S": "a"}, "added_at": {"N": "1"}, "expires_at": {}}]},
    ],
)
def test_malformed_page_is_503(response: dict[str, Any], log: io.StringIO) -> None:
    with pytest.raises(StoreUnavailable):
        attempts(FakeClient(response), NO_DEADLINE)[2]()
    assert "UnexpectedResponse" in log.getvalue()


@pytest.mark.parametrize("attributes", ["", [], {"entry": {"S": "a"}}])
def test_malformed_deletion_is_503(attributes: Any) -> None:
    with pytest.raises(StoreUnavailable):
        attempts(FakeClient({"Attributes": attributes}), NO_DEADLINE)[1]()


def test_unavailable_store_is_503_without_personal_data(listing: Functions, dynamodb: Any, log: io.StringIO) -> None:
    dynamodb.delete_table(TableName="ListsTable")
    for event in ("lists-put", "lists-page", "lists-delete"):
        response = listing("ListsFunction", events.load(event))
        assert (response["statusCode"], response["headers"]["Retry-After"]) == (503, "1")
    assert "C-100" not in log.getvalue()
    assert log.getvalue().count("store unavailable") == 3
