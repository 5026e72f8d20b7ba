"""The functions behind proxies, shared by all fault tests; each test has its own emulator."""

from collections.abc import Iterator

import pytest

from tests.faults import harness as harnesses
from tests.faults.harness import Harness, ProxiedFunctions


@pytest.fixture(scope="session")
def proxied_functions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxiedFunctions]:
    with harnesses.running(tmp_path_factory.mktemp("faults") / "functions.log") as functions:
        yield functions


@pytest.fixture
def harness(proxied_functions: ProxiedFunctions) -> Iterator[Harness]:
    """The service with empty tables; fails the test if the functions logged a traceback."""
    with proxied_functions.on_new_tables() as harness:
        yield harness
    log = harness.log.read_text()
    assert "Traceback" not in log, log[log.index("Traceback") :][:3000]


@pytest.fixture(scope="module")
def wire(proxied_functions: ProxiedFunctions) -> Iterator[Harness]:
    """The service for tests of the proxies and the emulator, which clean up themselves."""
    with proxied_functions.on_new_tables() as harness:
        yield harness


@pytest.fixture(scope="session")
def full(pytestconfig: pytest.Config) -> bool:
    """Return whether to run at full length, as ``make faults`` does."""
    return bool(pytestconfig.getoption("--full"))
