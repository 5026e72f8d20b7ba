"""One service for all tests of faults, with tables and queues of its own for each."""

from collections.abc import Iterator

import pytest

from tests.faults import harness as harnesses
from tests.faults.harness import Harness, Service


@pytest.fixture(scope="session")
def functions_behind_proxies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with harnesses.running(tmp_path_factory.mktemp("faults") / "functions.log") as service:
        yield service


@pytest.fixture
def harness(functions_behind_proxies: Service) -> Iterator[Harness]:
    """The service, nothing recorded yet; the test must leave no trace of a crash in its logs."""
    with functions_behind_proxies.on_new_tables() as harness:
        yield harness
    log = harness.log.read_text()
    assert "Traceback" not in log, log[log.index("Traceback") :][:3000]


@pytest.fixture(scope="module")
def wire(functions_behind_proxies: Service) -> Iterator[Harness]:
    """The same for tests that look at proxies and emulator alone, and clean up themselves."""
    with functions_behind_proxies.on_new_tables() as harness:
        yield harness


@pytest.fixture(scope="session")
def full(pytestconfig: pytest.Config) -> bool:
    """Whether this is ``make faults``, not the short form in ``make test``."""
    return bool(pytestconfig.getoption("--full"))
