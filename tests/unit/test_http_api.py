"""Events in, responses out: content types, sizes, encodings, keys, and errors as answers."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from scoring import errors, http_api, telemetry
from scoring.errors import InvalidRequest, PayloadTooLarge, ScoringError, UnsupportedMediaType
from tests import events


@pytest.mark.parametrize("body", ['{"amount": 1}', b'{"amount": 1}', ' \n{"amount": 1}\t'])
def test_a_body_as_text_and_in_base64(body: str | bytes) -> None:
    assert http_api.json_body(events.post(body)) == {"amount": 1}


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON; charset=utf-8", " application/problem+json "]
)
def test_content_types_that_are_json(content_type: str) -> None:
    assert http_api.json_body(events.post("[]", content_type=content_type)) == []


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/x-www-form-urlencoded", "json", "x, y", "\x00", "+json", "image/svg+json"],
)
def test_content_types_that_are_not(content_type: str) -> None:
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
def test_bodies_that_are_not_json(body: str | bytes | None, error: str) -> None:
    with pytest.raises(InvalidRequest, match=error):
        http_api.json_body(events.post(body))


@pytest.mark.parametrize("body", ["%%%", "abc", "ä"])
def test_bad_base64(body: str) -> None:
    with pytest.raises(InvalidRequest, match="The body is not valid base64"):
        http_api.json_body(events.post(None) | {"body": body, "isBase64Encoded": True})


@pytest.mark.parametrize("character", ["x", "ä", "€"])
@pytest.mark.parametrize("as_bytes", [False, True])
def test_64_kib_pass_and_a_byte_more_does_not(character: str, *, as_bytes: bool) -> None:
    def body(size: int) -> Any:
        filler = size - len('""')
        width = len(character.encode())
        text = '"' + character * (filler // width) + "x" * (filler % width) + '"'
        assert len(text.encode()) == size
        return text.encode() if as_bytes else text

    assert http_api.json_body(events.post(body(65_536)))
    with pytest.raises(PayloadTooLarge, match="The body is larger than 65536 bytes"):
        http_api.json_body(events.post(body(65_537)))


def test_headers_in_any_case_and_none_at_all() -> None:
    assert http_api.header({"headers": {"Idempotency-Key": "k"}}, "idempotency-key") == "k"
    assert http_api.header({"headers": None}, "idempotency-key") is None
    assert http_api.header({}, "idempotency-key") is None


@pytest.mark.parametrize("key", ["k", "order-17/attempt=1", "x" * 128])
def test_the_key_of_the_caller_is_the_decision_id(key: str, context: SimpleNamespace) -> None:
    assert http_api.decision_id(events.post("{}", idempotency_key=key), context) == key


@pytest.mark.parametrize("key", [" ", "a b", "k1,k2", "x" * 129, "a\nb", "ключ", "\x7f"])
def test_keys_that_are_refused(key: str, context: SimpleNamespace) -> None:
    with pytest.raises(InvalidRequest, match="Header 'Idempotency-Key' must have 1 to 128 visible ASCII characters"):
        http_api.decision_id(events.post("{}", idempotency_key=key), context)


def test_an_empty_key_is_refused(context: SimpleNamespace) -> None:
    event = events.post("{}")
    event["headers"]["idempotency-key"] = ""
    with pytest.raises(InvalidRequest, match="Header 'Idempotency-Key'"):
        http_api.decision_id(event, context)


def test_without_a_key_the_request_id_is_the_decision_id(
    context: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = events.post("{}", request_id="JKJaXmPLvHcESHA=")
    assert http_api.decision_id(event, context) == "JKJaXmPLvHcESHA="
    # `sam local start-api` repeats one request id for the life of the server; its invocations have ids of their own.
    monkeypatch.setattr("scoring.settings.SAM_LOCAL", True)
    assert http_api.decision_id(event, context) == context.aws_request_id


EXAMPLES: list[errors.HttpError] = [
    errors.InvalidRequest("x"),
    errors.NotFound("x"),
    errors.MethodNotAllowed("x", "POST"),
    errors.PayloadTooLarge("x"),
    errors.UnsupportedMediaType("x"),
    errors.IdempotencyConflict("x"),
    errors.StoreUnavailable(),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_is_answered_with_its_own_status(error: errors.HttpError) -> None:
    @http_api.endpoint
    def handler(event: http_api.Event, context: Any) -> http_api.Response:
        raise error

    response = handler({}, None)
    assert (response["statusCode"], json.loads(response["body"])) == (error.status, {"error": str(error)})
    assert response["headers"].items() >= error.headers.items()
    assert response["headers"]["Content-Type"] == "application/json"


def test_headers_of_errors() -> None:
    assert errors.MethodNotAllowed("x", "POST").headers == {"Allow": "POST"}
    assert errors.StoreUnavailable().headers == {"Retry-After": "1"}


def test_a_503_names_the_emulator_only_under_sam_local(monkeypatch: pytest.MonkeyPatch) -> None:
    deployed = "The store cannot be reached at the moment, please send the request again"
    assert str(telemetry.unavailable("store", "ConnectionRefusedError")) == deployed
    monkeypatch.setattr("scoring.settings.SAM_LOCAL", True)
    local = "The store cannot be reached; start the emulator with 'make emulator' and send the request again"
    assert str(telemetry.unavailable("store", "ConnectionRefusedError")) == local


def test_an_answer_is_neither_cached_nor_sniffed() -> None:
    for response in (http_api.json_response({}), http_api.text_response("")):
        assert response["headers"]["Cache-Control"] == "no-store"
        assert response["headers"]["X-Content-Type-Options"] == "nosniff"


def test_a_fault_of_the_code_leaves_the_handler() -> None:
    @http_api.endpoint
    def handler(event: http_api.Event, context: Any) -> http_api.Response:
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        handler({}, None)


def test_the_tree_in_the_docstring_of_errors_is_the_hierarchy() -> None:
    def tree(cls: type[ScoringError], depth: int = 0) -> list[tuple[int, str, str]]:
        line = (depth, cls.__name__, str(getattr(cls, "status", "")))
        return [line, *(each for child in cls.__subclasses__() for each in tree(child, depth + 1))]

    drawn = []
    for text in (errors.__doc__ or "").splitlines():
        name = text.lstrip("│├└─ ")
        if name.split() and name.split()[0].isidentifier() and hasattr(errors, name.split()[0]):
            status = next((word for word in name.split() if word.isdigit()), "")
            drawn.append(((len(text) - len(name)) // 4 - 1, name.split()[0], status))
    assert drawn == tree(ScoringError)
