"""Lists and customers over HTTP."""

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import pytest
import requests

from tests import rule_set, sending
from tests.corpus import RESPONSE_HEADERS, SERVER_HEADERS, Case
from tests.lists_corpus import CASES, ListCase
from tests.service import STACK_LOGGING_JSON, TIMEOUT_SECONDS, LocalStack, RunningService, checkout, started

DOCUMENT = rule_set.DOCUMENT | {
    "fields": {"country": {"type": "string", "case": "ignore"}},
    "rules": [
        *rule_set.DOCUMENT["rules"],
        {
            "label": "blocked customer",
            "level": "at least CRITICAL",
            "when": [{"field": "customer_id", "operator": "in list", "value": "blocked_customers"}],
        },
        {
            "label": "trusted country",
            "level": "at most LOW",
            "when": [{"field": "country", "operator": "in list", "value": "trusted_countries"}],
        },
    ],
}
NAMES = ["C-1", "DE/4711", "a//b", "50%off", "%41", "a?b=1#c", "Zażółć", "🂡", " x ", "a+b", "ΐ&=;"]


def request(service: RunningService, method: str, path: str, **options: Any) -> dict[str, Any]:
    """Return the body of a successful response."""
    response = requests.request(method, service.url + path, auth=service.auth, timeout=TIMEOUT_SECONDS, **options)
    assert response.status_code == 200, response.text
    document: dict[str, Any] = response.json()
    return document


def level(service: RunningService, **transaction: Any) -> str:
    response = service.post("/score", json={"amount": 5, **transaction})
    assert response.status_code == 200, response.text
    found: str = response.json()["risk_level"]
    return found


class TestCorpus:
    """Runs against the local stack here; subclassed for other targets."""

    server_headers = SERVER_HEADERS
    # Reasons why the target responds differently from API Gateway, by name of the case
    differences: Mapping[str, str] = {}

    @pytest.mark.parametrize("case", [one for one in CASES if not one.only_event], ids=lambda case: case.name)
    def test_request(self, service: RunningService, case: ListCase, request: pytest.FixtureRequest) -> None:
        if reason := self.differences.get(case.name):
            request.applymarker(pytest.mark.xfail(reason=reason))
        headers = (("Content-Type", case.content_type),) if case.content_type else ()
        body = case.body if isinstance(case.body, bytes) else case.body.encode()
        response = sending.send(service, Case(case.name, case.method, case.path, headers, body, case.status, ""))
        case.check(response.status, json.loads(response.body))
        assert {name for name, _ in response.headers} - RESPONSE_HEADERS <= self.server_headers


@pytest.fixture(scope="module")
def listing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A local stack whose rules use lists."""
    folder = tmp_path_factory.mktemp("stack")
    with started(folder / "stack.log", checkout(folder / "checkout", DOCUMENT), STACK_LOGGING_JSON) as stack:
        yield stack


def test_entry_applies_to_the_next_decision_until_it_is_deleted(listing: LocalStack) -> None:
    assert level(listing, customer_id="C-1") == "LOW"
    request(listing, "PUT", "/lists/blocked_customers/C-1", json={"reason": "chargeback"})
    assert level(listing, customer_id="C-1") == "CRITICAL"
    assert level(listing, customer_id="c-1") == "LOW"
    assert request(listing, "DELETE", "/lists/blocked_customers/C-1")["deleted"]
    assert level(listing, customer_id="C-1") == "LOW"


def test_list_of_a_field_that_ignores_case(listing: LocalStack) -> None:
    assert level(listing, country="Straße", amount=5000) == "HIGH"
    assert request(listing, "PUT", "/lists/trusted_countries/STRASSE")["entry"] == "strasse"
    assert level(listing, country="Straße", amount=5000) == "LOW"


@pytest.mark.parametrize("name", NAMES)
def test_any_customer_can_be_listed_and_forgotten(listing: LocalStack, name: str) -> None:
    path = f"/lists/blocked_customers/{quote(name)}"
    assert request(listing, "PUT", path)["entry"] == name
    assert level(listing, customer_id=name) == "CRITICAL"
    assert name in [one["entry"] for one in request(listing, "GET", "/lists/blocked_customers")["entries"]]
    forgotten = {"customer_id": name, "profiles": 1, "list_entries": 1}
    assert request(listing, "DELETE", f"/customer/{quote(name)}") == forgotten
    assert request(listing, "DELETE", path)["deleted"] is False
    assert level(listing, customer_id=name) == "LOW"


def test_pages(listing: LocalStack) -> None:
    for name in NAMES:
        request(listing, "PUT", f"/lists/paged/{quote(name)}")
    found: list[str] = []
    page: dict[str, Any] = {"next": None}
    while "next" in page:
        page = request(listing, "GET", "/lists/paged", params={"limit": 2, "after": page["next"]})
        found += [one["entry"] for one in page["entries"]]
    assert found == sorted(NAMES, key=str.encode)


def test_no_personal_data_in_the_logs_of_functions(listing: LocalStack) -> None:
    printed = len(listing.log.read_text())
    for path in ("/lists/blocked_customers/SECRET", "/lists/unused/SECRET"):
        request(listing, "PUT", path, json={"reason": "SECRET"})
        request(listing, "DELETE", path)
    request(listing, "DELETE", "/customer/SECRET")
    lines = [json.loads(line) for line in listing.log.read_text()[printed:].splitlines()]
    # Those lines are of `make run`; the access log of API Gateway has the route in place of the path.
    assert [line for line in lines if "SECRET" in json.dumps(line) and line["message"] != "request"] == []
    assert len(lines) >= 5
