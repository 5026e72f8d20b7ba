"""Unit tests open no sockets; DynamoDB is moto's, with the tables of the template."""

import importlib
import io
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
import pytest_socket
from aws_lambda_powertools.logging import Logger
from botocore import xform_name
from botocore.exceptions import ClientError
from moto import mock_aws

from scoring import scorers, telemetry
from scoring.errors import CallFailed
from scoring.ledger.reader import LedgerReader
from scoring.ledger.writer import LedgerWriter
from scoring.settings import Settings
from tests import rule_set
from tests.local import template
from tests.local.emulator import create_queues, create_tables

# A deadline that no test reaches.
LATER = math.inf
SETTINGS = Settings(
    decisions_table="DecisionsTable",
    stats_table="StatsTable",
    stats_shards=4,
    decision_days=90,
    outbox_url="OutboxQueue",
)


class MotoService:
    """Stands in for :class:`scoring.client.Client`, which moto does not reach: its calls, by a boto3 client."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def connect(self) -> None:
        """Nothing to connect to."""

    def call(self, operation: str, parameters: dict[str, Any]) -> Any:
        try:
            response: dict[str, Any] = getattr(self._client, xform_name(operation))(**parameters)
        except ClientError as error:
            answer: dict[str, Any] = {**error.response}
            raise CallFailed(answer["Error"]["Code"], 400, answer) from error
        # Added by boto3, and by moto without being asked for it.
        for added in ("ResponseMetadata", "ConsumedCapacity", "ItemCollectionMetrics"):
            response.pop(added, None)
        return response


@pytest.fixture(autouse=True)
def no_sockets() -> Iterator[None]:
    pytest_socket.disable_socket()
    yield
    pytest_socket.enable_socket()


@pytest.fixture
def function_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment variables that the template gives the functions."""
    for name, value in template.functions()["ScoreFunction"].variables.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def dynamodb(function_environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr("scoring.aws.client.Client", lambda service, *_: MotoService(boto3.client(service)))
    with mock_aws():
        client = boto3.client("dynamodb")
        create_tables(client)
        yield client


@pytest.fixture
def sqs(dynamodb: Any) -> Any:
    """The queues of the template, in the same account."""
    client = boto3.client("sqs")
    create_queues(client)
    return client


@pytest.fixture
def ledger(dynamodb: Any) -> LedgerWriter:
    return ledger_of(dynamodb)


@pytest.fixture
def reports(dynamodb: Any) -> LedgerReader:
    return reports_of(dynamodb)


def ledger_of(dynamodb: Any, configuration: Settings = SETTINGS) -> LedgerWriter:
    service: Any = MotoService(dynamodb)
    return LedgerWriter(service, configuration)


def reports_of(dynamodb: Any, configuration: Settings = SETTINGS) -> LedgerReader:
    service: Any = MotoService(dynamodb)
    return LedgerReader(service, configuration)


@pytest.fixture
def context() -> SimpleNamespace:
    """The part of Lambda's context object that the handlers use."""
    return SimpleNamespace(
        aws_request_id="6f1d0d6c-5b07-4d5e-9f0a-7c1f4f0b1f53", get_remaining_time_in_millis=lambda: 10_000
    )


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is logged from here on, by the logger of powertools and by the service's own telemetry."""
    stream = io.StringIO()
    monkeypatch.setattr(Logger().registered_handler, "stream", stream)
    # Standard output itself is pytest's.
    monkeypatch.setattr(telemetry, "sys", SimpleNamespace(stdout=stream))
    return stream


@dataclass
class Functions:
    """The functions of the template: call it with a logical id and an event."""

    modules: dict[str, Any]
    context: Any

    def __call__(self, function: str, event: dict[str, Any]) -> Any:
        return self.modules[function].lambda_handler(event, self.context)


@pytest.fixture
def invoke(dynamodb: Any, sqs: Any, context: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Functions:
    """``invoke("ScoreFunction", event)``, each function imported anew: this test's account, the tests' rule set."""
    monkeypatch.setattr(scorers, "load", lambda: rule_set.RULE_SET)
    modules: dict[str, Any] = {}
    for logical_id, function in template.functions().items():
        name = f"functions.{function.folders[0].name}.app"
        monkeypatch.delitem(sys.modules, name, raising=False)
        modules[logical_id] = importlib.import_module(name)
    return Functions(modules, context)
