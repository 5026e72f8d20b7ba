"""Unit tests open no sockets; DynamoDB is moto's, with the tables of the template."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
import pytest_socket
from moto import mock_aws

from scoring.ledger import Ledger
from scoring.settings import Settings
from tests.local import template
from tests.local.dynamodb import create_tables

SETTINGS = Settings(decisions_table="DecisionsTable", stats_table="StatsTable", stats_shards=4, decision_days=90)


@pytest.fixture(autouse=True)
def no_sockets() -> Iterator[None]:
    pytest_socket.disable_socket()
    yield
    pytest_socket.enable_socket()


@pytest.fixture
def function_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment variables that the template gives the functions."""
    variables = template.load()["Globals"]["Function"]["Environment"]["Variables"]
    parameters = template.load()["Parameters"]
    for name, value in variables.items():
        reference = value.get("Ref") if isinstance(value, dict) else None
        parameter = parameters.get(reference)
        monkeypatch.setenv(name, str(parameter["Default"]) if parameter else reference or value)


@pytest.fixture
def dynamodb(function_environment: None) -> Iterator[Any]:
    with mock_aws():
        client = boto3.client("dynamodb")
        create_tables(client)
        yield client


@pytest.fixture
def ledger(dynamodb: Any) -> Ledger:
    return Ledger(dynamodb, SETTINGS)


@pytest.fixture
def context() -> SimpleNamespace:
    """The part of Lambda's context object that the handlers use."""
    return SimpleNamespace(aws_request_id="6f1d0d6c-5b07-4d5e-9f0a-7c1f4f0b1f53")
