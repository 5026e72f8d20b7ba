"""The page of the documentation: nothing from elsewhere, nothing inline, files as they stand and kept while they do."""

import base64
import gzip
import json
from html.parser import HTMLParser
from typing import Any

import pytest

from functions.docs import app
from scoring import contract
from tests import events
from tests.generated import OPENAPI_FILE

# Of API Gateway and Lambda, for an answer.
MAX_ANSWER_BYTES = 6_000_000
LOCAL = ("docs/", "openapi.json", "data:")


def get(name: str, query: str = "", **headers: str) -> dict[str, Any]:
    """The answer to ``GET /docs/{file}``; ``headers`` have ``_`` for ``-``."""
    event = events.load("docs-file")
    event["pathParameters"] = {"file": name}
    event["rawQueryString"] = query
    event["headers"] = {header.replace("_", "-"): value for header, value in headers.items()}
    response = app.lambda_handler(event, None)
    assert len(json.dumps(response)) < MAX_ANSWER_BYTES
    return response


def source(name: str) -> bytes:
    """A file of the page as it stands in the folder."""
    own = app.FOLDER / name
    return own.read_bytes() if own.exists() else gzip.decompress((app.FOLDER / f"swagger-ui/{name}.gz").read_bytes())


class Page(HTMLParser):
    """What a page has by tag, and what stands between tags."""

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
    def addresses(self) -> list[str]:
        """All that the page refers to."""
        return [value or "" for _, attributes in self.tags for name, value in attributes.items() if name[-3:] in _LINKS]


_LINKS = {"src", "ref"}


@pytest.fixture(scope="module")
def response() -> dict[str, Any]:
    return app.lambda_handler(events.load("docs"), None)


@pytest.fixture(scope="module")
def page(response: dict[str, Any]) -> Page:
    return Page(response["body"])


def test_the_page_allows_nothing_but_what_comes_from_here(response: dict[str, Any]) -> None:
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


def test_the_page_refers_to_nothing_remote_and_has_nothing_inline(page: Page) -> None:
    assert len(page.addresses) == 6
    # No scheme, no host, no leading slash: under any prefix the files are beside the page.
    assert not [address for address in page.addresses if not address.startswith(LOCAL)]
    assert not [text for tag, text in page.texts if tag in {"script", "style"}]
    assert not [tag for tag, attributes in page.tags if any(name.startswith(("on", "style")) for name in attributes)]


@pytest.mark.parametrize("name", ["index.html", "style.css", "initializer.js"])
def test_our_own_files_name_no_host(name: str) -> None:
    assert b"//" not in source(name).replace(b"\n// ", b"").replace(b"  // ", b"").removeprefix(b"// ")


def test_the_page_names_every_file_and_each_may_be_kept(page: Page) -> None:
    named = [address.removeprefix("docs/").split("?") for address in page.addresses if address.startswith("docs/")]
    assert sorted(name for name, _ in named) == sorted(app.ASSETS)
    for name, version in named:
        headers = get(name, version)["headers"]
        assert headers["Cache-Control"] == "private, max-age=31536000, immutable"


@pytest.mark.parametrize("query", ["", "v=", "v=0123456789abcdef", "v", "{}&v=1", "x{}", "{}0"])
def test_a_file_under_any_other_version_is_not_kept(query: str) -> None:
    """While a new version is deployed, its page may ask the old one for a file."""
    response = get("initializer.js", query.format(f"v={app.ASSETS['initializer.js'].version}"))
    assert (response["statusCode"], response["headers"]["Cache-Control"]) == (200, "no-store")


def test_the_version_is_that_of_the_content() -> None:
    assert app._asset("", b"a").version != app._asset("", b"b").version
    assert len({asset.version for asset in app.ASSETS.values()}) == len(app.ASSETS)


@pytest.mark.parametrize("name", list(app.ASSETS))
def test_a_file_arrives_as_it_stands_compressed_and_plain(name: str) -> None:
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
def test_only_whoever_takes_gzip_gets_it(accepted: str, is_compressed: bool) -> None:  # noqa: FBT001
    assert get("style.css", accept_encoding=accepted)["isBase64Encoded"] is is_compressed


def test_the_document_is_the_file_as_it_stands() -> None:
    response = app.lambda_handler(events.load("openapi"), None)
    assert response["body"].encode() == OPENAPI_FILE.read_bytes()
    assert response["headers"]["Cache-Control"] == "no-store"


def test_the_document_names_the_files() -> None:
    file, _ = json.loads(contract.DOCUMENT)["paths"]["/docs/{file}"]["get"]["parameters"]
    assert sorted(file["schema"]["enum"]) == sorted(app.ASSETS)
