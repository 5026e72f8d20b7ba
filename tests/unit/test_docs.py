"""The documentation page: security headers, no remote or inline content, caching and compression of its files."""

import base64
import gzip
import hashlib
import json
from html.parser import HTMLParser
from typing import Any

import jsonschema_rs
import pytest

from functions.docs import app
from scoring import contract, scorers
from scoring.errors import RuleSetError
from scoring.fields import BUILT_IN
from scoring.scorers import rules_loader
from scoring.scorers.rules import RuleSet
from tests import events
from tests.generated import OPENAPI_FILE
from tests.rule_set import DOCUMENT

# The limit of Lambda.
MAX_RESPONSE_BYTES = 6_000_000
RELATIVE_URLS = ("docs/", "openapi.json", "data:")


def get(name: str, query: str = "", **headers: str) -> dict[str, Any]:
    """Return the response to ``GET /docs/{file}``; ``_`` in a header name is sent as ``-``."""
    event = events.load("docs-file")
    event["pathParameters"] = {"file": name}
    event["rawQueryString"] = query
    event["headers"] = {header.replace("_", "-"): value for header, value in headers.items()}
    response = app.lambda_handler(event, None)
    assert len(json.dumps(response)) < MAX_RESPONSE_BYTES
    return response


def source(name: str) -> bytes:
    """Return the content of a file of the page."""
    own = app.FOLDER / name
    return own.read_bytes() if own.exists() else gzip.decompress((app.FOLDER / f"swagger-ui/{name}.gz").read_bytes())


