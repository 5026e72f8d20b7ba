"""One service for all tests of faults, clean before each."""

from collections.abc import Iterator

import pytest

from tests.faults import harness as harnesses
from tests.faults.harness import Harness


@pytest.fixture(scope="session")
def whole_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    with harnesses.running(tmp_path_factory.mktemp("faults") / "functions.log") as harness:
        yield harness


@pytest.fixture
def harness(whole_session: Harness) -> Iterator[Harness]:
    """The service; after the test without faults again, and without a trace of a crash in its logs."""
    yield whole_session
    whole_session.store.clear()
    whole_session.queue.clear()
    log = whole_session.log.read_text()
    assert "Traceback" not in log, log[log.index("Traceback") :][:3000]


@pytest.fixture(scope="session")
def full(pytestconfig: pytest.Config) -> bool:
    """Whether this is ``make faults``, not the short form in ``make test``."""
    return bool(pytestconfig.getoption("--full"))
