"""The corpus over HTTP, each request byte for byte as it stands there."""

import pytest

from scoring import scorers
from tests.corpus import INJECTED, Case, decided_by
from tests.integration.service import Service
from tests.sending import check, decisions, moved, send


@pytest.mark.parametrize(
    "case", [case for case in decided_by(scorers.load()) if not case.only_event], ids=lambda case: case.name
)
def test_a_case(service: Service, case: Case) -> None:
    before, printed = service.stats(), service.log.read_text() if service.log else ""
    answer = send(service.url, case)
    after, log = service.stats(), service.log.read_text().removeprefix(printed) if service.log else ""

    check(answer, case)
    assert moved(before, after) == case.levels
    assert "Traceback" not in log
    if service.log:
        assert len(decisions(log)) == case.counted
        assert INJECTED not in str(decisions(log))
