"""Valid and invalid requests that Schemathesis generates from the OpenAPI document, with all its checks.

They are the same in every run, except those derived from responses.
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
from schemathesis.specs.openapi.checks import negative_data_rejection

from scoring import batches
from tests.corpus import PAGE_HEADERS, RESPONSE_HEADERS, SERVER_HEADERS
from tests.generated import OPENAPI_FILE, SHARES
from tests.service import TIMEOUT_SECONDS, LocalStack

KEY = "Idempotency-Key"
KNOWN_HEADERS = {name.lower() for name in RESPONSE_HEADERS | PAGE_HEADERS | SERVER_HEADERS}


@schemathesis.serializer("application/x-ndjson")
def json_lines(_: Any, value: Any) -> bytes:
    """Return a generated body: text or, if the request should be refused, anything."""
    return (value if isinstance(value, str) else json.dumps(value)).encode(errors="surrogatepass")


def _document() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(OPENAPI_FILE.read_text(encoding="utf-8"))
    # `make run` does not verify signatures.
    document["security"] = []
    for operation in (one for methods in document["paths"].values() for one in methods.values()):
        operation.pop("security", None)
    return document


DOCUMENT = _document()
OPERATIONS = {f"{method.upper()} {path}" for path, methods in DOCUMENT["paths"].items() for method in methods}
API = schemathesis.openapi.from_dict(DOCUMENT)


@dataclass
class Traffic:
    """Responses by operation and status, with the statistics and the length of the log at the start."""

    before: dict[str, Any]
    printed: int
    responses: Counter[tuple[str, int]] = field(default_factory=Counter)
    decided: Counter[str] = field(default_factory=Counter)
    batches: Counter[tuple[str, bool]] = field(default_factory=Counter)
    keys: Iterator[int] = field(default_factory=itertools.count)


@pytest.fixture(scope="module")
def traffic(service: LocalStack) -> Traffic:
    return Traffic(service.stats(), len(service.log.read_text()))


@API.parametrize()
@settings(
    max_examples=100,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
def test_api_conforms_to_its_document(case: schemathesis.Case[Any], service: LocalStack, traffic: Traffic) -> None:
    _adjust(case, traffic)
    response = case.call(base_url=service.url, timeout=TIMEOUT_SECONDS)
    traffic.responses[case.operation.label, response.status_code] += 1
    results = _results(case, response)
    # An invalid transaction in a batch is an error in the response, not of the request.
    negative = any("error" in result for result in results)
    case.validate_response(response, excluded_checks=[negative_data_rejection] if negative else [])
    assert response.headers.keys() <= KNOWN_HEADERS
    if response.status_code >= 400 and case.method != "HEAD":
        body = response.json()
        assert list(body) == ["error"]
        assert isinstance(body["error"], str)
    if case.operation.label == "POST /score" and response.status_code == 200:
        assert "idempotent-replayed" not in response.headers
        traffic.decided[response.json()["risk_level"]] += 1
    traffic.decided.update(one["risk_level"] for one in results if not {"error", "replayed"} & one.keys())
    if results:
        traffic.batches[case.media_type or "", negative] += 1


def test_enough_requests_and_exact_counts(service: LocalStack, traffic: Traffic) -> None:
    if {label for label, _ in traffic.responses} != OPERATIONS:
        pytest.skip("not all operations were selected")
    assert traffic.responses.total() >= SHARES["the API"]
    assert traffic.responses["POST /score", 200] > 30
    assert traffic.responses["POST /score", 400] > 30
    assert traffic.responses["POST /score/batch", 400] > 10
    assert min(traffic.batches["application/json", negative] for negative in (False, True)) > 5
    assert traffic.batches["application/x-ndjson", True] > 5
    after = service.stats()["by_risk_level"]
    assert {level: after[level] - count for level, count in traffic.before["by_risk_level"].items()} == {
        level: traffic.decided[level] for level in after
    }
    assert "Traceback" not in service.log.read_text()[traffic.printed :]


def _results(case: schemathesis.Case[Any], response: schemathesis.Response) -> list[dict[str, Any]]:
    """Return the results of a batch; none for any other response."""
    if case.operation.label != "POST /score/batch" or response.status_code != 200:
        return []
    results: list[dict[str, Any]] = response.json()["results"]
    return results


def _adjust(case: schemathesis.Case[Any], traffic: Traffic) -> None:
    """Apply constraints that JSON Schema cannot express."""
    for transaction in case.body if isinstance(case.body, list) else [case.body]:
        if not isinstance(transaction, dict):
            continue
        # JSON Schema accepts 3.0 as an integer; the description says that it is refused.
        if isinstance(hour := transaction.get("hour"), float) and hour.is_integer():
            transaction["hour"] = int(hour)
        # At most a day ahead of the clock
        if isinstance(time := transaction.get("timestamp"), str) and time[:4].isdecimal() and time[:4] > "2024":
            transaction["timestamp"] = f"2024{time[4:]}"
    # An expiry in the past would correctly be 400.
    is_positive = case.meta is not None and case.meta.generation.mode.is_positive
    body = case.body if is_positive and isinstance(case.body, dict) else {}
    if isinstance(expires_at := body.get("expires_at"), str):
        body["expires_at"] = f"2128{expires_at[4:]}"
    # A key that is used for several requests would correctly be 422; make each request independent.
    if isinstance(case.headers.get(KEY), str) and is_positive:
        case.headers[KEY] = f"{next(traffic.keys)}-{case.headers[KEY]}"[: batches.MAX_BATCH_KEY_LENGTH]
