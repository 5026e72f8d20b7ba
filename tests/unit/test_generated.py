"""Generated requests: each handler responds with a valid result or an error of the contract."""

import base64
import io
import json
import math
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import events
from tests.corpus import RESPONSE_HEADERS
from tests.generated import SHARES, generating
from tests.unit import log_lines
from tests.unit.conftest import Functions
from tests.unit.ledger_model import LedgerModel

VALID_BODY = b'{"tx_id": "TX003", "amount": 4500.0, "category": "electronics", "store": "Krakow", "hour": 3}'
TOKENS = [
    *"{}[]:, \n\0\ufeffż🂡'\\",
    *("null", "true", "20", "-1", "-0.0", "1e400", "NaN", "Infinity", "//"),
    *('{"amount": 20', '"amount"', '"hour"', '"tx_id"', '"TX\\u00e9"', '"\\ud83c"', '"\\n"'),
    *("1" * 400, "1" * 5_000, "[" * 2_000),
]

UNLOGGED_FIELDS = {"tx_id", "evaluated_at", "reasons", "warnings"}

# Includes lone surrogates, which an event can contain.
CHARACTERS = st.characters()
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(CHARACTERS, max_size=20)
    | st.sampled_from([math.nan, math.inf, 10**308, 10**400, "x" * 128, "x" * 129, "12", "electronics", "\x1b[31m"]),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=5,
)
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "amount": st.floats(0, 1e5) | st.integers(0, 10_000) | st.sampled_from([-1, -5e-324, -0.0, 1e308]) | VALUES,
        "hour": st.integers(-1, 24) | VALUES,
        "category": st.sampled_from(["electronics", "food"]) | VALUES,
        "store": VALUES,
        "tx_id": st.text(CHARACTERS, max_size=130) | VALUES,
        "unknown": st.floats() | st.sampled_from([math.nan, -math.inf]) | VALUES,
    },
)


@st.composite
def mutated_bodies(draw: st.DrawFn) -> bytes:
    """Remove, insert or repeat some bytes of a valid body."""
    body = VALID_BODY
    for _ in range(draw(st.integers(1, 4))):
        start, end = sorted(draw(st.tuples(st.integers(0, len(body)), st.integers(0, len(body)))))
        inserted = draw(st.binary(max_size=4) | st.sampled_from([token.encode() for token in TOKENS]))
        body = draw(
            st.sampled_from(
                [body[:start] + inserted + body[start:], body[:start] + body[end:], body[:end] + body[start:]]
            )
        )
    return body


BODIES = st.one_of(
    st.binary(max_size=100),
    mutated_bodies(),
    st.lists(st.sampled_from(TOKENS), max_size=12).map(lambda tokens: "".join(tokens).encode()),
    (DOCUMENTS | VALUES).map(lambda document: json.dumps(document).encode()),
)


@dataclass
class Requests:
    """Sends events and checks the properties of every response and its log lines."""

    invoke: Functions
    log: io.StringIO
    ledger: LedgerModel
    count: int = 0
    statuses: set[int] = field(default_factory=set)

    def send(self, function: str, event: dict[str, Any]) -> tuple[int, Any]:
        """Return status and body of the response."""
        self.count += 1
        self.log.seek(0)
        self.log.truncate()
        before = len(self.ledger.decisions)
        response = self.invoke(function, event)
        status, body = response["statusCode"], json.loads(response["body"])
        assert status == 200 or 400 <= status < 500
        assert response["headers"].keys() <= RESPONSE_HEADERS
        if status != 200:
            assert list(body) == ["error"]
            assert isinstance(body["error"], str)
            assert 0 < len(body["error"]) < 600
        decided = function == "ScoreFunction" and status == 200
        replayed = "Idempotent-Replayed" in response["headers"]
        assert len(self.ledger.decisions) - before == int(decided and not replayed)
        decisions, counts = log_lines.parse(self.log.getvalue())
        # The log has the fields of the response that quote no transaction, and of the request only the key.
        assert decisions == (
            [
                {name: value for name, value in body.items() if name not in UNLOGGED_FIELDS}
                | {"replayed": replayed, "recorded": True}
            ]
            if decided
            else []
        )
        rejections = [metric for metric, _ in counts if metric == "RejectedRequests"]
        assert len(rejections) == int(function == "ScoreFunction" and not decided)
        self.statuses.add(status)
        return status, body


@pytest.fixture
def requests(invoke: Functions, monkeypatch: pytest.MonkeyPatch, log: io.StringIO) -> Requests:
    ledger = LedgerModel()
    monkeypatch.setattr(invoke.modules["ScoreFunction"].RECORDER, "_ledger", ledger)
    for function in ("TransactionFunction", "StatsFunction"):
        monkeypatch.setattr(invoke.modules[function], "READER", ledger)
    return Requests(invoke, log, ledger)


def with_body(event: dict[str, Any], body: bytes, *, in_base64: bool) -> dict[str, Any]:
    """Return the event with another body; in text, bytes that are not UTF-8 become lone surrogates."""
    text = base64.b64encode(body).decode() if in_base64 else body.decode(errors="surrogateescape")
    return event | {"body": text, "isBase64Encoded": in_base64}


