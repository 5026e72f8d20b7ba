"""Requests to the routes of lists and customers with their responses, as events and over HTTP."""

from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from tests import events
from tests.corpus import INJECTED

JSON = "application/json"

BAD_NAME = "Field 'name' must have 1 to 40 lower-case letters, digits and underscores, and begin with a letter"
BAD_LENGTH = "Field 'entry' must have 1 to 256 characters"
CONTROL = "Field 'entry' must not contain control characters"
REASON_LENGTH = "Field 'reason' must have 1 to 500 characters"
NOT_TIME = "Field 'expires_at' must be a time with an offset in RFC 3339, such as '2026-11-25T08:30:00+01:00'"
PAST = "Field 'expires_at' must be in the future"
BAD_LIMIT = "Field 'limit' must be an integer from 1 to 1000"
BAD_JSON = "The body is not valid JSON: "
NOT_JSON = "Header 'Content-Type' must be application/json"
BAD_CUSTOMER = "Field 'customer_id' must have 1 to 128 characters"


@dataclass(frozen=True)
class ListCase:
    """A request and the error that it gets, or, with status 200, a part of the response.

    Attributes
    ----------
    path
        As in the request line.
    only_event
        Reason if the request cannot be sent over HTTP; ``path`` is then decoded.
    """

    name: str
    method: str
    path: str
    body: str | bytes
    status: int
    expected: Any
    content_type: str = JSON
    only_event: str = ""

    def event(self) -> tuple[str, dict[str, Any]]:
        """Return the function that API Gateway would invoke, and the event."""
        raw_path, _, query = self.path.partition("?")
        path = raw_path if self.only_event else unquote(raw_path)
        _, kind, *rest = path.split("/", 3)
        if kind == "customer":
            function, sample = "CustomerFunction", "customer-delete"
            parameters = {"customer_id": "/".join(rest)}
        else:
            function = "ListsFunction"
            sample = {"GET": "lists-page", "PUT": "lists-put", "DELETE": "lists-delete"}[self.method]
            parameters = dict(zip(("name", "entry"), rest, strict=False))
        event = events.load(sample)
        event.pop("body", None)
        event |= {
            "rawPath": path,
            "rawQueryString": query,
            # API Gateway decodes every escape except this one.
            "pathParameters": {name: value.replace("%", "%25") for name, value in parameters.items()},
        }
        event["headers"] = {"content-type": self.content_type} if self.content_type else {}
        if self.body:
            event |= events.with_body(self.body)
        return function, event

    def check(self, status: int, body: Any) -> None:
        """Compare a response with the expected one."""
        assert status == self.status, body
        if status == HTTPStatus.OK:
            assert body.items() >= self.expected.items()
        else:
            assert body == {"error": self.expected}


def put(name: str, body: str | bytes, error: str, content_type: str = JSON, status: int = 400) -> ListCase:
    """Make a ``PUT`` of a valid entry with an invalid body."""
    return ListCase(name, "PUT", "/lists/corpus/C-1", body, status, error, content_type)


def accepted(name: str, body: str, expected: dict[str, Any], content_type: str = JSON) -> ListCase:
    """Make a ``PUT`` of a valid entry with a valid body."""
    return ListCase(name, "PUT", "/lists/corpus/C-1", body, 200, {"entry": "C-1", **expected}, content_type)


def named(name: str, segment: str) -> ListCase:
    """Make a ``PUT`` to a list with an invalid name."""
    return ListCase(name, "PUT", f"/lists/{segment}/C-1", "", 400, BAD_NAME)


def entry(name: str, escaped: str, expected: str, status: int = 200, method: str = "PUT") -> ListCase:
    """Make a request about an entry, given in the path; ``expected`` is the entry or the error."""
    response = {"entry": expected} if status == 200 else expected
    return ListCase(name, method, f"/lists/corpus/{escaped}", "", status, response)


def page(name: str, query: str, error: str) -> ListCase:
    """Make a ``GET`` of a list with an invalid query."""
    return ListCase(name, "GET", f"/lists/corpus?{query}", "", 400, error)


def forget(name: str, escaped: str, expected: str, status: int = 200) -> ListCase:
    """Make a ``DELETE`` of a customer; ``expected`` is the id or the error."""
    response = {"customer_id": expected} if status == 200 else expected
    return ListCase(name, "DELETE", f"/customer/{escaped}", "", status, response)


def only_event(reason: str, case: ListCase) -> ListCase:
    """Limit a case to events; its path is decoded."""
    return replace(case, only_event=reason)


NOT_IN_URLS = "escapes in a URL cannot encode it"
NO_ROUTE = "no route matches over HTTP"