class Page(HTMLParser):
    """The tags of a page with their attributes, and the text in each tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.tags[-1][0], data.strip()))

    @property
    def urls(self) -> list[str]:
        """Values of ``src``, ``href`` and the like."""
        attributes = [attribute for _, tag in self.tags for attribute in tag.items()]
        return [value or "" for name, value in attributes if name.endswith(("src", "href"))]


@pytest.fixture(scope="module")
def response() -> dict[str, Any]:
    return app.lambda_handler(events.load("docs"), None)


@pytest.fixture(scope="module")
def page(response: dict[str, Any]) -> Page:
    return Page(response["body"])


def test_page_allows_content_from_its_own_origin_only(response: dict[str, Any]) -> None:
    headers = response["headers"]
    policy = dict(directive.strip().split(" ", 1) for directive in headers["Content-Security-Policy"].split(";"))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert (headers["Referrer-Policy"], headers["X-Content-Type-Options"]) == ("no-referrer", "nosniff")
    assert headers["Cache-Control"] == "no-store"


def test_page_has_no_remote_or_inline_content(page: Page) -> None:
    assert len(page.urls) == 6
    # Without scheme, host and leading slash, so that the page works under any prefix.
    assert not [url for url in page.urls if not url.startswith(RELATIVE_URLS)]
    assert not [text for tag, text in page.texts if tag in {"script", "style"}]
    assert not [tag for tag, attributes in page.tags if any(name.startswith(("on", "style")) for name in attributes)]


@pytest.mark.parametrize("name", ["index.html", "style.css", "initializer.js"])
def test_own_files_contain_no_url(name: str) -> None:
    assert b"//" not in source(name).replace(b"\n// ", b"").replace(b"  // ", b"").removeprefix(b"// ")


def test_versioned_files_are_cached(page: Page) -> None:
    files = [url.removeprefix("docs/").split("?") for url in page.urls if url.startswith("docs/")]
    assert sorted(name for name, _ in files) == sorted(app.ASSETS)
    for name, query in files:
        headers = get(name, query)["headers"]
        assert headers["Cache-Control"] == "private, max-age=31536000, immutable"


@pytest.mark.parametrize("query", ["", "v=", "v=0123456789abcdef", "v", "{}&v=1", "x{}", "{}0"])
def test_file_of_another_version_is_not_cached(query: str) -> None:
    """During a deployment, the new page may request a file from the old function."""
    response = get("initializer.js", query.format(f"v={app.ASSETS['initializer.js'].version}"))
    assert (response["statusCode"], response["headers"]["Cache-Control"]) == (200, "no-store")


def test_version_is_the_hash_of_the_content() -> None:
    for asset in app.ASSETS.values():
        assert hashlib.sha256(asset.compressed).hexdigest().startswith(asset.version)
        assert len(asset.version) == 16
    assert len({asset.version for asset in app.ASSETS.values()}) == len(app.ASSETS)


@pytest.mark.parametrize("name", list(app.ASSETS))
def test_file_is_served_plain_and_compressed(name: str) -> None:
    plain, compressed = get(name), get(name, accept_encoding="gzip, deflate, br")
    assert plain["body"].encode() == source(name)
    assert "Content-Encoding" not in plain["headers"]
    assert not plain["isBase64Encoded"]
    assert gzip.decompress(base64.b64decode(compressed["body"], validate=True)) == source(name)
    assert compressed["isBase64Encoded"] is True
    assert compressed["headers"] == plain["headers"] | {"Content-Encoding": "gzip"}
    assert plain["headers"]["Vary"] == "Accept-Encoding"
    assert plain["headers"]["X-Content-Type-Options"] == "nosniff"
    kind = "css" if name.endswith(".css") else "javascript"
    assert plain["headers"]["Content-Type"] == f"text/{kind}; charset=utf-8"


@pytest.mark.parametrize(
    ("accepted", "is_compressed"),
    [
        ("gzip", True),
        ("GZIP", True),
        ("br, gzip", True),
        ("deflate,gzip;q=0.5 , br", True),
        ("gzip; q=1.0", True),
        ("gzip;q=0.001", True),
        ("gzip;q=0", False),
        ("br, gzip; q=0.0, deflate", False),
        ("identity", False),
        ("x-gzip", False),
        ("gzipped", False),
        ("br;q=0, *;q=0", False),
        ("", False),
    ],
)
def test_gzip_is_negotiated(accepted: str, is_compressed: bool) -> None:  # noqa: FBT001
    assert get("style.css", accept_encoding=accepted)["isBase64Encoded"] is is_compressed


def served_document(monkeypatch: pytest.MonkeyPatch, document: dict[str, Any] = DOCUMENT) -> dict[str, Any]:
    """Return the OpenAPI document that is served with a rule set."""
    monkeypatch.setattr(scorers, "load_rules", lambda: rules_loader.from_document(document))
    response = app.lambda_handler(events.load("openapi"), None)
    assert response["headers"]["Cache-Control"] == "no-store"
    served: dict[str, Any] = json.loads(response["body"])
    return served


def test_openapi_document_is_served_unchanged_without_own_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    assert served_document(monkeypatch) == json.loads(OPENAPI_FILE.read_text(encoding="utf-8"))


def test_openapi_document_has_the_fields_of_the_rule_set(monkeypatch: pytest.MonkeyPatch) -> None:
    own = {
        "country": {
            "type": "string",
            "max_length": 2,
            "case": "ignore",
            "one_of": ["PL", "DE"],
            "description": "Of it.",
        },
        "currency": {"type": "string", "one_of": ["PLN", "EUR"], "required": True},
        "items": {"type": "integer", "minimum": 1},
        "card_present": {"type": "boolean"},
        "at": {"type": "time", "required": True},
        "amount": {"maximum": 5000},
        "hour": {"minimum": 6},
    }
    rules = {**DOCUMENT, "fields": own, "defaults": {"items": 1, "card_present": True}, "unknown_fields": "refuse"}
    served = served_document(monkeypatch, rules)
    transaction = served["components"]["schemas"]["Transaction"]
    assert transaction["required"] == ["amount", "currency", "at"]
    assert transaction["additionalProperties"] is False
    properties = transaction["properties"]
    assert list(properties)[len(BUILT_IN) :] == ["country", "currency", "items", "card_present", "at"]
    assert properties["country"] == {
        "type": "string",
        "maxLength": 2,
        "description": "Of it. One of PL, DE, in any case.",
    }
    assert properties["currency"] == {"type": "string", "enum": ["PLN", "EUR"]}
    assert properties["items"] == {"type": "integer", "format": "int64", "minimum": 1, "default": 1}
    assert properties["card_present"] == {"type": "boolean", "default": True}
    assert properties["at"] == {"type": "string", "format": "date-time"}
    assert (properties["amount"]["maximum"], properties["amount"]["examples"]) == (5000, [4500.0])
    assert (properties["hour"]["minimum"], "default" in properties["hour"]) == (6, False)
    examples = served["paths"]["/score"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    required = {"currency": "PLN", "at": "2026-11-25T08:30:00+01:00"}
    # The first example has an hour that this rule set refuses.
    assert examples.keys() == {"low", "minimal"}
    assert examples["minimal"]["value"] == {"amount": 20, **required}
    schema = jsonschema_rs.Draft202012Validator(transaction, validate_formats=True)
    assert all(schema.is_valid(example["value"]) for example in examples.values())


@pytest.mark.parametrize("unknown_fields", ["warn", "refuse"])
def test_openapi_document_has_the_fields_of_the_rule_set_in_batches(
    monkeypatch: pytest.MonkeyPatch, unknown_fields: str
) -> None:
    own = {"currency": {"type": "string", "required": True}, "amount": {"maximum": 3000}}
    served = served_document(monkeypatch, {**DOCUMENT, "fields": own, "unknown_fields": unknown_fields})
    content = served["paths"]["/score/batch"]["post"]["requestBody"]["content"]
    (array,), (lines,) = (
        [example["value"] for example in content[name]["examples"].values()]
        for name in ("application/json", "application/x-ndjson")
    )
    # The other item of the example has an amount that this rule set refuses.
    assert [(item["tx_id"], item["currency"]) for item in array] == [("TX001", "string")]
    assert [json.loads(line) for line in lines.splitlines()] == array
    schema = {"$ref": "#/components/schemas/BatchItem", "components": served["components"]}
    item = jsonschema_rs.Draft202012Validator(schema)
    assert item.is_valid({**array[0], "idempotency_key": "order-18"})
    assert not item.is_valid({**array[0], "idempotency_key": "order 18"})
    assert not item.is_valid({"amount": 1, "idempotency_key": "order-18"})
    assert not item.is_valid({**array[0], "amount": 3001})
    assert item.is_valid({**array[0], "x": 1}) == (unknown_fields == "warn")


def test_openapi_document_without_valid_examples_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    served = served_document(monkeypatch, {**DOCUMENT, "fields": {"amount": {"minimum": 10_000}}})
    bodies = [served["paths"][path]["post"]["requestBody"]["content"] for path in ("/score", "/score/batch")]
    assert [name for body in bodies for name in body] == [
        "application/json",
        "application/json",
        "application/x-ndjson",
    ]
    assert not [name for body in bodies for name, content in body.items() if "examples" in content]


def test_openapi_document_has_no_examples_that_the_rule_set_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"category": {"one_of": ["food"]}, "hour": {"minimum": 6}, "amount": {"maximum": 5000}}
    served = served_document(monkeypatch, {**DOCUMENT, "fields": own})
    properties = served["components"]["schemas"]["Transaction"]["properties"]
    assert {name for name, schema in properties.items() if "examples" in schema} == {
        *("tx_id", "amount", "store", "customer_id", "timestamp")
    }


def test_openapi_document_ends_a_description_before_the_values(monkeypatch: pytest.MonkeyPatch) -> None:
    country = {"type": "string", "case": "ignore", "one_of": ["PL", "DE"], "description": "Country of the issuer"}
    served = served_document(monkeypatch, {**DOCUMENT, "fields": {"country": country}})
    schema = served["components"]["schemas"]["Transaction"]["properties"]["country"]
    assert schema["description"] == "Country of the issuer. One of PL, DE, in any case."


def test_openapi_document_is_served_with_a_broken_rule_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_rules() -> RuleSet:
        raise RuleSetError

    monkeypatch.setattr(scorers, "load_rules", load_rules)
    response = app.lambda_handler(events.load("openapi"), None)
    assert response["body"].encode() == OPENAPI_FILE.read_bytes()


def test_openapi_document_lists_the_files() -> None:
    file, _ = json.loads(contract.DOCUMENT)["paths"]["/docs/{file}"]["get"]["parameters"]
    assert sorted(file["schema"]["enum"]) == sorted(app.ASSETS)