def decode_strictly(text: str | bytes) -> Any:
    """Decode an accepted body, which must not repeat names or contain NaN."""

    def refuse(name: str) -> None:
        raise AssertionError(name)

    def unique_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        assert sorted(set(names)) == sorted(names)
        return dict(pairs)

    return json.loads(text, parse_constant=refuse, object_pairs_hook=unique_fields)


def test_bodies_to_score(requests: Requests) -> None:
    @generating("bodies to score")
    @given(BODIES, st.booleans())
    def each(body: bytes, in_base64: bool) -> None:  # noqa: FBT001  Hypothesis passes it by position
        event = events.post(None, request_id=f"request-{requests.count}")
        event = with_body(event, body, in_base64=in_base64)
        status, response = requests.send("ScoreFunction", event)
        if status == 200:
            sent = decode_strictly(body if in_base64 else event["body"])
            assert sent["amount"] >= 0
            assert response["tx_id"] == sent.get("tx_id", "unknown")
            for name in ("tx_id", "category", "store"):
                sent.get(name, "").encode()  # a lone surrogate could be neither stored nor sent

    each()
    assert requests.count >= SHARES["bodies to score"]
    assert requests.statuses == {200, 400}
    assert requests.ledger.totals(0).total > 200


def test_headers_to_score(requests: Requests) -> None:
    names = st.sampled_from(["content-type", "Content-Type", "idempotency-key", "Idempotency-Key", "x"]) | st.text()
    values = st.sampled_from(["application/json", "a", "a,b", "x" * 128, "x" * 129]) | st.text(CHARACTERS)
    headers = st.none() | st.dictionaries(names, values, max_size=4)

    @generating("headers to score")
    @given(headers, st.booleans(), st.integers(0, 3), st.sampled_from([None, "eyJ9", '{"amount": 1']))
    def each(generated: dict[str, str] | None, is_json: bool, amount: int, broken: str | None) -> None:  # noqa: FBT001
        event = events.post(broken or f'{{"amount": {amount}}}', request_id=f"request-{requests.count}")
        event["headers"] = {"content-type": "application/json", **(generated or {})} if is_json else generated
        event["isBase64Encoded"] = broken == "eyJ9"
        requests.send("ScoreFunction", event)

    each()
    assert requests.count >= SHARES["headers to score"]
    assert requests.statuses == {200, 400, 415, 422}


def test_bodies_to_echo(requests: Requests) -> None:
    @generating("bodies to echo")
    @given(BODIES, st.booleans())
    def each(body: bytes, in_base64: bool) -> None:  # noqa: FBT001
        event = with_body(events.load("lab-echo"), body, in_base64=in_base64)
        status, response = requests.send("LabFunction", event)
        if status == 200:
            assert response["received"] == decode_strictly(body if in_base64 else event["body"])

    each()
    assert requests.count >= SHARES["bodies to echo"]
    assert requests.statuses == {200, 400}


def test_lookups(requests: Requests) -> None:
    known = ["TX1", "a/b", "🂡" * 128]
    for tx_id in known:
        requests.send("ScoreFunction", events.post(json.dumps({"tx_id": tx_id, "amount": 1}), request_id="request"))
    tx_ids = st.text(CHARACTERS, max_size=140) | st.sampled_from([*known, "..", "x" * 129, "tx1"])
    parameters = st.none() | st.fixed_dictionaries({}, optional={"tx_id": tx_ids})
    before = requests.count

    @generating("lookups")
    @given(tx_ids.map(lambda tx_id: {"tx_id": tx_id}) | parameters)
    def each(parameters: dict[str, str] | None) -> None:
        status, body = requests.send("TransactionFunction", events.load("transaction") | {"pathParameters": parameters})
        assert (status == 200) == ((parameters or {}).get("tx_id") in known)
        if status != 200:
            assert "tx_id" in body["error"]

    each()
    assert requests.count - before >= SHARES["lookups"]
    assert requests.statuses == {200, 400, 404}


def test_paths_and_methods(requests: Requests) -> None:
    segments = st.sampled_from(["", "score", "transaction", "docs", "TX1", "..", "health", "\r\nSet-Cookie: a=b"])
    paths = st.lists(segments | st.text(CHARACTERS), max_size=4).map(lambda parts: "/" + "/".join(parts))

    @generating("paths and methods")
    @given(paths, st.sampled_from(["GET", "HEAD", "OPTIONS", "TRACE"]) | st.text())
    def each(path: str, method: str) -> None:
        event = events.load("unknown-path")
        event["requestContext"]["http"] |= {"path": path, "method": method}
        requests.send("FallbackFunction", event)

    each()
    assert requests.count >= SHARES["paths and methods"]
    assert requests.statuses == {404, 405}


def test_at_least_10_000_requests_are_generated() -> None:
    assert sum(SHARES.values()) >= 10_000