CASES = [
    # Names
    named("a name with capitals", "Blocked"),
    named("a name with a hyphen", "blocked-customers"),
    named("a name that begins with a digit", "1st"),
    named("a name that begins with an underscore", "_blocked"),
    named("a name of 41 characters", "x" * 41),
    named("a name with a space", "a%20b"),
    named("a name with a line break", "a%0A"),
    named("a name with an umlaut", "sch%C3%BCtze"),
    named("a name with Arabic-Indic digits", "a%D9%A1"),
    named("a name that is an escape", "%2561"),
    ListCase("a name with a point in a page", "GET", "/lists/a.csv", "", 400, BAD_NAME),
    ListCase("a name with capitals in a deletion", "DELETE", "/lists/Blocked/x", "", 400, BAD_NAME),
    # Entries
    entry("an entry of 256 characters", "x" * 256, "x" * 256),
    entry("an entry of 257 characters", "x" * 257, BAD_LENGTH, 400),
    entry("an entry of 256 playing cards", "%F0%9F%82%A1" * 256, "🂡" * 256),
    entry("a deletion of 257 characters", "x" * 257, BAD_LENGTH, 400, "DELETE"),
    entry("an entry with a NUL", "a%00", CONTROL, 400),
    entry("an entry with a line break", f"a%0D%0ASet-Cookie:%20{INJECTED}=1", CONTROL, 400),
    entry("an entry with a DEL", "a%7F", CONTROL, 400),
    entry("an entry with a C1 control character", "a%C2%85", CONTROL, 400),
    entry("a deletion with a tab", "a%09", CONTROL, 400, "DELETE"),
    only_event(
        NOT_IN_URLS, entry("an entry with a lone surrogate", "\ud83c", "Field 'entry' must be valid Unicode text", 400)
    ),
    only_event(NO_ROUTE, entry("an empty entry", "", BAD_LENGTH, 400)),
    entry("an entry with a slash", "DE/4711", "DE/4711"),
    entry("an entry with an escaped slash", "DE%2F4711", "DE/4711"),
    entry("an entry with two slashes", "a//b", "a//b"),
    entry("an entry with a slash at the end", "a/", "a/"),
    entry("an entry with a percent sign", "50%25off", "50%off"),
    entry("an entry that is an escape", "a%2541", "a%41"),
    entry("an entry with an escaped question mark", "a%3Fb=1", "a?b=1"),
    entry("an entry with a plus sign", "a+b%2Bc", "a+b+c"),
    entry("an entry with spaces", "%20a%20b%20", " a b "),
    entry(
        "an entry with punctuation", "!$&'()*,;=:@%22%23%3C%3E%5B%5C%5D%5E%60%7B%7C%7D~", "!$&'()*,;=:@\"#<>[\\]^`{|}~"
    ),
    entry("an entry in Polish", "Krak%C3%B3w", "Kraków"),
    entry("an entry with capitals of a list that no rule uses", "ABC", "ABC"),
    entry("a deletion of an unknown entry", "never-added", "never-added", method="DELETE"),
    entry("an entry with a question mark", "a?b", "Unknown query parameter 'b'", 400),
    entry("a deletion with a query", "a?reason=x", "Unknown query parameter 'reason'", 400, "DELETE"),
    entry("a presigned request", "a?X-Amz-Signature=1&X-Amz-Date=2", "a"),
    # Bodies
    accepted("no body", "", {}),
    accepted("no body and no content type", "", {}, ""),
    accepted("no body and another content type", "", {}, "text/plain"),
    accepted("an empty object", "{}", {}),
    accepted("a reason of 500 characters", f'{{"reason": "{"x" * 500}"}}', {"reason": "x" * 500}),
    accepted("a reason in Japanese", '{"reason": "不正利用"}', {"reason": "不正利用"}),
    accepted("an offset", '{"expires_at": "2126-01-01T01:30:00.9+01:30"}', {"expires_at": "2126-01-01T00:00:00Z"}),
    accepted("JSON with a suffix", "{}", {}, "application/vnd.api+json"),
    put("white space", " ", "The body is empty; it must be a JSON document"),
    put("plain words", "chargeback", BAD_JSON + "Expecting value (line 1 column 1)"),
    put("UTF-16", '{"reason": "x"}'.encode("utf-16"), "The body is not valid UTF-8"),
    put("NaN", '{"reason": NaN}', BAD_JSON + "NaN is not a number in JSON"),
    put("an array", "[]", "The body must be a JSON object, not an array"),
    put("null", "null", "The body must be a JSON object, not null"),
    put("a string", '"chargeback"', "The body must be a JSON object, not a string"),
    put("a misspelt field", '{"resaon": "x"}', "Unknown field 'resaon'"),
    put("the entry", '{"entry": "C-2"}', "Unknown field 'entry'"),
    put("a very long field", '{"' + "x" * 300 + '": 1}', f"Unknown field '{'x' * 64}'"),
    put("reason twice", '{"reason": "a", "reason": "b"}', "Field 'reason' appears more than once"),
    put("reason null", '{"reason": null}', "Field 'reason' must be a string"),
    put("reason a number", '{"reason": 5}', "Field 'reason' must be a string"),
    put("reason an array", '{"reason": ["x"]}', "Field 'reason' must be a string"),
    put("reason empty", '{"reason": ""}', REASON_LENGTH),
    put("reason of 501 characters", f'{{"reason": "{"x" * 501}"}}', REASON_LENGTH),
    put("reason with a line break", '{"reason": "a\\nb"}', "Field 'reason' must not contain control characters"),
    put("reason with a lone surrogate", '{"reason": "\\ud83c"}', "Field 'reason' must be valid Unicode text"),
    put("expires_at null", '{"expires_at": null}', NOT_TIME),
    put("expires_at a number", '{"expires_at": 1795166400}', NOT_TIME),
    put("expires_at empty", '{"expires_at": ""}', NOT_TIME),
    put("expires_at a date", '{"expires_at": "2126-01-01"}', NOT_TIME),
    put("expires_at without an offset", '{"expires_at": "2126-01-01T00:00:00"}', NOT_TIME),
    put("expires_at in February 30", '{"expires_at": "2126-02-30T00:00:00Z"}', NOT_TIME),
    put("expires_at in the past", '{"expires_at": "2026-01-01T00:00:00Z"}', PAST),
    put("expires_at in 1969", '{"expires_at": "1969-01-01T00:00:00Z"}', PAST),
    put("expires_at in the year 1", '{"expires_at": "0001-01-01T00:00:00Z"}', PAST),
    put(
        "expires_at before the year 1",
        '{"expires_at": "0001-01-01T00:00:00+01:00"}',
        "Field 'expires_at' must be a time from the year 1 to 9999 in UTC",
    ),
    put(
        "expires_at after the year 9999",
        '{"expires_at": "9999-12-31T23:59:59-01:00"}',
        "Field 'expires_at' must be a time from the year 1 to 9999 in UTC",
    ),
    put("a body without a content type", '{"reason": "x"}', NOT_JSON, "", 415),
    put("a form", "reason=x", NOT_JSON, "application/x-www-form-urlencoded", 415),
    put("text", '{"reason": "x"}', NOT_JSON, "text/plain", 415),
    put("a body of 70,000 bytes", f'{{"reason": "{"x" * 70_000}"}}', "The body is larger than 65536 bytes", status=413),
    # Pages
    page("limit 0", "limit=0", BAD_LIMIT),
    page("limit 1001", "limit=1001", BAD_LIMIT),
    page("limit -1", "limit=-1", BAD_LIMIT),
    page("limit 1.0", "limit=1.0", BAD_LIMIT),
    page("limit empty", "limit=", BAD_LIMIT),
    page("limit all", "limit=all", BAD_LIMIT),
    page("limit with a space", "limit=+5", BAD_LIMIT),
    page("limit of 400 digits", "limit=" + "1" * 400, BAD_LIMIT),
    page("limit in Arabic-Indic digits", "limit=%D9%A1", BAD_LIMIT),
    page("limit twice", "limit=5&limit=6", "Field 'limit' appears more than once"),
    page("after empty", "after=", "Field 'after' must have 1 to 256 characters"),
    page("after of 257 characters", "after=" + "x" * 257, "Field 'after' must have 1 to 256 characters"),
    page("after with a NUL", "after=%00", "Field 'after' must not contain control characters"),
    page("after twice", "after=a&after=b", "Field 'after' appears more than once"),
    page("a misspelt parameter", "limt=5", "Unknown query parameter 'limt'"),
    page("a parameter without a value", "x", "Unknown query parameter 'x'"),
    ListCase("an unknown list", "GET", "/lists/never_used?limit=1000&after=%F0%9F%82%A1", "", 200, {"entries": []}),
    # Customers
    forget("an unknown customer", "never-seen", "never-seen"),
    forget("a customer with a slash", "DE/4711", "DE/4711"),
    forget("a customer with a percent sign", "50%25", "50%"),
    forget("a customer of 128 characters", "x" * 128, "x" * 128),
    forget("a customer of 129 characters", "x" * 129, BAD_CUSTOMER, 400),
    forget("a customer with a line break", "a%0Ab", "Field 'customer_id' must not contain control characters", 400),
    forget("a customer with a query", "a?b", "Unknown query parameter 'b'", 400),
    only_event(NO_ROUTE, forget("an empty customer", "", BAD_CUSTOMER, 400)),
]
