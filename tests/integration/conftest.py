"""The running service: the local stack, or whatever ``API_URL`` names."""

import os
from collections.abc import Iterator

import pytest

from tests.integration.service import Service, started


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The local stack on a free port, or the service at ``API_URL`` where that is set."""
    if url := os.environ.get("API_URL"):
        yield Service(url)
        return
    with started(tmp_path_factory.mktemp("stack") / "stack.log") as stack:
        yield stack
