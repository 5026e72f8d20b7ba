"""Fixtures of the unit tests: no sockets; moto emulates DynamoDB, SQS and SNS with what the template has of them."""

import importlib
import io
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
import pytest_socket
from aws_lambda_powertools.logging import Logger
from moto import mock_aws

from scoring import scorers, telemetry
from scoring.decision import Decision
from scoring.errors import HttpError
from scoring.ledger.reader import LedgerReader
from scoring.ledger.writer import LedgerWriter, Recorded
from scoring.scorers.forest.scorer import ForestScorer
from scoring.settings import Settings
from scoring.store import Store
from tests import forests, rule_set
from tests.local import template
from tests.local.emulator import create_queues, create_tables, create_topics
from tests.unit.fakes import MotoClient

# A rule set with another version is not the lab's.
collect_ignore = [] if scorers.load().version == "1.0-rules" else ["test_lab_rules.py"]

NO_DEADLINE = math.inf
SETTINGS = Settings(
    decisions_table="DecisionsTable",
    stats_table="StatsTable",
    profiles_table="ProfilesTable",
    lists_table="ListsTable",
    stats_shards=4,
    decision_days=90,
    profile_days=90,
    outbox_url="OutboxQueue",
)

# The tests' rule set and model
FOREST = ForestScorer(rule_set.RULE_SET, forests.SMALL)

# (operation, *errors) -> the parameters of each call
Intercept = Callable[..., list[dict[str, Any]]]
MetricLines = Callable[[], list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def no_sockets() -> Iterator[None]:
    pytest_socket.disable_socket()
    yield
    pytest_socket.enable_socket()


@pytest.fixture
def function_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the environment variables that the template sets for any function."""
    for function in template.functions().values():
        for name, value in function.variables.items():
            monkeypatch.setenv(name, value)


@pytest.fixture
def not_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set the local time zone to one that is never UTC."""
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    yield
    monkeypatch.delenv("TZ")
    time.tzset()


@pytest.fixture
def dynamodb(function_environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a boto3 client of an account with the template's tables."""
    monkeypatch.setattr("scoring.aws.client.Client", lambda service, *_: MotoClient(boto3.client(service)))
    # The account in the ARNs of `make run`
    monkeypatch.setenv("MOTO_ACCOUNT_ID", "000000000000")
    with mock_aws():
        client = boto3.client("dynamodb")
        create_tables(client)
        yield client


@pytest.fixture
def sqs(dynamodb: Any) -> Any:
    """Return a boto3 client of the same account, with the template's queues."""
    client = boto3.client("sqs")
    create_queues(client)
    return client


@pytest.fixture
def sns(dynamodb: Any) -> Any:
    """Return a boto3 client of the same account, with the template's topics."""
    client = boto3.client("sns")
    create_topics(client)
    return client


@pytest.fixture
def writer(dynamodb: Any) -> LedgerWriter:
    return LedgerWriter(MotoClient(dynamodb), SETTINGS)


def record(writer: LedgerWriter, decision: Decision, deadline: float = NO_DEADLINE) -> Recorded:
    """Record one decision; raise the error if it is not recorded."""
    (outcome,) = writer.record([decision], deadline)
    if isinstance(outcome, HttpError):
        raise outcome
    return outcome


@pytest.fixture
def reader(dynamodb: Any) -> LedgerReader:
    return LedgerReader(Store(MotoClient(dynamodb)), SETTINGS)


@pytest.fixture
def intercept(dynamodb: Any, monkeypatch: pytest.MonkeyPatch) -> Intercept:
    """Record the calls of a boto3 operation, and raise the given errors in the first ones; None raises nothing."""

    def intercept(operation: str, *errors: Exception | None) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = []
        original = getattr(dynamodb, operation)
        remaining = list(errors)

        def call(**parameters: Any) -> Any:
            calls.append(parameters)
            if error := remaining.pop(0) if remaining else None:
                raise error
            return original(**parameters)

        monkeypatch.setattr(dynamodb, operation, call)
        return calls

    return intercept


@pytest.fixture
def context() -> SimpleNamespace:
    """Return the part of Lambda's context object that the handlers use."""
    return SimpleNamespace(
        aws_request_id="6f1d0d6c-5b07-4d5e-9f0a-7c1f4f0b1f53", get_remaining_time_in_millis=lambda: 30_000
    )


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Capture what Powertools' Logger and the service's own telemetry write."""
    stream = io.StringIO()
    monkeypatch.setattr(Logger().registered_handler, "stream", stream)
    # pytest itself captures standard output.
    monkeypatch.setattr(telemetry, "sys", SimpleNamespace(stdout=stream))
    return stream


@pytest.fixture
def new_metric_lines(log: io.StringIO) -> MetricLines:
    """Return the lines with metrics since the last call, and clear the log."""

    def new_metric_lines() -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in log.getvalue().splitlines()]
        log.seek(0)
        log.truncate()
        return [line for line in lines if "_aws" in line]

    return new_metric_lines


@dataclass
class Functions:
    """The handlers of the template's functions, called by logical id."""

    modules: dict[str, Any]
    context: Any

    def __call__(self, function: str, event: dict[str, Any]) -> Any:
        return self.modules[function].lambda_handler(event, self.context)


@pytest.fixture
def invoke(dynamodb: Any, sqs: Any, sns: Any, context: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Functions:
    """Import all functions anew, with the tests' rule set: ``invoke("ScoreFunction", event)``."""
    for load in ("load", "load_rules"):
        monkeypatch.setattr(scorers, load, lambda: rule_set.RULE_SET)
    modules: dict[str, Any] = {}
    for logical_id, function in template.functions().items():
        name = f"functions.{function.folders[0].name}.app"
        monkeypatch.delitem(sys.modules, name, raising=False)
        modules[logical_id] = importlib.import_module(name)
    return Functions(modules, context)


@pytest.fixture
def with_shadow(invoke: Functions, monkeypatch: pytest.MonkeyPatch) -> Functions:
    """Import the shadow function as well, with the tests' rule set and model."""
    monkeypatch.setattr(scorers, "load_forest", lambda: FOREST)
    monkeypatch.delitem(sys.modules, "functions.shadow.app", raising=False)
    invoke.modules["ShadowFunction"] = importlib.import_module("functions.shadow.app")
    return invoke
