"""The corpus of invalid and unusual requests, sent byte for byte."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from tests import card_rules, corpus
from tests.card_corpus import CARD_CASES, REFUSING_CASES, REFUSING_DOCUMENT
from tests.corpus import INJECTED, SERVER_HEADERS, Case
from tests.sending import check, decisions, level_changes, send
from tests.service import STACK_LOGGING_JSON, LocalStack, RunningService, checkout, started

CASES = [case for case in corpus.CASES if not case.only_event]


def name_of(case: Case) -> str:
    return f"{case.status} {case.name}"


@dataclass
class Counters:
    """The statistics as last read."""

    service: RunningService
    stats: dict[str, Any]

    def change(self) -> dict[str, int]:
        """Read the statistics and return what changed since the last call."""
        before, self.stats = self.stats, self.service.stats()
        return level_changes(before, self.stats)


class TestCorpus:
    """Runs against the local stack here; subclassed for other targets."""

    server_headers = SERVER_HEADERS
    # Reasons why the target responds differently from API Gateway, by name of the case
    differences: Mapping[str, str] = {}

    @pytest.fixture(scope="class")
    @classmethod
    def counters(cls, service: RunningService) -> Iterator[Counters]:
        counters = Counters(service, service.stats())
        yield counters
        assert counters.change() == {}

    @pytest.mark.parametrize("case", CASES, ids=name_of)
    def test_request(
        self, service: RunningService, counters: Counters, case: Case, request: pytest.FixtureRequest
    ) -> None:
        if reason := self.differences.get(case.name):
            request.applymarker(pytest.mark.xfail(reason=reason))
        printed = service.log.read_text() if isinstance(service, LocalStack) else ""
        response = send(service, case)
        # Other requests must not count; if one does, the next comparison fails.
        change = counters.change() if case.path == "/score" else {}
        check(response, case, self.server_headers)
        assert change == case.levels
        if isinstance(service, LocalStack):
            log = service.log.read_text().removeprefix(printed)
            assert "Traceback" not in log
            assert len(decisions(log)) == case.counted
            assert INJECTED not in str(decisions(log))


class TestCardCorpus(TestCorpus):
    """The cases for declared fields."""

    document = card_rules.DOCUMENT

    @pytest.fixture(scope="class")
    @classmethod
    def service(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
        folder = tmp_path_factory.mktemp("stack")
        root = checkout(folder / "checkout", cls.document)
        with started(folder / "stack.log", root, STACK_LOGGING_JSON) as stack:
            yield stack

    @pytest.mark.parametrize("case", CARD_CASES, ids=name_of)
    def test_request(
        self, service: RunningService, counters: Counters, case: Case, request: pytest.FixtureRequest
    ) -> None:
        super().test_request(service, counters, case, request)


class TestRefusingCorpus(TestCardCorpus):
    """The cases for a rule set that refuses unknown fields."""

    document = REFUSING_DOCUMENT

    @pytest.mark.parametrize("case", REFUSING_CASES, ids=name_of)
    def test_request(
        self, service: RunningService, counters: Counters, case: Case, request: pytest.FixtureRequest
    ) -> None:
        super().test_request(service, counters, case, request)
