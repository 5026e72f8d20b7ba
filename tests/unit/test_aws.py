"""How AWS is called: no longer than a caller waits, and no longer than the function lives."""

import time
from types import SimpleNamespace
from typing import Any

import pytest

from scoring import aws, ledger, outbox


def test_the_clients_wait_no_longer_than_a_caller_does(dynamodb: Any) -> None:
    for client in (ledger.connect()._client, outbox.connect()._client):
        config: Any = client.meta.config
        assert (config.connect_timeout, config.read_timeout) == (0.2, 1)
        assert config.retries == {"mode": "standard", "total_max_attempts": 2}


def test_a_call_ends_within_its_seconds() -> None:
    # botocore pauses up to a second before it repeats a throttled call, up to 0.05 s before any other.
    assert pytest.approx(0.2 + 1 + 1 + 0.2 + 1) == aws.CALL_SECONDS


def test_the_deadline_is_just_before_lambda_stops_the_function(context: SimpleNamespace) -> None:
    assert 9.5 < aws.deadline(context) - time.monotonic() < 9.9
