"""The proxy's faults as a client sees them, and whether the call is applied."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
)

from scoring.aws import client
from tests.faults.harness import Harness
from tests.faults.proxy import Down, Fault, Proxy

ONCE = Config(
    connect_timeout=client.CONNECT_SECONDS,
    read_timeout=client.READ_SECONDS,
    retries={"mode": "standard", "total_max_attempts": 1},
)


def through(proxy: Proxy) -> Any:
    """Return a client with the functions' timeouts and no retries."""
    return boto3.client("dynamodb", endpoint_url=proxy.endpoint, config=ONCE)


@pytest.fixture(autouse=True)
def clean(wire: Harness) -> None:
    wire.store.clear()
    wire.dynamodb.delete_item(TableName="StatsTable", Key={"shard": {"N": "0"}})


def put(client: Any) -> None:
    client.transact_write_items(
        TransactItems=[{"Put": {"TableName": "StatsTable", "Item": {"shard": {"N": "0"}, "total": {"N": "1"}}}}]
    )


def is_applied(wire: Harness) -> bool:
    return "Item" in wire.dynamodb.get_item(TableName="StatsTable", Key={"shard": {"N": "0"}}, ConsistentRead=True)


@pytest.mark.parametrize(
    ("fault", "applied", "error"),
    [
        (Fault.REPLY_DROPPED, True, ConnectionClosedError),
        (Fault.REPLY_LATE, True, ReadTimeoutError),
        (Fault.CALL_LATE, False, ReadTimeoutError),
        (Fault.ERROR_BEFORE, False, "InternalServerError"),
        (Fault.ERROR_AFTER, True, "InternalServerError"),
        (Fault.THROTTLED, False, "ThrottlingException"),
        (Fault.CONFLICT, False, "TransactionCanceledException"),
        (Fault.MALFORMED, False, "TransactionCanceledException"),
        (Fault.REFUSED, False, ConnectionClosedError),
    ],
)
def test_fault_reaches_the_client(wire: Harness, fault: Fault, *, applied: bool, error: Any) -> None:
    client = through(wire.store)
    wire.store.inject(fault, 1.0, seed=1)
    with pytest.raises(ClientError if isinstance(error, str) else error) as caught:
        put(client)
    if isinstance(error, str):
        assert caught.value.response["Error"]["Code"] == error
    assert is_applied(wire) == applied
    assert wire.store.injected == 1
    if fault is Fault.CALL_LATE:
        time.sleep(1)
        assert is_applied(wire)


def test_refusal_ends(wire: Harness) -> None:
    client = through(wire.store)
    wire.store.refuse_for_a_while()
    with pytest.raises(EndpointConnectionError):
        client.list_tables()
    time.sleep(0.5)
    client.list_tables()


def test_foreign_response_applies_nothing(wire: Harness) -> None:
    """boto3 accepts it as a success."""
    wire.store.inject(Fault.FOREIGN, 1.0, seed=1)
    put(through(wire.store))
    assert wire.store.injected == 1
    assert not is_applied(wire)


def test_trickling_response_never_ends(wire: Harness) -> None:
    with wire.store.down(Down.TRICKLING), socket.create_connection(("127.0.0.1", wire.store.port), 5) as client:
        client.sendall(b"POST / HTTP/1.1\r\nX-Amz-Target: any.ListTables\r\nContent-Length: 0\r\n\r\n")
        end = time.monotonic() + 0.5
        received = b""
        while time.monotonic() < end:
            received += client.recv(100)
    assert received.startswith(b"HTTP/1.1 200 OK\r\nX-Slow: xxx")
    assert b"\n" not in received[30:]


@pytest.mark.parametrize(("how", "error"), [(Down.REFUSING, EndpointConnectionError), (Down.SILENT, ReadTimeoutError)])
def test_outage_ends(wire: Harness, how: Down, error: type[Exception]) -> None:
    client = through(wire.store)
    client.list_tables()
    with wire.store.down(how):
        for _ in range(2):
            with pytest.raises((error, ConnectTimeoutError, ConnectionClosedError)):
                client.list_tables()
    client.list_tables()


def test_seed_determines_which_calls_fail(wire: Harness) -> None:
    drawn = []
    for seed in (1, 1, 2):
        wire.store.inject(Fault.THROTTLED, 0.1, seed)
        drawn.append([wire.store.draw("TransactWriteItems") is not None for _ in range(2000)])
    assert 150 < sum(drawn[0]) < 250
    assert drawn[0] == drawn[1] != drawn[2]
    wire.store.clear()
    assert wire.store.draw("TransactWriteItems") is None


def test_only_transactions_conflict(wire: Harness) -> None:
    wire.store.inject(Fault.CONFLICT, 1.0, seed=1)
    through(wire.store).list_tables()
    assert wire.store.injected == 0


def test_rule_wraps_each_call_until_cleared(wire: Harness) -> None:
    seen = []

    @contextmanager
    def rule(operation: str, body: bytes) -> Iterator[Fault | None]:
        seen.append((operation, "StatsTable" in body.decode(), is_applied(wire)))
        yield Fault.CONFLICT if len(seen) == 1 else None
        seen.append((operation, "StatsTable" in body.decode(), is_applied(wire)))

    client = through(wire.store)
    wire.store.follow(rule)
    with pytest.raises(client.exceptions.TransactionCanceledException):
        put(client)
    put(client)
    applied = [("TransactWriteItems", True, one) for one in (False, False, False, True)]
    assert seen == applied
    wire.store.clear()
    put(client)
    assert seen == applied
