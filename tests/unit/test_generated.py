"""Generated requests, each straight into the function of its route: right or refused, and never more than that."""

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
from tests.corpus import ANSWER_HEADERS
from tests.generated import SHARES, generating
from tests.unit import log_lines
from tests.unit.conftest import Functions
from tests.unit.ledger_model import LedgerModel

GOOD = b'{"tx_id": "TX003", "amount": 4500.0, "category": "electronics", "store": "Krakow", "hour": 3}'
TOKENS = [
    *"{}[]:, \n\0\ufeffż🂡'\\",
    *("null", "true", "20", "-1", "-0.0", "1e400", "NaN", "Infinity", "//"),
    *('{"amount": 20', '"amount"', '"hour"', '"tx_id"', '"TX\\u00e9"', '"\\ud83c"', '"\\n"'),
    *("1" * 400, "1" * 5_000, "[" * 2_000),
]

# Half pairs too, which an event can hold.
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
TRANSACTIONS = st.fixed_dictionaries(
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
def mutated(draw: st.DrawFn) -> bytes:
    """A good body with some bytes taken out, put in or said twice."""
    body = GOOD
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
    mutated(),
    st.lists(st.sampled_from(TOKENS), max_size=12).map(lambda tokens: "".join(tokens).encode()),
    (TRANSACTIONS | VALUES).map(lambda document: json.dumps(document).encode()),
)


@dataclass
class Requests:
    """Sends events, and holds every answer to what is true of all of them."""

    invoke: Functions
    log: io.StringIO
    ledger: LedgerModel
    made: int = 0
    statuses: set[int] = field(default_factory=set)

    def send(self, function: str, event: dict[str, Any]) -> tuple[int, Any]:
        """Status and body of the answer."""
        self.made += 1
        self.log.seek(0)
        self.log.truncate()
        before = len(self.ledger.decisions)
        response = self.invoke(function, event)
        status, body = response["statusCode"], json.loads(response["body"])
        assert status == 200 or 400 <= status < 500
        assert response["headers"].keys() <= ANSWER_HEADERS
        if status != 200:
            assert list(body) == ["error"]
            assert isinstance(body["error"], str)
            assert 0 < len(body["error"]) < 600
        decided = function == "ScoreFunction" and status == 200
        replayed = "Idempotent-Replayed" in response["headers"]
        assert len(self.ledger.decisions) - before == int(decided and not replayed)
        decisions, counts = log_lines.read(self.log.getvalue())
        # What was answered but the ``tx_id``, and nothing that was sent but the key.
        assert decisions == (
            [
                {name: value for name, value in body.items() if name not in {"tx_id", "evaluated_at"}}
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
    monkeypatch.setattr(invoke.modules["ScoreFunction"], "RECORDER", ledger)
    for function in ("TransactionFunction", "StatsFunction"):
        monkeypatch.setattr(invoke.modules[function], "READER", ledger)
    return Requests(invoke, log, ledger)


def with_body(event: dict[str, Any], body: bytes, *, in_base64: bool) -> dict[str, Any]:
    """The event with this body; as text, bytes that are no UTF-8 are half pairs."""
    text = base64.b64encode(body).decode() if in_base64 else body.decode(errors="surrogateescape")
    return event | {"body": text, "isBase64Encoded": in_base64}


def strictly(text: str | bytes) -> Any:
    """What an accepted body says; it must be JSON to the letter."""

    def constant(name: str) -> None:
        raise AssertionError(name)

    def fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        assert sorted(set(names)) == sorted(names)
        return dict(pairs)

    return json.loads(text, parse_constant=constant, object_pairs_hook=fields)


def test_bodies_to_score(requests: Requests) -> None:
    @generating("bodies to score")
    @given(BODIES, st.booleans())
    def each(body: bytes, in_base64: bool) -> None:  # noqa: FBT001  Hypothesis gives it by position
        event = events.post(None, request_id=f"request-{requests.made}")
        event = with_body(event, body, in_base64=in_base64)
        status, answer = requests.send("ScoreFunction", event)
        if status == 200:
            sent = strictly(body if in_base64 else event["body"])
            assert sent["amount"] >= 0
            assert answer["tx_id"] == sent.get("tx_id", "unknown")
            for name in ("tx_id", "category", "store"):
                sent.get(name, "").encode()  # half a pair could be neither stored nor sent

    each()
    assert requests.made >= SHARES["bodies to score"]
    assert requests.statuses == {200, 400}
    assert requests.ledger.totals(0).total > 200


def test_headers_to_score(requests: Requests) -> None:
    names = st.sampled_from(["content-type", "Content-Type", "idempotency-key", "Idempotency-Key", "x"]) | st.text()
    values = st.sampled_from(["application/json", "a", "a,b", "x" * 128, "x" * 129]) | st.text(CHARACTERS)
    headers = st.none() | st.dictionaries(names, values, max_size=4)

    @generating("headers to score")
    @given(headers, st.booleans(), st.integers(0, 3), st.sampled_from([None, "eyJ9", '{"amount": 1']))
    def each(own: dict[str, str] | None, is_json: bool, amount: int, broken: str | None) -> None:  # noqa: FBT001
        event = events.post(broken or f'{{"amount": {amount}}}', request_id=f"request-{requests.made}")
        event["headers"] = {"content-type": "application/json", **(own or {})} if is_json else own
        event["isBase64Encoded"] = broken == "eyJ9"
        requests.send("ScoreFunction", event)

    each()
    assert requests.made >= SHARES["headers to score"]
    assert requests.statuses == {200, 400, 415, 422}


def test_bodies_to_echo(requests: Requests) -> None:
    @generating("bodies to echo")
    @given(BODIES, st.booleans())
    def each(body: bytes, in_base64: bool) -> None:  # noqa: FBT001
        event = with_body(events.load("lab-echo"), body, in_base64=in_base64)
        status, answer = requests.send("LabFunction", event)
        if status == 200:
            assert answer["received"] == strictly(body if in_base64 else event["body"])

    each()
    assert requests.made >= SHARES["bodies to echo"]
    assert requests.statuses == {200, 400}


def test_lookups(requests: Requests) -> None:
    known = ["TX1", "a/b", "🂡" * 128]
    for tx_id in known:
        requests.send("ScoreFunction", events.post(json.dumps({"tx_id": tx_id, "amount": 1}), request_id="request"))
    tx_ids = st.text(CHARACTERS, max_size=140) | st.sampled_from([*known, "..", "x" * 129, "tx1"])
    parameters = st.none() | st.fixed_dictionaries({}, optional={"tx_id": tx_ids})
    before = requests.made

    @generating("lookups")
    @given(tx_ids.map(lambda tx_id: {"tx_id": tx_id}) | parameters)
    def each(parameters: dict[str, str] | None) -> None:
        status, body = requests.send("TransactionFunction", events.load("transaction") | {"pathParameters": parameters})
        assert (status == 200) == ((parameters or {}).get("tx_id") in known)
        if status != 200:
            assert "tx_id" in body["error"]

    each()
    assert requests.made - before >= SHARES["lookups"]
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
    assert requests.made >= SHARES["paths and methods"]
    assert requests.statuses == {404, 405}


def test_the_shares_make_at_least_10_000() -> None:
    assert sum(SHARES.values()) >= 10_000
