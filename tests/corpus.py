"""A corpus of invalid and unusual requests with their responses, for HTTP and as API Gateway events.

The responses follow the tests' rule set. Cases for declared fields are in ``card_corpus``.
"""

import base64
import sys
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

from tests import events
from tests.local import template
from tests.rule_set import R1, R2, R3

# Part of every text that tries to inject a header or a log line.
INJECTED = "INJECTED"

# All headers that functions send; callers cannot add any.
RESPONSE_HEADERS = {
    *("Content-Type", "Cache-Control", "X-Content-Type-Options"),
    *("Allow", "Retry-After", "Idempotent-Replayed"),
}
# Added by the documentation page and its files.
PAGE_HEADERS = {"Content-Encoding", "Content-Security-Policy", "Referrer-Policy", "Vary"}
# Added by the server of `make run`.
SERVER_HEADERS = {"Server", "Date", "Content-Length", "Connection"}

# Fields of a decision that differ between requests, runs or versions; cases need not expect them.
VARIABLE_FIELDS = {"decision_id", "version", "evaluated_at", "history"}

Headers = tuple[tuple[str, str], ...]

JSON: Headers = (("Content-Type", "application/json"),)


@dataclass(frozen=True)
class Case:
    """A request and its response.

    Attributes
    ----------
    path
        As in the request line: percent-encoded, with the query.
    headers
        In order, with repetitions; sent as Latin-1.
    expected
        The error message unless the status is 200; then the JSON body or the text of the body. Of a decision, only
        ``VARIABLE_FIELDS`` may be absent here; of other JSON bodies, any field.
    only_http, only_event
        Reason if the case exists only over HTTP, or only as an event.
    event_changes
        Fields that override those of the event.
    """

    name: str
    method: str
    path: str
    headers: Headers
    body: bytes
    status: int
    expected: str | Mapping[str, Any]
    only_http: str = ""
    only_event: str = ""
    event_changes: Mapping[str, Any] | None = None

    @property
    def error(self) -> str | None:
        """The error message, or None for a valid request."""
        return str(self.expected) if self.status != 200 else None

    def compared(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of a JSON body that must equal ``expected``."""
        assert isinstance(self.expected, Mapping)
        optional = VARIABLE_FIELDS if self.counted else body.keys()
        return {name: value for name, value in body.items() if name in self.expected or name not in optional}

    @property
    def counted(self) -> int:
        """The number of decisions that it adds to the statistics."""
        return int(self.status == 200 and self.method == "POST" and self.path == "/score")

    @property
    def levels(self) -> dict[str, int]:
        """The changes of the risk level counters, without zeros."""
        return {self.expected["risk_level"]: 1} if self.counted and isinstance(self.expected, Mapping) else {}


def score(
    name: str, body: str | bytes, status: int, expected: str | Mapping[str, Any], headers: Headers = JSON
) -> Case:
    """Make a ``POST /score``."""
    return Case(name, "POST", "/score", headers, body.encode() if isinstance(body, str) else body, status, expected)


def bad(name: str, body: str | bytes, error: str) -> Case:
    """Make a ``POST /score`` with a body that gets a 400."""
    return score(name, body, 400, error)


def customer(name: str, value: str, error: str) -> Case:
    """Make a ``POST /score`` whose ``customer_id`` is this JSON, and which gets a 400."""
    return bad(f"customer_id {name}", f'{{"amount": 20, "customer_id": {value}}}', f"Field 'customer_id' {error}")


def known_customer(name: str, value: str) -> Case:
    """Make a ``POST /score`` whose ``customer_id`` is this string, which is valid."""
    return score(f"customer_id {name}", f'{{"amount": 20, "customer_id": "{value}"}}', 200, LOW)


def no_time(name: str, value: str, error: str = "") -> Case:
    """Make a ``POST /score`` whose ``timestamp`` is this JSON, and which gets a 400."""
    return bad(f"timestamp {name}", f'{{"amount": 20, "timestamp": {value}}}', error or BAD_TIMESTAMP)


def at(name: str, time: str, expected: Mapping[str, Any], fields: str = "") -> Case:
    """Make a ``POST /score`` whose ``timestamp`` is this string, which is valid."""
    return score(f"timestamp {name}", f'{{"amount": 20, "timestamp": "{time}"{fields}}}', 200, expected)


def ahead(**duration: float) -> str:
    """Return a time this far ahead of the clock."""
    return (datetime.now(UTC) + timedelta(**duration)).isoformat()


def content_type(name: str, value: str, status: int = 415) -> Case:
    """Make a ``POST /score`` of a valid transaction with this content type."""
    return score(name, GOOD, status, NOT_JSON if status == 415 else LOW, (("Content-Type", value),))


def key(name: str, *values: str, status: int = 400) -> Case:
    """Make a ``POST /score`` of a valid transaction with these ``Idempotency-Key`` headers."""
    expected = BAD_KEY if status == 400 else {**LOW, "decision_id": values[0]}
    return score(name, GOOD, status, expected, (*JSON, *(("Idempotency-Key", value) for value in values)))


def lookup(name: str, segment: str, status: int, error: str) -> Case:
    """Make a ``GET /transaction/{tx_id}``."""
    return Case(name, "GET", f"/transaction/{segment}", (), b"", status, error)


def no_file(segment: str, name: str | None = None) -> Case:
    """Make a ``GET /docs/{file}`` of a file that does not exist."""
    error = f"The documentation has no file {name or segment!r}"
    return Case(f"{segment} of the docs", "GET", f"/docs/{segment}", (), b"", 404, error)


def not_found(name: str, method: str, path: str, shown: str | None = None) -> Case:
    """Make a request whose path has no route."""
    return Case(name, method, path, (), b"", 404, f"No route has the path {shown or path!r}")


def wrong_method(method: str, path: str, allowed: str) -> Case:
    """Make a request whose path has a route for another method."""
    error = f"Method {method} is not allowed here; the path {path!r} takes {allowed}"
    return Case(f"{method} {path}", method, path, (), b"", 405, error)


def only_event(reason: str, case: Case, **changes: Any) -> Case:
    """Limit a case to events."""
    return replace(case, only_event=reason, event_changes=changes)


def decided(score: int, risk_level: str, *reasons: dict[str, Any]) -> dict[str, Any]:
    """Return the response to a transaction without ``tx_id`` that these rules hit."""
    labels = [reason["rule"] for reason in reasons]
    return {**LOW, "score": score, "risk_level": risk_level, "triggered_rules": labels, "reasons": [*reasons]}


def hit(rule: str, points: int, because: dict[str, Any], **level: str) -> dict[str, Any]:
    """Return a reason."""
    return {"rule": rule, "points": points, "because": because, **level}


def ignored(*names: str, more: str = "") -> dict[str, Any]:
    """Return the warnings of a response; names are quoted already."""
    return {"warnings": [f"Unknown field {name} was ignored" for name in names] + ([more] if more else [])}


def event_of(case: Case, request_id: str) -> tuple[str, dict[str, Any]]:
    """Return the function that API Gateway would invoke for a case, and the event."""
    raw_path, _, query = case.path.partition("?")
    path = unquote(raw_path)
    route, parameters = _route(case.method, path)
    headers: dict[str, str] = {}
    for name, value in case.headers:
        # API Gateway joins repeated headers.
        lower = name.lower()
        headers[lower] = f"{headers[lower]},{value}" if lower in headers else value
    event = events.load(events.MODEL) | {"routeKey": route, "rawPath": path, "rawQueryString": query}
    event["headers"] = headers
    event["requestContext"] |= {"routeKey": route, "requestId": request_id}
    event["requestContext"]["http"] |= {"method": case.method, "path": path}
    event.pop("body")
    if parameters:
        event["pathParameters"] = parameters
    if case.body:
        event |= _event_body(case.body, headers.get("content-type", ""))
    return _ROUTES[route], event | dict(case.event_changes or {})


def _event_body(body: bytes, media_type: str) -> dict[str, Any]:
    # As observed by others; AWS does not document which content types API Gateway regards as text.
    if media_type.startswith(("text/", "application/json", "application/xml", "application/javascript")):
        with suppress(UnicodeDecodeError):
            return {"body": body.decode(), "isBase64Encoded": False}
    return {"body": base64.b64encode(body).decode(), "isBase64Encoded": True}


def _route(method: str, path: str) -> tuple[str, dict[str, str]]:
    parent, _, last = path.rpartition("/")
    for route in _ROUTES:
        before, _, parameter = route.removesuffix("}").rpartition("/{")
        if parameter and last and before == f"{method} {parent}":
            return route, {parameter: last}
    route = f"{method} {path}"
    return (route if route in _ROUTES else "$default"), {}


def _of_size(size: int, character: str = "x") -> bytes:
    """Return a valid transaction of this many bytes."""
    start, end = b'{"amount": 20, "note": "', b'"}'
    count, rest = divmod(size - len(start) - len(end), len(character.encode()))
    return start + character.encode() * count + b"x" * rest + end


def _with_unknown(number: int) -> str:
    """Return a transaction with this number of unknown fields: x1, x2, ..."""
    return '{"amount": 20, ' + ", ".join(f'"x{index}": 1' for index in range(1, number + 1)) + "}"


_ROUTES = template.routes()

GOOD = '{"amount": 20}'
LOW = {"score": 0, "risk_level": "LOW", "triggered_rules": [], "tx_id": "unknown"}
FIRST_FIVE = ("'x1'", "'x2'", "'x3'", "'x4'", "'x5'")
NIGHT, EARLY = (decided(2, "MEDIUM", hit(R3, 2, {"hour": hour})) for hour in (0, 5))

EMPTY = "The body is empty; it must be a JSON document"
BAD_JSON = "The body is not valid JSON: "
BAD_NAME = BAD_JSON + "Expecting property name enclosed in double quotes (line 1 column 2)"
BAD_UTF_8 = "The body is not valid UTF-8"
BAD_BASE64 = "The body is not valid base64"
TOO_DEEP = "The body is nested too deeply"
MANY_DIGITS = BAD_JSON + "a number has too many digits"
TOO_LARGE = "The body is larger than 65536 bytes"
NOT_JSON = "Header 'Content-Type' must be application/json"
BAD_KEY = "Header 'Idempotency-Key' must have 1 to 128 visible ASCII characters, no space, no comma"
NOT_OBJECT = "The transaction must be a JSON object, not "
MISSING = "Missing required field 'amount'"
NOT_NUMBER = "Field 'amount' must be a number"
NOT_FINITE = "Field 'amount' must be a finite number"
NEGATIVE = "Field 'amount' must not be negative"
BAD_HOUR = "Field 'hour' must be an integer from 0 to 23"
BAD_LENGTH = "Field 'tx_id' must have 1 to 128 characters"
CONTROL = "Field 'tx_id' must not contain control characters"
BAD_TIMESTAMP = "Field 'timestamp' must be a time with an offset in RFC 3339, such as '2026-11-25T08:30:00+01:00'"
AHEAD = "Field 'timestamp' must not be more than a day ahead of the clock"
NOT_STRING = "Field 'tx_id' must be a string"
BAD_UNICODE = "Field 'tx_id' must be valid Unicode text"
BAD_ECHO = "The body must be a JSON object, array or string"
NOT_ENCODABLE = "The body contains a number too large, or nesting too deep, to send back"
# Python 3.13 has its own message for this error.
TRAILING_COMMA = BAD_JSON + (
    "Illegal trailing comma before end of object (line 1 column 13)"
    if sys.version_info >= (3, 13)
    else "Expecting property name enclosed in double quotes (line 1 column 14)"
)

# Makes keys unique to this run, because a service remembers those of earlier runs.
RUN = uuid.uuid4().hex
PUNCTUATION = "!\"#$%&'()*+-./:;<=>?@[\\]^_`{|}~"
CRLF = f"a\r\nSet-Cookie: {INJECTED}=1"
LOG_LINE = f'\\n{{\\"level\\":\\"INFO\\",\\"message\\":\\"{INJECTED}\\"}}'

CASES: list[Case] = [
    # Syntax
    bad("no body", "", EMPTY),
    bad("white space", " \r\n\t ", EMPTY),
    bad("plain words", "amount is 20", BAD_JSON + "Expecting value (line 1 column 1)"),
    bad("form fields", "amount=20&hour=3", BAD_JSON + "Expecting value (line 1 column 1)"),
    bad("XML", "<amount>20</amount>", BAD_JSON + "Expecting value (line 1 column 1)"),
    bad("cut off after the brace", "{", BAD_NAME),
    bad("cut off in a name", '{"amo', BAD_JSON + "Unterminated string starting at (line 1 column 2)"),
    bad("cut off after the colon", '{"amount":', BAD_JSON + "Expecting value (line 1 column 11)"),
    bad("cut off after a number", '{"amount": 20', BAD_JSON + "Expecting ',' delimiter (line 1 column 14)"),
    bad("cut off in a string", '{"store": "Kra', BAD_JSON + "Unterminated string starting at (line 1 column 11)"),
    bad("cut off in an escape", '{"store": "\\u00', BAD_JSON + "Invalid \\uXXXX escape (line 1 column 13)"),
    bad("cut off in a character", b'{"store": "Krak\xc3', BAD_UTF_8),
    bad("trailing comma", '{"amount": 2,}', TRAILING_COMMA),
    bad("two documents", '{"amount": 20}{"amount": 20}', BAD_JSON + "Extra data (line 1 column 15)"),
    bad("JSON lines", '{"amount": 20}\n{"amount": 20}\n', BAD_JSON + "Extra data (line 2 column 1)"),
    bad("single quotes", "{'amount': 20}", BAD_NAME),
    bad("a name without quotes", "{amount: 20}", BAD_NAME),
    bad("a comment", '{"amount": 20 /* euro */}', BAD_JSON + "Expecting ',' delimiter (line 1 column 15)"),
    bad("a raw newline in a string", '{"tx_id": "a\nb"}', BAD_JSON + "Invalid control character at (line 1 column 13)"),
    bad("a raw NUL in a string", '{"tx_id": "a\0b"}', BAD_JSON + "Invalid control character at (line 1 column 13)"),
    bad("an invalid escape", '{"tx_id": "\\x41"}', BAD_JSON + "Invalid \\escape (line 1 column 12)"),
    bad("no-break spaces", '{\u00a0"amount": 20}', BAD_NAME),
    bad("Python's True", '{"amount": True}', BAD_JSON + "Expecting value (line 1 column 12)"),
    bad("a leading zero", '{"amount": 020}', BAD_JSON + "Expecting ',' delimiter (line 1 column 13)"),
    bad("a leading plus", '{"amount": +20}', BAD_JSON + "Expecting value (line 1 column 12)"),
    bad("a leading point", '{"amount": .5}', BAD_JSON + "Expecting value (line 1 column 12)"),
    bad("a trailing point", '{"amount": 5.}', BAD_JSON + "Expecting ',' delimiter (line 1 column 13)"),
    bad("hexadecimal", '{"amount": 0x14}', BAD_JSON + "Expecting ',' delimiter (line 1 column 13)"),
    bad("Arabic-Indic digits", '{"amount": \u0662\u0660}', BAD_JSON + "Expecting value (line 1 column 12)"),
    bad("NaN", '{"amount": NaN}', BAD_JSON + "NaN is not a number in JSON"),
    bad("Infinity", '{"amount": Infinity}', BAD_JSON + "Infinity is not a number in JSON"),
    bad("-Infinity", '{"amount": -Infinity}', BAD_JSON + "-Infinity is not a number in JSON"),
    bad("NaN in an unknown field", '{"amount": 20, "x": [NaN]}', BAD_JSON + "NaN is not a number in JSON"),
    bad("amount twice", '{"amount": 20, "amount": 9000}', "Field 'amount' appears more than once"),
    bad("amount twice, once escaped", '{"amount": 20, "\\u0061mount": 9000}', "Field 'amount' appears more than once"),
    bad("an unknown field twice", '{"amount": 20, "x": {"y": 1, "y": 1}}', "Field 'y' appears more than once"),
    bad(
        "a repeated name with a line break",
        f'{{"\\r\\n{INJECTED}": 1, "\\r\\n{INJECTED}": 1}}',
        f"Field '\\r\\n{INJECTED}' appears more than once",
    ),
    bad("arrays in arrays, 30,000 deep", "[" * 30_000 + "]" * 30_000, TOO_DEEP),
    bad("objects in objects, 13,000 deep", '{"x":' * 13_000, TOO_DEEP),
    bad("an unknown field 30,000 deep", '{"amount": 20, "x": ' + "[" * 30_000 + "]" * 30_000 + "}", TOO_DEEP),
    score("arrays in arrays, 100,000 deep", "[" * 100_000, 413, TOO_LARGE),
    bad("amount of 5,000 digits", '{"amount": ' + "1" * 5_000 + "}", MANY_DIGITS),
    bad("hour of 5,000 digits", '{"amount": 20, "hour": -' + "1" * 5_000 + "}", MANY_DIGITS),
    bad("an unknown field of 5,000 digits", '{"amount": 20, "x": ' + "1" * 5_000 + "}", MANY_DIGITS),
    # Encodings
    bad("UTF-8 with a byte order mark", b"\xef\xbb\xbf" + GOOD.encode(), BAD_JSON + "it starts with a byte order mark"),
    bad("UTF-16", GOOD.encode("utf-16"), BAD_UTF_8),
    bad("UTF-16 without a byte order mark", GOOD.encode("utf-16-le"), BAD_NAME),
    bad("UTF-32", GOOD.encode("utf-32"), BAD_UTF_8),
    bad("Latin-1", '{"amount": 20, "store": "Kraków"}'.encode("latin-1"), BAD_UTF_8),
    bad("an overlong encoding", b'{"amount": 20, "store": "\xc0\xaf"}', BAD_UTF_8),
    bad("an encoded lone surrogate", b'{"amount": 20, "store": "\xed\xa0\x80"}', BAD_UTF_8),
    bad("a byte that is never valid in UTF-8", b'{"amount": 20, "store": "\xff"}', BAD_UTF_8),
    bad("gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00", BAD_UTF_8),
    # Documents
    bad("null", "null", NOT_OBJECT + "null"),
    bad("true", "true", NOT_OBJECT + "a boolean"),
    bad("a number", "20", NOT_OBJECT + "a number"),
    bad("a string", '"amount"', NOT_OBJECT + "a string"),
    bad("JSON in a string", '"{\\"amount\\": 20}"', NOT_OBJECT + "a string"),
    bad("an array", "[]", NOT_OBJECT + "an array"),
    bad("a transaction in an array", '[{"amount": 20}]', NOT_OBJECT + "an array"),
    bad("an empty object", "{}", MISSING),
    bad("a transaction in an object", '{"transaction": {"amount": 20}}', MISSING),
    bad("Amount", '{"Amount": 20}', MISSING),
    bad("amount and a space", '{"amount ": 20}', MISSING),
    bad("amount with a Cyrillic letter", '{"\u0430mount": 20}', MISSING),
    # amount
    bad("amount null", '{"amount": null}', NOT_NUMBER),
    bad("amount true", '{"amount": true}', NOT_NUMBER),
    bad("amount false", '{"amount": false}', NOT_NUMBER),
    bad("amount in quotes", '{"amount": "20"}', NOT_NUMBER),
    bad("amount an empty string", '{"amount": ""}', NOT_NUMBER),
    bad("amount NaN in quotes", '{"amount": "NaN"}', NOT_NUMBER),
    bad("amount an array", '{"amount": [20]}', NOT_NUMBER),
    bad("amount an object", '{"amount": {"value": 20, "currency": "EUR"}}', NOT_NUMBER),
    bad("amount 1e400", '{"amount": 1e400}', NOT_FINITE),
    bad("amount -1e400", '{"amount": -1e400}', NOT_FINITE),
    bad("amount of 400 digits", '{"amount": ' + "1" * 400 + "}", NOT_FINITE),
    bad("amount -1", '{"amount": -1}', NEGATIVE),
    bad("amount just below 0", '{"amount": -5e-324}', NEGATIVE),
    score("amount -0.0", '{"amount": -0.0}', 200, LOW),
    score("amount 0", '{"amount": 0}', 200, LOW),
    score("amount 1e-400, which is 0", '{"amount": 1e-400}', 200, LOW),
    score("amount 1e308", '{"amount": 1e308}', 200, decided(3, "HIGH", hit(R1, 3, {"amount": 1e308}))),
    score(
        "amount of 300 digits",
        '{"amount": ' + "1" * 300 + "}",
        200,
        decided(3, "HIGH", hit(R1, 3, {"amount": int("1" * 300)})),
    ),
    # hour
    bad("hour null", '{"amount": 20, "hour": null}', BAD_HOUR),
    bad("hour true", '{"amount": 20, "hour": true}', BAD_HOUR),
    bad("hour in quotes", '{"amount": 20, "hour": "3"}', BAD_HOUR),
    bad("hour 3.0", '{"amount": 20, "hour": 3.0}', BAD_HOUR),
    bad("hour 3e0", '{"amount": 20, "hour": 3e0}', BAD_HOUR),
    bad("hour -1", '{"amount": 20, "hour": -1}', BAD_HOUR),
    bad("hour 24", '{"amount": 20, "hour": 24}', BAD_HOUR),
    bad("hour 1e400", '{"amount": 20, "hour": 1e400}', BAD_HOUR),
    bad("hour an array", '{"amount": 20, "hour": []}', BAD_HOUR),
    bad("hour an object", '{"amount": 20, "hour": {}}', BAD_HOUR),
    score("hour -0", '{"amount": 20, "hour": -0}', 200, NIGHT),
    # category, store, tx_id
    bad("category null", '{"amount": 20, "category": null}', "Field 'category' must be a string"),
    bad("category a number", '{"amount": 20, "category": 7}', "Field 'category' must be a string"),
    bad("category an array", '{"amount": 20, "category": ["electronics"]}', "Field 'category' must be a string"),
    bad("category an object", '{"amount": 20, "category": {}}', "Field 'category' must be a string"),
    bad(
        "category with a lone surrogate",
        '{"amount": 20, "category": "\\ud83c"}',
        "Field 'category' must be valid Unicode text",
    ),
    bad("store true", '{"amount": 20, "store": true}', "Field 'store' must be a string"),
    bad("store an array", '{"amount": 20, "store": []}', "Field 'store' must be a string"),
    bad(
        "store with a reversed surrogate pair",
        '{"amount": 20, "store": "\\udca1\\ud83c"}',
        "Field 'store' must be valid Unicode text",
    ),
    bad("tx_id null", '{"amount": 20, "tx_id": null}', NOT_STRING),
    bad("tx_id a number", '{"amount": 20, "tx_id": 42}', NOT_STRING),
    bad("tx_id true", '{"amount": 20, "tx_id": true}', NOT_STRING),
    bad("tx_id an array", '{"amount": 20, "tx_id": ["TX1"]}', NOT_STRING),
    bad("tx_id an object", '{"amount": 20, "tx_id": {"S": "TX1"}}', NOT_STRING),
    bad("tx_id empty", '{"amount": 20, "tx_id": ""}', BAD_LENGTH),
    bad("tx_id of 129 characters", '{"amount": 20, "tx_id": "' + "x" * 129 + '"}', BAD_LENGTH),
    bad("tx_id of 60,000 characters", '{"amount": 20, "tx_id": "' + "x" * 60_000 + '"}', BAD_LENGTH),
    bad("tx_id with a NUL", '{"amount": 20, "tx_id": "a\\u0000"}', CONTROL),
    bad("tx_id with a DEL", '{"amount": 20, "tx_id": "a\\u007f"}', CONTROL),
    bad("tx_id with a C1 control character", '{"amount": 20, "tx_id": "\\u0085"}', CONTROL),
    bad("tx_id with a header", f'{{"amount": 20, "tx_id": "a\\r\\nSet-Cookie: {INJECTED}=1"}}', CONTROL),
    bad("tx_id with a log line", f'{{"amount": 20, "tx_id": "a{LOG_LINE}"}}', CONTROL),
    bad("tx_id with a terminal's colours", f'{{"amount": 20, "tx_id": "\\u001b[31m{INJECTED}"}}', CONTROL),
    bad("tx_id with a lone surrogate", '{"amount": 20, "tx_id": "\\ud83c"}', BAD_UNICODE),
    score("tx_id of 128 characters", '{"amount": 20, "tx_id": "' + "🂡" * 128 + '"}', 200, {**LOW, "tx_id": "🂡" * 128}),
    score(
        "tx_id with an escaped surrogate pair", '{"amount": 20, "tx_id": "\\ud83c\\udca1"}', 200, {**LOW, "tx_id": "🂡"}
    ),
    score("tx_id a path", '{"amount": 20, "tx_id": "../stats"}', 200, {**LOW, "tx_id": "../stats"}),
    score("store with a log line", f'{{"amount": 20, "store": "a{LOG_LINE}"}}', 200, LOW),
    score("category with a header", f'{{"amount": 20, "category": "\\r\\nSet-Cookie: {INJECTED}=1"}}', 200, LOW),
    score("store with a NUL", '{"amount": 20, "store": "a\\u0000"}', 200, LOW),
    # customer_id
    customer("null", "null", "must be a string"),
    customer("a number", "42", "must be a string"),
    customer("true", "true", "must be a string"),
    customer("an array", '["C1"]', "must be a string"),
    customer("an object", '{"S": "C1"}', "must be a string"),
    customer("empty", '""', "must have 1 to 128 characters"),
    customer("of 129 characters", f'"{"x" * 129}"', "must have 1 to 128 characters"),
    customer("of 60,000 characters", f'"{"x" * 60_000}"', "must have 1 to 128 characters"),
    customer("with a NUL", '"a\\u0000"', "must not contain control characters"),
    customer("with a DEL", '"a\\u007f"', "must not contain control characters"),
    customer("with a C1 control character", '"\\u0085"', "must not contain control characters"),
    customer("with a line break", '"C1\\n"', "must not contain control characters"),
    customer("with a header", f'"a\\r\\nSet-Cookie: {INJECTED}=1"', "must not contain control characters"),
    customer("with a log line", f'"a{LOG_LINE}"', "must not contain control characters"),
    customer("with a lone surrogate", '"\\ud83c"', "must be valid Unicode text"),
    customer("with a reversed surrogate pair", '"\\udca1\\ud83c"', "must be valid Unicode text"),
    known_customer("of 128 characters", "🂡" * 128),
    known_customer("a space", " "),
    known_customer("with the separator of a key", "customer_id#x"),
    known_customer("with quotes", f'it\'s {INJECTED} \\"{INJECTED}\\"'),
    score("Customer_id", '{"amount": 20, "Customer_id": 1}', 200, {**LOW, **ignored("'Customer_id'")}),
    # timestamp
    no_time("null", "null"),
    no_time("seconds since 1970", "1764055800"),
    no_time("true", "true"),
    no_time("an array", '["2020-11-25T08:30:00Z"]'),
    no_time("an object", "{}"),
    no_time("empty", '""'),
    no_time("now", '"now"'),
    no_time("seconds in quotes", '"1764055800"'),
    no_time("a date only", '"2020-11-25"'),
    no_time("a time only", '"08:30:00Z"'),
    no_time("without an offset", '"2020-11-25T08:30:00"'),
    no_time("without seconds", '"2020-11-25T08:30Z"'),
    no_time("with a space for the T", '"2020-11-25 08:30:00Z"'),
    no_time("with an offset without a colon", '"2020-11-25T08:30:00+0100"'),
    no_time("with an offset of 24 hours", '"2020-11-25T08:30:00+24:00"'),
    no_time("with the name of a time zone", '"2020-11-25T08:30:00[Europe/Warsaw]"'),
    no_time("at hour 24", '"2020-11-25T24:00:00Z"'),
    no_time("at minute 60", '"2020-11-25T08:60:00Z"'),
    no_time("with a leap second", '"2016-12-31T23:59:60Z"'),
    no_time("on 30 February", '"2020-02-30T08:30:00Z"'),
    no_time("in month 13", '"2020-13-01T08:30:00Z"'),
    no_time("in the year 0", '"0000-01-01T00:00:00Z"'),
    no_time("in the year 10000", '"10000-01-01T00:00:00Z"'),
    no_time("in a week", '"2020-W48-3T08:30:00Z"'),
    no_time("with a decimal comma", '"2020-11-25T08:30:00,5Z"'),
    no_time("with Arabic-Indic digits", '"\u0662\u0660\u0662\u0660-11-25T08:30:00Z"'),
    no_time("with a minus sign for the hyphen", '"2020-11-25T08:30:00\u221201:00"'),
    no_time("and a space", '"2020-11-25T08:30:00Z "'),
    no_time("and a line break", '"2020-11-25T08:30:00Z\\n"'),
    no_time("with a NUL", '"2020-11-25T08:30:00Z\\u0000"'),
    no_time("with a header", f'"2020-11-25T08:30:00Z\\r\\nSet-Cookie: {INJECTED}=1"'),
    no_time("with a lone surrogate", '"2020-11-25T08:30:00Z\\ud83c"'),
    no_time("of 60,000 characters", f'"{"2" * 60_000}"'),
    no_time("25 hours ahead", f'"{ahead(hours=25)}"', AHEAD),
    no_time("in the year 9999", '"9999-12-31T23:59:59.999999-23:59"', AHEAD),
    no_time("in the year 9999 with an hour", '"9999-12-31T23:59:59Z", "hour": 12', AHEAD),
    at("23 hours ahead", ahead(hours=23), LOW, ', "hour": 12'),
    at("in the year 1", "0001-01-01T12:00:00+23:59", LOW),
    at("in the year 1 of a customer", "0001-01-01T12:00:00+23:59", LOW, ', "customer_id": "year 1"'),
    at("at night at its own offset", "2020-11-25T05:59:59+14:00", EARLY),
    at("at night in UTC only", "2020-11-25T06:00:00+06:00", LOW),
    at("in lower case", "2020-11-25t00:30:00z", NIGHT),
    at("with 5,000 digits of a second", f"2020-11-25T00:30:00.{'5' * 5_000}Z", NIGHT),
    at("without a known offset", "2020-11-25T00:30:00-00:00", NIGHT),
    at("at night and an hour of the day", "2020-11-25T00:30:00Z", LOW, ', "hour": 12'),
    at("at noon and an hour of the night", "2020-11-25T12:30:00Z", EARLY, ', "hour": 5'),
    bad(
        "timestamp valid and hour invalid", '{"amount": 20, "timestamp": "2020-11-25T00:30:00Z", "hour": 24}', BAD_HOUR
    ),
    # Unknown fields
    score(
        "unknown fields",
        f'{{"amount": 20, "card": "{INJECTED}", "": null, "x": [{{}}]}}',
        200,
        {**LOW, **ignored("'card'", "''", "'x'")},
    ),
    score(
        "an unknown field with a lone surrogate",
        '{"amount": 20, "x": "\\ud83c", "\\udca1": 1}',
        200,
        {**LOW, **ignored("'x'", "'\\udca1'")},
    ),
    score("an unknown field 1e400", '{"amount": 20, "x": 1e400}', 200, {**LOW, **ignored("'x'")}),
    score(
        "fields of the response",
        '{"amount": 20, "score": 9, "risk_level": "CRITICAL", "recorded": false}',
        200,
        {**LOW, **ignored("'score'", "'risk_level'", "'recorded'")},
    ),
    score(
        "names that are special in other languages",
        '{"amount": 20, "__proto__": {}, "__class__": 1}',
        200,
        {**LOW, **ignored("'__proto__'", "'__class__'")},
    ),
    score("a misspelt field", '{"amount": 2000, "categroy": "electronics"}', 200, {**LOW, **ignored("'categroy'")}),
    score(
        "fields in capitals",
        '{"amount": 2000, "Category": "electronics", "HOUR": 3}',
        200,
        {**LOW, **ignored("'Category'", "'HOUR'")},
    ),
    score("a field and a space", '{"amount": 20, "hour ": 3}', 200, {**LOW, **ignored("'hour '")}),
    score(
        "a field and a zero-width space", '{"amount": 20, "hour\u200b": 3}', 200, {**LOW, **ignored(r"'hour\u200b'")}
    ),
    score("a field with a Cyrillic letter", '{"amount": 20, "h\u043eur": 3}', 200, {**LOW, **ignored("'h\u043eur'")}),
    score(
        "unknown fields among others",
        '{"z": 1, "amount": 20, "b": {"z": 2}, "tx_id": "TX-warned", "a": null}',
        200,
        {**LOW, "tx_id": "TX-warned", **ignored("'z'", "'b'", "'a'")},
    ),
    score("5 unknown fields", _with_unknown(5), 200, {**LOW, **ignored(*FIRST_FIVE)}),
    score(
        "6 unknown fields",
        _with_unknown(6),
        200,
        {**LOW, **ignored(*FIRST_FIVE, more="1 more unknown field was ignored")},
    ),
    score(
        "7 unknown fields",
        _with_unknown(7),
        200,
        {**LOW, **ignored(*FIRST_FIVE, more="2 more unknown fields were ignored")},
    ),
    score(
        "5,000 unknown fields",
        _with_unknown(5_000),
        200,
        {**LOW, **ignored(*FIRST_FIVE, more="4995 more unknown fields were ignored")},
    ),
    score(
        "an unknown field of 64 characters",
        f'{{"amount": 20, "{"x" * 64}": 1}}',
        200,
        {**LOW, **ignored(f"'{'x' * 64}'")},
    ),
    score(
        "two unknown fields that differ after 64 characters",
        f'{{"amount": 20, "{"🂡" * 64}a": 1, "{"🂡" * 64}b": 1}}',
        200,
        {**LOW, **ignored(f"'{'🂡' * 64}'", f"'{'🂡' * 64}'")},
    ),
    score(
        "an unknown field of 60,000 characters",
        f'{{"amount": 20, "{"x" * 60_000}": 1}}',
        200,
        {**LOW, **ignored(f"'{'x' * 64}'")},
    ),
    score(
        "unknown fields with quotes",
        """{"amount": 20, "it's": 1, "\\"": 1, "'\\"": 1}""",
        200,
        {**LOW, **ignored('"it\'s"', "'\"'", "'\\'\"'")},
    ),
    score(
        "unknown fields with control characters",
        f'{{"amount": 20, "\\r\\nSet-Cookie: {INJECTED}=1": 1, "\\u0000\\u001b\\u0085": 1}}',
        200,
        {**LOW, **ignored(f"'\\r\\nSet-Cookie: {INJECTED}=1'", r"'\x00\x1b\x85'")},
    ),
    score(
        "an unknown field with a log line",
        f'{{"amount": 20, "{LOG_LINE}": 1}}',
        200,
        {**LOW, **ignored(f"""'\\n{{"level":"INFO","message":"{INJECTED}"}}'""")},
    ),
    score(
        "MEDIUM with a warning",
        '{"amount": 20, "hour": 0, "x": 1}',
        200,
        {**NIGHT, **ignored("'x'")},
    ),
    score(
        "HIGH with a warning",
        '{"x": 1, "amount": 3001}',
        200,
        {**decided(3, "HIGH", hit(R1, 3, {"amount": 3001})), **ignored("'x'")},
    ),
    score(
        "CRITICAL with a warning",
        '{"amount": 4500.0, "x": 1, "category": "electronics", "hour": 3}',
        200,
        {
            **decided(
                7,
                "CRITICAL",
                hit(R1, 3, {"amount": 4500.0}),
                hit(R2, 2, {"category": "electronics", "amount": 4500.0}),
                hit(R3, 2, {"hour": 3}),
            ),
            **ignored("'x'"),
        },
    ),
    bad("a misspelt amount", '{"amuont": 20}', MISSING),
    bad("an unknown field and an invalid one", '{"x": 1, "amount": 20, "hour": 24}', BAD_HOUR),
    # Sizes
    score("64 KiB", _of_size(65_536), 200, {**LOW, **ignored("'note'")}),
    score("64 KiB and a byte", _of_size(65_537), 413, TOO_LARGE),
    score("64 KiB and a byte of multi-byte characters", _of_size(65_537, "€"), 413, TOO_LARGE),
    score("64 KiB and a byte of invalid UTF-8", b"\xff" * 65_537, 413, TOO_LARGE),
    score("6 MB", _of_size(6_000_000), 413, TOO_LARGE),
    score("6 MB of white space", " " * 6_000_000, 413, TOO_LARGE),
    score("4 MB of invalid UTF-8", b"\xff" * 4_000_000, 413, TOO_LARGE),
    # Content types
    score("no content type", GOOD, 415, NOT_JSON, ()),
    content_type("an empty content type", ""),
    content_type("plain text", "text/plain"),
    content_type("a form", "application/x-www-form-urlencoded"),
    content_type("multipart", "multipart/form-data; boundary=x"),
    content_type("text/json", "text/json"),
    content_type("json alone", "json"),
    content_type("more than JSON", "application/jsonlines"),
    content_type("two types in one header", "application/json, text/plain"),
    content_type("a type in quotes", '"application/json"'),
    content_type("a parameter alone", "; charset=utf-8"),
    content_type("4,000 characters of type", "application/" + "x" * 4_000),
    content_type("a type beyond ASCII", "application/jsön"),
    score("the type twice", GOOD, 415, NOT_JSON, (*JSON, ("Content-Type", "text/plain"))),
    only_event(
        "a line break would end an HTTP header",
        content_type("a header in the type", f"application/json\r\nX: {INJECTED}"),
    ),
    content_type("with a character set", "application/json; charset=utf-8", 200),
    content_type("with a wrong character set", "application/json; charset=utf-16", 200),
    content_type("in capitals", "APPLICATION/JSON", 200),
    content_type("+json", "application/problem+json", 200),
    # Idempotency keys
    key("an empty key", ""),
    key("a space in the key", "a b"),
    key("a comma in the key", "a,b"),
    key("a tab in the key", "a\tb"),
    key("a DEL in the key", "a\x7fb"),
    only_event("HTTP servers refuse a NUL in a header", key("a NUL in the key", "a\0b")),
    key("a key beyond ASCII", "clé"),
    key("a key of 129 characters", "x" * 129),
    key("a key of 8,000 characters", "x" * 8_000),
    key("two keys", "a", "b"),
    key("the same key twice", "a", "a"),
    only_event("a line break would end an HTTP header", key("a header in the key", CRLF)),
    only_event(
        "a line break would end an HTTP header", key("a log line in the key", f'a\n{{"message": "{INJECTED}"}}')
    ),
    only_event("HTTP cannot express it", key("a lone surrogate in the key", "\ud83c")),
    replace(key("a key on two lines", f"a\r\n\t{INJECTED}"), only_http="an event has no lines to fold"),
    key("a key of 128 characters", RUN.ljust(128, "x"), status=200),
    key("a key of punctuation", RUN + PUNCTUATION, status=200),
    score("the key header in capitals", GOOD, 200, {**LOW, "decision_id": RUN}, (*JSON, ("IDEMPOTENCY-KEY", RUN))),
    # Other headers
    only_event("HTTP has no null", score("headers null", GOOD, 415, NOT_JSON, ()), headers=None),
    score("a header sent 50 times", GOOD, 200, LOW, (*JSON, *[("X-Forwarded-For", "203.0.113.7")] * 50)),
    score("a header of 8,000 characters", GOOD, 200, LOW, (*JSON, ("X-Long", INJECTED * 1_000))),
    score(
        "headers that override method or URL",
        GOOD,
        200,
        LOW,
        (*JSON, ("X-HTTP-Method-Override", "DELETE"), ("X-Original-URL", "/stats"), ("X-Forwarded-Host", INJECTED)),
    ),
    score("an unsatisfiable Accept", GOOD, 200, LOW, (*JSON, ("Accept", "image/png"))),
    score("a header beyond ASCII", GOOD, 200, LOW, (*JSON, ("User-Agent", "\xff\xfe"))),
    # Bodies of events
    only_event("HTTP has no null", bad("body null", "", EMPTY), body=None),
    only_event("API Gateway encodes it", bad("invalid base64", "", BAD_BASE64), body="%%%", isBase64Encoded=True),
    only_event("API Gateway encodes it", bad("truncated base64", "", BAD_BASE64), body="eyJ", isBase64Encoded=True),
    only_event("API Gateway encodes it", bad("base64 beyond ASCII", "", BAD_BASE64), body="ä", isBase64Encoded=True),
    only_event("API Gateway encodes it", bad("base64 of nothing", "", EMPTY), body="", isBase64Encoded=True),
    only_event(
        "HTTP bodies are bytes",
        bad("a raw lone surrogate in the body", "", BAD_UNICODE),
        body='{"amount": 20, "tx_id": "\ud83c"}',
    ),
    # Lookups
    lookup("a transaction that was never scored", f"TX-{RUN}", 404, f"No decision is stored for tx_id 'TX-{RUN}'"),
    lookup("128 characters", "x" * 128, 404, f"No decision is stored for tx_id '{'x' * 128}'"),
    lookup("129 characters", "x" * 129, 400, BAD_LENGTH),
    lookup("2,000 characters", "x" * 2_000, 400, BAD_LENGTH),
    lookup("a NUL, encoded", "TX%00", 400, CONTROL),
    lookup("a line break, encoded", f"TX%0d%0aSet-Cookie:%20{INJECTED}=1", 400, CONTROL),
    lookup("a DEL, encoded", "%7f", 400, CONTROL),
    lookup("a C1 control character, encoded", "%C2%85", 400, CONTROL),
    lookup("a dot", ".", 404, "No decision is stored for tx_id '.'"),
    lookup("two dots", "..", 404, "No decision is stored for tx_id '..'"),
    lookup("two dots, encoded", "%2e%2e", 404, "No decision is stored for tx_id '..'"),
    lookup("encoded twice", "%252e%252e%252fstats", 404, "No decision is stored for tx_id '%2e%2e%2fstats'"),
    lookup("a percent sign alone", "%", 404, "No decision is stored for tx_id '%'"),
    lookup("an invalid percent escape", "%ZZ", 404, "No decision is stored for tx_id '%ZZ'"),
    lookup("invalid UTF-8, encoded", "%ff", 404, "No decision is stored for tx_id '\ufffd'"),
    lookup("a lone surrogate, encoded", "%ED%A0%80", 404, "No decision is stored for tx_id '\ufffd\ufffd\ufffd'"),
    lookup("a character beyond ASCII", "%E2%82%AC", 404, "No decision is stored for tx_id '€'"),
    lookup("a quote", "%27", 404, 'No decision is stored for tx_id "\'"'),
    lookup("a plus and a space", "a+b%20c", 404, "No decision is stored for tx_id 'a+b c'"),
    lookup("a query", "TX?tx_id=TX003", 404, "No decision is stored for tx_id 'TX'"),
    lookup("a question mark, encoded", "%3FTX", 404, "No decision is stored for tx_id '?TX'"),
    only_event(
        "HTTP servers refuse raw bytes in a path", lookup("raw bytes, read as Latin-1", "\xe2\x82\xac", 400, CONTROL)
    ),
    only_event(
        "a matching route always has the parameter", lookup("no parameters", "TX", 400, NOT_STRING), pathParameters=None
    ),
    only_event(
        "HTTP cannot express it", lookup("a lone surrogate", "TX", 400, BAD_UNICODE), pathParameters={"tx_id": "\ud83c"}
    ),
    only_event(
        "the path does not show whether API Gateway decodes it before splitting",
        lookup("a decoded slash", "TX", 404, "No decision is stored for tx_id 'a/b'"),
        pathParameters={"tx_id": "a/b"},
    ),
    # Paths
    not_found("an unknown path", "GET", "/no-such-path"),
    not_found("capitals in the path", "POST", "/SCORE"),
    not_found("a trailing slash", "POST", "/score/"),
    not_found("a trailing slash, encoded", "POST", "/score%2f", "/score/"),
    not_found("a trailing slash after health", "GET", "/health/"),
    not_found("a trailing slash after a transaction", "GET", "/transaction/TX003/"),
    not_found("no transaction", "GET", "/transaction"),
    not_found("no transaction but a trailing slash", "GET", "/transaction/"),
    not_found("a slash in a transaction", "GET", "/transaction/a/b"),
    not_found("a slash in a transaction, encoded", "GET", "/transaction/a%2Fb", "/transaction/a/b"),
    not_found("the parent directory", "GET", "/transaction/../stats"),
    not_found("the parent directory, encoded", "GET", "/transaction/%2e%2e%2fstats", "/transaction/../stats"),
    not_found("a system file", "GET", "/../../../../etc/passwd"),
    not_found("the current directory", "GET", "/./stats"),
    not_found("two slashes inside", "GET", "/transaction//TX003"),
    not_found("a path parameter", "POST", "/score;version=2"),
    not_found("a NUL in the path", "GET", "/stats%00", "/stats\0"),
    not_found("a header in the path", "GET", f"/x%0d%0aSet-Cookie:%20{INJECTED}=1", f"/x\r\nSet-Cookie: {INJECTED}=1"),
    not_found("a backslash", "GET", "/transaction%5C..%5Cstats", "/transaction\\..\\stats"),
    not_found("5,000 characters", "GET", "/" + "x" * 5_000, "/" + "x" * 127),
    not_found("a trailing slash after docs", "GET", "/docs/"),
    not_found("a folder in docs", "GET", "/docs/swagger-ui/LICENSE"),
    not_found("the parent directory of docs, encoded", "GET", "/docs/%2e%2e%2fapp.py", "/docs/../app.py"),
    not_found("HEAD of an unknown path", "HEAD", "/no-such-path"),
    not_found("the template of a route", "GET", "/%7Bproxy+%7D", "/{proxy+}"),
    # Methods
    *(
        wrong_method(method, "/score", "POST")
        for method in ("GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE", "BREW")
    ),
    wrong_method("HEAD", "/health", "GET"),
    wrong_method("OPTIONS", "/stats", "GET"),
    wrong_method("HEAD", "/transaction/TX003", "GET"),
    wrong_method("DELETE", "/transaction/TX003", "GET"),
    wrong_method("POST", "/stats", "GET"),
    wrong_method("POST", "/", "GET"),
    wrong_method("HEAD", "/docs", "GET"),
    wrong_method("OPTIONS", "/openapi.json", "GET"),
    wrong_method("PUT", "/docs/style.css", "GET"),
    replace(
        wrong_method("OPTIONS", "/transaction/TX003", "GET"),
        name="a CORS preflight",
        headers=(("Origin", f"https://{INJECTED}.example"), ("Access-Control-Request-Method", "GET")),
    ),
    replace(wrong_method("GET", "/echo", "POST"), name="a wrong method with a query", path=f"/echo?x={INJECTED}"),
    # Practice endpoints
    Case("echo of an empty body", "POST", "/echo", JSON, b"", 400, EMPTY),
    Case("echo of a number", "POST", "/echo", JSON, b"5", 400, BAD_ECHO),
    Case("echo of null", "POST", "/echo", JSON, b"null", 400, BAD_ECHO),
    Case("echo of 1e400", "POST", "/echo", JSON, b"[1e400]", 400, NOT_ENCODABLE),
    Case("echo of NaN", "POST", "/echo", JSON, b"[NaN]", 400, BAD_JSON + "NaN is not a number in JSON"),
    Case(
        "echo of a repeated name", "POST", "/echo", JSON, b'{"x": 1, "x": 2}', 400, "Field 'x' appears more than once"
    ),
    Case("echo 30,000 deep", "POST", "/echo", JSON, b"[" * 30_000 + b"]" * 30_000, 400, TOO_DEEP),
    Case("echo of 64 KiB and a byte", "POST", "/echo", JSON, _of_size(65_537), 413, TOO_LARGE),
    Case("echo of a form", "POST", "/echo", (), b"x=1", 415, NOT_JSON),
    Case(
        "echo of a lone surrogate", "POST", "/echo", JSON, b'"\\ud83c"', 200, {"received": "\ud83c", "field_count": 1}
    ),
    Case("hello to markup", "GET", "/hello?name=%3Cscript%3E", (), b"", 200, "Hello, <script>!"),
    Case("hello to a header", "GET", f"/hello?name=%0d%0aX:{INJECTED}", (), b"", 200, f"Hello, \r\nX:{INJECTED}!"),
    Case("hello to invalid UTF-8", "GET", "/hello?name=%ff", (), b"", 200, "Hello, \ufffd!"),
    Case("stats with a body", "GET", "/stats", JSON, b"{", 200, {}),
    Case("health with a query", "GET", f"/health?{INJECTED}&&=%00%ff", (), b"", 200, {"status": "ok"}),
    # Documentation
    no_file("app.py"),
    no_file("openapi.json"),
    no_file("index.html"),
    no_file("LICENSE"),
    no_file("swagger-ui"),
    no_file("swagger-ui.css.gz"),
    no_file("STYLE.CSS", "STYLE.CSS"),
    no_file(".."),
    no_file("%2e%2e", ".."),
    no_file("..%5Capp.py", "..\\app.py"),
    no_file("style.css%00", "style.css\0"),
    no_file(f"%0d%0aX:{INJECTED}", f"\r\nX:{INJECTED}"),
    no_file("x" * 5_000, "x" * 128),
    Case("openapi with a query", "GET", f"/openapi.json?{INJECTED}", (), b"", 200, {"openapi": "3.1.0"}),
]
