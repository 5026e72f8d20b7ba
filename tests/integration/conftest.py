"""The running service: the local stack, or whatever ``API_URL`` names."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.service import STACK_LOGGING_JSON, Service, started
from tests.integration.service import checkout as copied
from tests.rule_set import DOCUMENT


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The local stack on a free port, logging JSON, or the service at ``API_URL`` if that is set."""
    if url := os.environ.get("API_URL"):
        yield Service(url)
        return
    with started(tmp_path_factory.mktemp("stack") / "stack.log", arguments=STACK_LOGGING_JSON) as stack:
        yield stack


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the stack reads, to edit, with the tests' rule set."""
    return copied(tmp_path / "checkout", DOCUMENT)
