"""The page of the documentation in a real browser, headless Chromium, as a person meets it."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Locator, Page, Request, Response, Route, expect
from playwright.sync_api import sync_playwright as playwright

from tests.integration.service import Service, started

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TIMEOUT_MS = 10_000
DESKTOP, PHONE = (1280, 1600), (400, 800)
# Runs before the page's own scripts, and is not bound by the policy.
TELL_OF_VIOLATIONS = """
    addEventListener("securitypolicyviolation",
                     event => console.error("violates", event.violatedDirective, event.blockedURI, event.sample));
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with started(tmp_path_factory.mktemp("stack") / "stack.log") as stack:
        yield stack


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed; on Debian: apt-get install chromium")
    with playwright() as library, library.chromium.launch(executable_path=CHROMIUM) as browser:
        yield browser


@dataclass
class Visit:
    """An open page, and what went wrong on it."""

    page: Page
    hosts: set[str] = field(default_factory=set)
    troubles: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.add_init_script(TELL_OF_VIOLATIONS)
        self.page.on("console", self._console)
        self.page.on("pageerror", self._error)
        self.page.on("request", self._request)
        self.page.on("requestfailed", self._failed)
        self.page.on("response", self._response)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning", "assert"}:
            self.troubles.append(f"console: {message.text}")

    def _error(self, error: Error) -> None:
        self.troubles.append(f"error: {error}")

    def _request(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme != "data":
            self.hosts.add(f"{address.scheme}://{address.netloc}")

    def _failed(self, request: Request) -> None:
        self.troubles.append(f"failed: {request.url}")

    def _response(self, response: Response) -> None:
        if response.status >= 400:
            self.troubles.append(f"{response.status}: {response.url}")

    def operation(self, title: str) -> Locator:
        """The block of an operation, ``POST /score``."""
        method, _, path = title.partition(" ")
        return self.page.locator(f".opblock-{method.lower()}", has=self.page.locator(f"[data-path='{path}']"))

    def execute(self, title: str) -> tuple[str, str]:
        """Press the button of an operation; status and body of what is answered, as they are shown."""
        operation = self.operation(title)
        # What is still being drawn may lose a click that no person is fast enough to make.
        self.page.wait_for_load_state("networkidle")
        with self.page.expect_response(lambda response: "/docs" not in response.url) as caught:
            operation.get_by_role("button", name="Execute").click()
        shown = operation.locator(".live-responses-table .response")
        # The last answer may still be shown.
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


def test_a_newcomer_scores_a_transaction(visit: Visit, service: Service, tmp_path: Path) -> None:
    visit.page.goto(f"{service.url}/docs")
    score = visit.operation("POST /score")
    # Open already, a transaction filled in, the button in sight
    expect(score.get_by_role("button", name="Execute")).to_be_in_viewport()
    visit.page.screenshot(path=tmp_path / "docs.png")
    before = service.stats()
    status, body = visit.execute("POST /score")
    after = service.stats()

    assert status == "200"
    assert '"risk_level": "CRITICAL"' in body
    assert '"R3: night hour"' in body
    assert (after["total"] - before["total"], after["high"] - before["high"]) == (1, 1)
    # Again it is another decision: no key is filled in.
    assert visit.execute("POST /score")[0] == "200"
    assert service.stats()["total"] == after["total"] + 1
    assert visit.troubles == []
    assert visit.hosts == {service.url}
    visit.page.screenshot(path=tmp_path / "scored.png", full_page=True)


def test_what_is_wrong_with_a_transaction_is_read_on_the_page(visit: Visit, service: Service) -> None:
    visit.page.goto(f"{service.url}/docs")
    before = service.stats()
    visit.operation("POST /score").get_by_role("textbox").last.fill('{"tx_id": "TX000"}')
    status, body = visit.execute("POST /score")
    assert status == "400"
    assert "Missing required field 'amount'" in body
    assert service.stats() == before
    # A browser reports every 400 so, and nothing else was amiss.
    assert {trouble.partition(": ")[0] for trouble in visit.troubles} == {"400", "console"}
    assert len(visit.troubles) == 2


def test_examples_can_be_chosen_and_every_operation_be_tried(visit: Visit, service: Service) -> None:
    visit.page.goto(f"{service.url}/docs")
    score = visit.operation("POST /score")
    score.get_by_role("combobox").filter(has_text="A meal").first.select_option(label="A meal")
    assert '"risk_level": "LOW"' in visit.execute("POST /score")[1]
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
    assert visit.troubles == []


def test_it_works_under_a_prefix(visit: Visit, service: Service) -> None:
    """As behind a custom domain with a path, or a stage."""

    def without_prefix(route: Route) -> None:
        route.fulfill(response=route.fetch(url=route.request.url.replace("/prod/", "/")))

    visit.page.route(f"{service.url}/prod/**", without_prefix)
    visit.page.goto(f"{service.url}/prod/docs")
    requests: list[tuple[str, str]] = []
    visit.page.on("request", lambda request: requests.append((request.method, request.url)))
    assert visit.execute("POST /score")[0] == "200"
    assert [url for method, url in requests if method == "POST"] == [f"{service.url}/prod/score"]
    assert visit.troubles == []


def test_the_browser_keeps_the_files(visit: Visit, service: Service) -> None:
    assert service.log
    requested = []
    for _ in range(2):
        before = service.log.read_text()
        visit.page.goto(f"{service.url}/docs")
        expect(visit.operation("GET /stats")).to_be_visible()
        log = service.log.read_text().removeprefix(before)
        requested.append(set(re.findall(r'"GET (\S+?)(?:\?\S*)? HTTP', log)))
    assert requested[0] > requested[1] == {"/docs", "/openapi.json"}


def test_a_narrow_screen_shows_all_without_scrolling_sideways(visit: Visit, service: Service, tmp_path: Path) -> None:
    visit.page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    visit.page.goto(f"{service.url}/docs")
    assert visit.execute("POST /score")[0] == "200"
    assert visit.page.evaluate("document.documentElement.scrollWidth") == PHONE[0]
    visit.page.screenshot(path=tmp_path / "narrow.png", full_page=True)
