"""The running API against its OpenAPI document: requests generated from it, right ones and wrong ones.

Schemathesis makes them, the same ones in every run as far as they do not build on answers, and applies all its checks.
"""

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from tests.service import TIMEOUT_SECONDS, LocalStack

from tests.corpus import ANSWER_HEADERS, PAGE_HEADERS, SERVER_HEADERS
from tests.generated import OPENAPI_FILE, SHARES

KEY = "Idempotency-Key"
KNOWN_HEADERS = {name.lower() for name in ANSWER_HEADERS | PAGE_HEADERS | SERVER_HEADERS}


def _document() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(OPENAPI_FILE.read_text(encoding="utf-8"))
    # `make run` does not look at signatures, so that none can be missing or wrong.
    document["security"] = []
    return document


DOCUMENT = _document()
OPERATIONS = {f"{method.upper()} {path}" for path, methods in DOCUMENT["paths"].items() for method in methods}
API = schemathesis.openapi.from_dict(DOCUMENT)


@dataclass
class Tally:
    """What was sent and answered, and what the service had counted and printed before."""

    before: dict[str, Any]
    printed: int
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    decided: Counter[str] = field(default_factory=Counter)
    keys: Iterator[int] = field(default_factory=itertools.count)


@pytest.fixture(scope="module")
def tally(service: LocalStack) -> Tally:
    return Tally(service.stats(), len(service.log.read_text()))


@API.parametrize()
@settings(
    max_examples=100,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
def test_the_api_does_as_its_document_says(case: schemathesis.Case[Any], service: LocalStack, tally: Tally) -> None:
    _as_meant(case, tally)
    response = case.call(base_url=service.url, timeout=TIMEOUT_SECONDS)
    tally.answers[case.operation.label, response.status_code] += 1
    case.validate_response(response)
    assert response.headers.keys() <= KNOWN_HEADERS
    if response.status_code >= 400 and case.method != "HEAD":
        body = response.json()
        assert list(body) == ["error"]
        assert isinstance(body["error"], str)
    if case.operation.label == "POST /score" and response.status_code == 200:
        assert "idempotent-replayed" not in response.headers
        tally.decided[response.json()["risk_level"]] += 1


def test_enough_was_generated_and_what_was_accepted_was_counted(service: LocalStack, tally: Tally) -> None:
    if {label for label, _ in tally.answers} != OPERATIONS:
        pytest.skip("only a part of the operations was selected")
    assert tally.answers.total() >= SHARES["the API"]
    assert tally.answers["POST /score", 200] > 30
    assert tally.answers["POST /score", 400] > 30
    after = service.stats()["by_risk_level"]
    assert {level: after[level] - count for level, count in tally.before["by_risk_level"].items()} == {
        level: tally.decided[level] for level in after
    }
    assert "Traceback" not in service.log.read_text()[tally.printed :]


def _as_meant(case: schemathesis.Case[Any], tally: Tally) -> None:
    """Say what JSON Schema cannot."""
    # For JSON Schema 3.0 is an integer; the document says in words that it is refused.
    if isinstance(case.body, dict) and isinstance(hour := case.body.get("hour"), float) and hour.is_integer():
        case.body["hour"] = int(hour)
    # One key for several requests is answered 422, as it should be; here every request is to be judged by itself.
    if isinstance(case.headers.get(KEY), str) and case.meta and case.meta.generation.mode.is_positive:
        case.headers[KEY] = f"{next(tally.keys)}-{case.headers[KEY]}"[:128]
