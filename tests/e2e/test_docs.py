"""The documentation page in headless Chromium."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Error,
    FloatRect,
    Locator,
    Page,
    Request,
    Response,
    Route,
    expect,
)
from playwright.sync_api import sync_playwright as playwright

from tests.rule_set import DOCUMENT, R1, R2, R3
from tests.service import LocalStack, checkout, started

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TIMEOUT_MS = 10_000
DESKTOP, LAPTOP, PHONE = (1280, 900), (1280, 720), (390, 844)
# Runs before the page's own scripts; the content security policy does not apply to it.
REPORT_VIOLATIONS = """
    addEventListener("securitypolicyviolation",
                     event => console.error("violates", event.violatedDirective, event.blockedURI, event.sample));
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """The local stack with the tests' rule set, whose responses the page is laid out for."""
    folder = tmp_path_factory.mktemp("stack")
    with started(folder / "stack.log", checkout(folder / "checkout", DOCUMENT)) as stack:
        yield stack


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed; on Debian: apt-get install chromium")
    with playwright() as library, library.chromium.launch(executable_path=CHROMIUM) as browser:
        yield browser


@dataclass
class Visit:
    """An open page, the hosts it called and its errors."""

    page: Page
    hosts: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.add_init_script(REPORT_VIOLATIONS)
        self.page.on("console", self._console)
        self.page.on("pageerror", self._error)
        self.page.on("request", self._request)
        self.page.on("requestfailed", self._failed)
        self.page.on("response", self._response)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning", "assert"}:
            self.errors.append(f"console: {message.text}")

    def _error(self, error: Error) -> None:
        self.errors.append(f"error: {error}")

    def _request(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme != "data":
            self.hosts.add(f"{address.scheme}://{address.netloc}")

    def _failed(self, request: Request) -> None:
        self.errors.append(f"failed: {request.url}")

    def _response(self, response: Response) -> None:
        if response.status >= 400:
            self.errors.append(f"{response.status}: {response.url}")

    def operation(self, title: str) -> Locator:
        """Return the block of an operation, such as ``POST /score``."""
        method, _, path = title.partition(" ")
        return self.page.locator(f".opblock-{method.lower()}", has=self.page.locator(f"[data-path='{path}']"))

    def box(self, locator: Locator) -> FloatRect:
        """Return the box of an element, in pixels from the top left corner of the page."""
        expect(locator).to_be_visible()
        box = locator.bounding_box()
        assert box
        scrolled = self.page.evaluate("scrollY")
        return {**box, "y": box["y"] + scrolled}

    def boxes_of_score(self) -> list[FloatRect]:
        """Return the boxes of the transaction, the button and the response of an executed ``POST /score``."""
        score = self.operation("POST /score")
        return [
            self.box(score.locator("textarea")),
            self.box(score.get_by_role("button", name="Execute")),
            self.box(score.locator(".live-responses-table .highlight-code").first),
        ]

    def execute(self, title: str) -> tuple[str, str]:
        """Execute an operation; return the status and the body that the page shows."""
        operation = self.operation(title)
        # A page that is still rendering may lose the click.
        self.page.wait_for_load_state("networkidle")
        with self.page.expect_response(lambda response: "/docs" not in response.url) as caught:
            operation.get_by_role("button", name="Execute").click()
        shown = operation.locator(".live-responses-table .response")
        # The previous response may still be shown.
        expect(shown.locator(".response-col_status")).to_have_text(
            re.compile(rf"^{caught.value.status}"), timeout=TIMEOUT_MS
        )
        body = shown.locator(".highlight-code code").first
        expect(body).not_to_be_empty()
        return shown.locator(".response-col_status").inner_text().split()[0], body.inner_text()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    with browser.new_page(viewport={"width": DESKTOP[0], "height": DESKTOP[1]}) as page:
        page.set_default_timeout(TIMEOUT_MS)
        yield Visit(page)


def test_execute_scores_the_example(visit: Visit, service: LocalStack, tmp_path: Path) -> None:
    visit.page.goto(f"{service.url}/docs")
    score = visit.operation("POST /score")
    # The operation is open, a transaction filled in and the button visible.
    expect(score.get_by_role("button", name="Execute")).to_be_in_viewport()
    visit.page.screenshot(path=tmp_path / "docs.png")
    before = service.stats()
    status, body = visit.execute("POST /score")
    after = service.stats()

    assert status == "200"
    assert json.loads(body).items() >= {"tx_id": "TX003", "score": 7, "triggered_rules": [R1, R2, R3]}.items()
    assert (after["total"] - before["total"], after["high"] - before["high"]) == (1, 1)
    # No key is filled in, so a second request is another decision.
    assert visit.execute("POST /score")[0] == "200"
    assert service.stats()["total"] == after["total"] + 1
    assert visit.errors == []
    assert visit.hosts == {service.url}
    visit.page.screenshot(path=tmp_path / "scored.png", full_page=True)


def bottom(box: FloatRect) -> float:
    return box["y"] + box["height"]


def test_request_button_and_response_fit_on_one_screen(visit: Visit, service: LocalStack, tmp_path: Path) -> None:
    visit.page.goto(f"{service.url}/docs")
    button = visit.operation("POST /score").get_by_role("button", name="Execute")
    assert bottom(visit.box(button)) <= DESKTOP[1]
    _, body = visit.execute("POST /score")
    assert visit.page.evaluate("scrollY") == 0
    visit.page.screenshot(path=tmp_path / "screen.png")
    assert '"risk_level": "CRITICAL"' in body
    assert all(label in body for label in (R1, R2, R3))
    transaction, button_box, response = visit.boxes_of_score()
    assert max(map(bottom, (transaction, button_box, response))) <= DESKTOP[1]
    # The response is beside the request, and shows at least 15 lines without scrolling.
    assert bottom(transaction) <= button_box["y"]
    assert max(box["x"] + box["width"] for box in (transaction, button_box)) <= response["x"]
    assert response["x"] + response["width"] <= DESKTOP[0]
    code = visit.operation("POST /score").locator(".live-responses-table .highlight-code pre").first
    assert code.evaluate("element => element.clientHeight") >= 15 * 14
    # The request has no scroll bar.
    textarea = visit.operation("POST /score").locator("textarea")
    assert textarea.evaluate("element => element.scrollHeight <= element.clientHeight")


def test_small_laptop_shows_the_button_without_scrolling(visit: Visit, service: LocalStack) -> None:
    visit.page.set_viewport_size({"width": LAPTOP[0], "height": LAPTOP[1]})
    visit.page.goto(f"{service.url}/docs")
    assert bottom(visit.box(visit.operation("POST /score").get_by_role("button", name="Execute"))) <= LAPTOP[1]
    visit.execute("POST /score")
    assert visit.page.evaluate("scrollY") == 0
    assert max(map(bottom, visit.boxes_of_score())) <= LAPTOP[1]


def test_scoring_comes_first(visit: Visit, service: LocalStack) -> None:
    visit.page.goto(f"{service.url}/docs")
    expect(visit.page.locator("p").first).to_have_text(re.compile(r"^\s*Press Execute to score the transaction below"))
    description = visit.page.locator(".info .renderedMarkdown")
    expect(description.locator("p").first).to_have_text(re.compile("^POST /score takes one transaction"))
    # The section on errors follows the operations.
    assert bottom(visit.box(description.locator("p").first)) <= visit.box(visit.operation("POST /score"))["y"]
    assert visit.box(description.get_by_role("heading", name="Errors"))["y"] >= bottom(
        visit.box(visit.operation("POST /echo"))
    )


def test_authorize_takes_only_a_token_and_servers_are_hidden(visit: Visit, service: LocalStack) -> None:
    visit.page.goto(f"{service.url}/docs")
    expect(visit.operation("POST /score")).to_be_visible()
    expect(visit.page.get_by_text("Servers", exact=True)).not_to_be_visible()
    expect(visit.page.locator("#servers")).not_to_be_visible()
    visit.page.locator("button.authorize").first.click()
    dialog = visit.page.locator(".dialog-ux")
    expect(dialog.get_by_role("heading", level=4)).to_have_text(re.compile("^token"))
    expect(dialog.get_by_text("leave it empty")).to_have_count(0)
    dialog.get_by_role("textbox").fill("a.b.c")
    dialog.get_by_role("button", name="Apply credentials").click()
    dialog.get_by_role("button", name="Close").last.click()
    with visit.page.expect_request(lambda request: request.method == "POST") as caught:
        visit.execute("POST /score")
    assert caught.value.headers["authorization"] == "Bearer a.b.c"
    assert visit.errors == []


def test_page_shows_the_fields_of_the_rule_set(visit: Visit, tmp_path: Path) -> None:
    own = {
        "card_country": {"type": "string", "max_length": 2, "description": "Country that issued the card."},
        "currency": {"type": "string", "one_of": ["PLN", "EUR"], "required": True},
    }
    root = checkout(tmp_path / "checkout", {**DOCUMENT, "fields": own})
    with started(tmp_path / "stack.log", root) as stack:
        visit.page.goto(f"{stack.url}/docs")
        score = visit.operation("POST /score")
        expect(score.locator("textarea")).to_have_value(re.compile('"currency": "PLN"'))
        assert visit.execute("POST /score")[0] == "200"
        score.get_by_role("tab", name="Schema").first.click()
        schema = score.locator(".opblock-section-request-body")
        for text in ("card_country", "Country that issued the card.", "currency"):
            expect(schema.get_by_text(text).first).to_be_visible()
        visit.page.screenshot(path=tmp_path / "fields.png", full_page=True)
    assert visit.errors == []


def test_page_shows_the_error_of_an_invalid_transaction(visit: Visit, service: LocalStack) -> None:
    visit.page.goto(f"{service.url}/docs")
    before = service.stats()
    visit.operation("POST /score").get_by_role("textbox").last.fill('{"tx_id": "TX000"}')
    status, body = visit.execute("POST /score")
    assert status == "400"
    assert "Missing required field 'amount'" in body
    assert service.stats() == before
    # A browser reports every 400 in these two ways.
    assert {error.partition(": ")[0] for error in visit.errors} == {"400", "console"}
    assert len(visit.errors) == 2


def test_every_operation_and_another_example(visit: Visit, service: LocalStack) -> None:
    visit.page.goto(f"{service.url}/docs")
    score = visit.operation("POST /score")
    score.get_by_role("combobox").filter(has_text="A meal").first.select_option(label="A meal")
    assert json.loads(visit.execute("POST /score")[1])["tx_id"] == "TX001"
    for title, holds in {
        "GET /stats": '"by_rule"',
        "GET /transaction/{tx_id}": '"status": "found"',
        "GET /health": '"ok"',
        "GET /openapi.json": '"openapi": "3.1.0"',
        "GET /": "Welcome",
        "GET /hello": "Hello, Anna!",
        "GET /status": '"monitoring"',
        "POST /echo": '"field_count": 4',
    }.items():
        visit.operation(title).locator(".opblock-summary-control").click()
        if title == "GET /transaction/{tx_id}":
            visit.operation(title).get_by_role("textbox").fill("TX001")
        status, body = visit.execute(title)
        assert (title, status) == (title, "200")
        assert holds in body
    assert visit.errors == []


def test_page_works_under_a_path_prefix(visit: Visit, service: LocalStack) -> None:
    """Custom domains and stages add one."""

    def without_prefix(route: Route) -> None:
        route.fulfill(response=route.fetch(url=route.request.url.replace("/prod/", "/")))

    visit.page.route(f"{service.url}/prod/**", without_prefix)
    visit.page.goto(f"{service.url}/prod/docs")
    requests: list[tuple[str, str]] = []
    visit.page.on("request", lambda request: requests.append((request.method, request.url)))
    assert visit.execute("POST /score")[0] == "200"
    assert [url for method, url in requests if method == "POST"] == [f"{service.url}/prod/score"]
    assert visit.errors == []


def test_browser_caches_the_files(visit: Visit, service: LocalStack) -> None:
    requested = []
    for _ in range(2):
        before = service.log.read_text()
        visit.page.goto(f"{service.url}/docs")
        expect(visit.operation("GET /stats")).to_be_visible()
        log = service.log.read_text().removeprefix(before)
        requested.append(set(re.findall(r"GET (/\S*?)(?:\?\S*)?  ", log)))
    assert requested[0] > requested[1] == {"/docs", "/openapi.json"}


def test_phone_does_not_scroll_sideways(visit: Visit, service: LocalStack, tmp_path: Path) -> None:
    visit.page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    visit.page.goto(f"{service.url}/docs")
    assert visit.execute("POST /score")[0] == "200"
    assert visit.page.evaluate("document.documentElement.scrollWidth") == PHONE[0]
    # Stacked in the order of their use
    transaction, button, response = visit.boxes_of_score()
    assert bottom(transaction) <= button["y"]
    assert bottom(button) <= response["y"]
    assert max(box["x"] + box["width"] for box in (transaction, button, response)) <= PHONE[0]
    title = visit.box(visit.page.locator(".info hgroup"))
    assert bottom(title) <= visit.box(visit.page.locator("button.authorize").first)["y"]
    visit.page.screenshot(path=tmp_path / "narrow.png", full_page=True)
