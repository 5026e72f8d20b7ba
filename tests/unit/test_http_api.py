"""Events and responses: content types, sizes, encodings, idempotency keys, errors."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from scoring import errors, http_api
from scoring.errors import InvalidRequest, PayloadTooLarge, UnsupportedMediaType
from tests import events


@pytest.mark.parametrize("body", ['{"amount": 1}', b'{"amount": 1}', ' \n{"amount": 1}\t'])
def test_json_body(body: str | bytes) -> None:
    assert http_api.json_body(events.post(body)) == {"amount": 1}


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON; charset=utf-8", " application/problem+json "]
)
def test_json_content_type(content_type: str) -> None:
    assert http_api.json_body(events.post("[]", content_type=content_type)) == []


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/x-www-form-urlencoded", "json", "x, y", "\x00", "+json", "image/svg+json"],
)
def test_other_content_type_is_rejected(content_type: str) -> None:
    with pytest.raises(UnsupportedMediaType, match="Header 'Content-Type' must be application/json"):
        http_api.json_body(events.post("[]", content_type=content_type))


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (None, "The body is empty"),
        ("", "The body is empty"),
        (b"", "The body is empty"),
        (" \n", "The body is empty"),
        (b"\xff\xfe{", "The body is not valid UTF-8"),
        ('{"amount": 1}'.encode("utf-16"), "The body is not valid UTF-8"),
    ],
)
def test_empty_or_undecodable_body(body: str | bytes | None, error: str) -> None:
    with pytest.raises(InvalidRequest, match=error):
        http_api.json_body(events.post(body))


@pytest.mark.parametrize("body", ["%%%", "abc", "ä"])
def test_invalid_base64(body: str) -> None:
    with pytest.raises(InvalidRequest, match="The body is not valid base64"):
        http_api.json_body(events.post(None) | {"body": body, "isBase64Encoded": True})


@pytest.mark.parametrize("character", ["x", "ä", "€"])
@pytest.mark.parametrize("as_bytes", [False, True])
def test_maximum_body_size(character: str, *, as_bytes: bool) -> None:
    def body(size: int) -> Any:
        filler = size - len('""')
        width = len(character.encode())
        text = '"' + character * (filler // width) + "x" * (filler % width) + '"'
        assert len(text.encode()) == size
        return text.encode() if as_bytes else text

    assert http_api.json_body(events.post(body(65_536)))
    with pytest.raises(PayloadTooLarge, match="The body is larger than 65536 bytes"):
        http_api.json_body(events.post(body(65_537)))


def test_header() -> None:
    assert http_api.header({"headers": {"Idempotency-Key": "k"}}, "idempotency-key") == "k"
    assert http_api.header({"headers": None}, "idempotency-key") is None
    assert http_api.header({}, "idempotency-key") is None


@pytest.mark.parametrize("key", ["k", "order-17/attempt=1", "x" * 128])
def test_idempotency_key_is_the_decision_id(key: str, context: SimpleNamespace) -> None:
    assert http_api.decision_id(events.post("{}", idempotency_key=key), context) == key


@pytest.mark.parametrize("key", [" ", "a b", "k1,k2", "x" * 129, "a\nb", "ключ", "\x7f"])
def test_invalid_idempotency_key(key: str, context: SimpleNamespace) -> None:
    with pytest.raises(InvalidRequest, match="Header 'Idempotency-Key' must have 1 to 128 visible ASCII characters"):
        http_api.decision_id(events.post("{}", idempotency_key=key), context)


def test_empty_idempotency_key(context: SimpleNamespace) -> None:
    event = events.post("{}")
    event["headers"]["idempotency-key"] = ""
    with pytest.raises(InvalidRequest, match="Header 'Idempotency-Key'"):
        http_api.decision_id(event, context)


def test_request_id_is_the_decision_id(context: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    event = events.post("{}", request_id="JKJaXmPLvHcESHA=")
    assert http_api.decision_id(event, context) == "JKJaXmPLvHcESHA="
    # `sam local start-api` repeats one request id; the ids of its invocations differ.
    monkeypatch.setattr("scoring.settings.SAM_LOCAL", True)
    assert http_api.decision_id(event, context) == context.aws_request_id


ERRORS: list[errors.HttpError] = [
    errors.InvalidRequest("x"),
    errors.NotFound("x"),
    errors.MethodNotAllowed("x", "POST"),
    errors.PayloadTooLarge("x"),
    errors.UnsupportedMediaType("x"),
    errors.IdempotencyConflict("x"),
    errors.StoreUnavailable(),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_error_becomes_a_response_with_its_status(error: errors.HttpError) -> None:
    @http_api.endpoint
    def handler(event: http_api.Event, context: Any) -> http_api.Response:
        raise error

    response = handler({}, None)
    assert (response["statusCode"], json.loads(response["body"])) == (error.status, {"error": str(error)})
    assert response["headers"].items() >= error.headers.items()
    assert response["headers"]["Content-Type"] == "application/json"


def test_responses_are_neither_cached_nor_sniffed() -> None:
    for response in (http_api.json_response({}), http_api.text_response("")):
        assert response["headers"]["Cache-Control"] == "no-store"
        assert response["headers"]["X-Content-Type-Options"] == "nosniff"


def test_bug_propagates() -> None:
    @http_api.endpoint
    def handler(event: http_api.Event, context: Any) -> http_api.Response:
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        handler({}, None)
