"""Local stacks and an editable checkout for the integration tests."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import service as services
from tests.local import broker
from tests.rule_set import DOCUMENT
from tests.service import STACK_LOGGING_JSON, LocalStack, started


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """The local stack with the tests' rule set, logging JSON."""
    folder = tmp_path_factory.mktemp("stack")
    root = services.checkout(folder / "checkout", DOCUMENT)
    with started(folder / "stack.log", root, STACK_LOGGING_JSON) as stack:
        yield stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """The local stack of an editable checkout with the tests' rule set, logging text."""
    folder = tmp_path_factory.mktemp("stack")
    with started(folder / "stack.log", services.checkout(folder / "checkout", DOCUMENT)) as stack:
        yield stack


@pytest.fixture(scope="session")
def bootstrap() -> Iterator[str]:
    """The address of a Kafka broker."""
    with broker.running() as bootstrap:
        yield bootstrap


@pytest.fixture
def topic(bootstrap: str) -> str:
    """A new topic with three partitions."""
    name = f"payments-{uuid.uuid4().hex[:8]}"
    broker.create_topic(bootstrap, name, partitions=3)
    return name


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """An editable copy of the files that the stack reads, with the tests' rule set."""
    return services.checkout(tmp_path / "checkout", DOCUMENT)
