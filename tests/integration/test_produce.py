"""The command ``events/produce.py``, with a broker."""

import gzip
import itertools
import json
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from confluent_kafka import Consumer, KafkaError, Message

from tests import clients, mock_broker
from tests.clients import QuietHandler, assert_one_error, interruptible, serving
from tests.local import broker
from tests.local.processes import free_port, listening
from tests.local.template import ROOT
from tests.mock_broker import PRODUCE

if TYPE_CHECKING:
    import subprocess

PAYMENTS = ROOT / "tests" / "data" / "sparkov_slim.csv.gz"


def produce(*options: object, python: tuple[str, ...] = (), **environment: str) -> "subprocess.CompletedProcess[str]":
    return clients.run("produce", *options, python=python, **environment)


def read(bootstrap: str, topic: str, count: int) -> list[Message]:
    """Return this many records of a topic."""
    configuration = {"bootstrap.servers": bootstrap, "group.id": topic, "auto.offset.reset": "earliest"}
    consumer = Consumer({**configuration, **broker.CONSUMER_PROPERTIES})
    consumer.subscribe([topic])
    messages: list[Message] = []
    while len(messages) < count:
        found = consumer.consume(count, timeout=30)
        assert found
        assert all(message.error() is None for message in found)
        messages += found
    assert consumer.consume(1, timeout=0.2) == []
    consumer.close()
    return messages


def counts(result: "subprocess.CompletedProcess[str]") -> dict[str, int]:
    """Return the counts in the output, by the first word of their lines."""
    lines = [line.split() for line in result.stdout.splitlines() if not line.startswith("columns")]
    return {words[0]: int(next(word for word in words if word.isdecimal())) for words in lines}


def keys(messages: list[Message]) -> list[str]:
    headers = [cast("list[tuple[str, bytes]]", message.headers()) for message in messages]
    assert {name for ((name, _),) in headers} == {"idempotency_key"}
    return sorted(value.decode() for ((_, value),) in headers)


def bodies(messages: list[Message]) -> list[object]:
    return [json.loads(message.value() or b"") for message in messages]


def test_payments_in_the_order_of_each_customer(bootstrap: str, topic: str) -> None:
    result = produce(PAYMENTS, "--limit", 2_000, "--bootstrap", bootstrap, "--topic", topic)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("columns: not sent is_fraud\ndelivered      2000  ")
    assert result.stdout.endswith("failed            0\n")
    messages = read(bootstrap, topic, 2_000)
    assert {message.partition() for message in messages} == {0, 1, 2}
    with gzip.open(PAYMENTS, "rt", encoding="utf-8") as file:
        rows = [line.split(",") for line in itertools.islice(file, 1, 2_001)]
    sent: dict[str, list[str]] = {}
    for _, tx_id, customer, *_ in rows:
        sent.setdefault(customer, []).append(tx_id)
    received: dict[str, list[str]] = {}
    for message in messages:
        assert message.key() is not None
        received.setdefault((message.key() or b"").decode(), []).append(json.loads(message.value() or b"")["tx_id"])
    assert received == sent
    assert len(set(keys(messages))) == 2_000


def test_keys_are_those_of_replay(bootstrap: str, topic: str, tmp_path: Path) -> None:
    """A row counts once, whichever script sends it, and when it is sent again."""
    (tmp_path / "csv").write_text("ts,tx_id,amount,hour,store\n1,A,3001.50,3.0,Łódź\n")
    (tmp_path / "json").write_text('{"id": 17, "amount": 5.0, "country": "PL"}')
    for name in ("csv", "json", "csv"):
        options = ("--bootstrap", bootstrap, "--topic", topic, "--batch", "june")
        assert produce(tmp_path / name, *options).returncode == 0
    messages = read(bootstrap, topic, 3)
    first, second = "ea93f9431233a87de23de6065829af89-1", "f870d637518ff9ece745becc9eea4f58-1"
    assert keys(messages) == [first, second, second]
    sent = {"tx_id": "A", "amount": 3001.5, "store": "Łódź", "hour": 3}
    assert bodies(messages).count(sent) == 2
    assert {"tx_id": "17", "amount": 5.0, "country": "PL"} in bodies(messages)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), [b"7", b"B", None]),
        (("--order-by", "store"), [b"x", b"x", None]),
    ],
)
def test_key_of_a_record(
    bootstrap: str, topic: str, tmp_path: Path, options: tuple[str, ...], expected: list[bytes | None]
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"tx_id": "A", "customer_id": 7, "store": "x"}\n{"tx_id": "B", "store": "x"}\n{"tx_id": ""\n')
    result = produce(file, "--bootstrap", bootstrap, "--topic", topic, *options)
    assert result.returncode == 0
    assert sorted((message.key() for message in read(bootstrap, topic, 3)), key=str) == sorted(expected, key=str)
    missing = "store" if options else "customer_id and tx_id"
    assert result.stdout.endswith(f"no key            1  without {missing}, in no order\n")


def test_malformed_json_is_sent_and_ambiguous_csv_is_not(bootstrap: str, topic: str, tmp_path: Path) -> None:
    (tmp_path / "json").write_text('{"amount": 1}\n{"amount": \n')
    (tmp_path / "csv").write_text("amount;hour\n3,001;3\n4,5;2\n")
    assert produce(tmp_path / "json", "--bootstrap", bootstrap, "--topic", topic).returncode == 0
    result = produce(tmp_path / "csv", "--bootstrap", bootstrap, "--topic", topic)
    assert (result.returncode, result.stderr) == (1, "line 2: amount 3,001 is ambiguous: write 3001 or 3,0010\n")
    assert counts(result) == {"delivered": 1, "failed": 1, "no": 1}
    values = [message.value() for message in read(bootstrap, topic, 3)]
    assert sorted(map(str, values)) == sorted(
        map(str, [b'{"amount": 1}', b'{"amount":', b'{"amount": 4.5, "hour": 2}'])
    )


def test_declared_columns_come_from_the_service(bootstrap: str, topic: str, tmp_path: Path) -> None:
    document = {"components": {"schemas": {"Transaction": {"properties": {"limit": {"type": "number"}}}}}}

    class Handler(QuietHandler):
        def get(self) -> None:
            self.respond(200, json.dumps(document).encode(), Content_Type="application/json")

    file = tmp_path / "rows.csv"
    file.write_text("amount,limit\n5,2.5\n")
    with serving(Handler) as url:
        assert produce(file, "--bootstrap", bootstrap, "--topic", topic, "--url", url).returncode == 0
    assert bodies(read(bootstrap, topic, 1)) == [{"amount": 5, "limit": 2.5}]


def test_record_that_the_broker_refuses(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"amount": 1}\n{"amount": 2}\n')
    with mock_broker.running() as brokers:
        brokers.create_topic("payments")
        brokers.fail(PRODUCE, KafkaError.MSG_SIZE_TOO_LARGE)
        result = produce(file, "--bootstrap", brokers.bootstrap, "--topic", "payments", "--rate", 2)
    assert result.returncode == 1
    # librdkafka may send both records together, which are then refused together.
    lines = result.stderr.splitlines()
    assert lines == [f"line {number}: Broker: Message size too large" for number in range(1, len(lines) + 1)]
    assert (counts(result)["failed"], counts(result)["delivered"]) == (len(lines), 2 - len(lines))
    assert lines


def test_record_that_is_too_large_to_send(bootstrap: str, topic: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"amount": 1, "store": "x" * 1_100_000}) + '\n{"amount": 2}\n')
    result = produce(file, "--bootstrap", bootstrap, "--topic", topic)
    assert result.returncode == 1
    assert result.stderr == "line 1: Unable to produce message: Broker: Message size too large\n"
    assert bodies(read(bootstrap, topic, 1)) == [{"amount": 2}]


def test_broker_that_refuses_the_topic(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"amount": 1}\n{"amount": 2}\n{"amount": 3}\n')
    with mock_broker.running() as brokers:
        brokers.create_topic("payments")
        brokers.fail(PRODUCE, *[KafkaError.TOPIC_AUTHORIZATION_FAILED] * 3)
        result = produce(file, "--bootstrap", brokers.bootstrap, "--topic", "payments")
    # Depends on whether the response arrives before the last row is sent.
    assert result.returncode in {1, 2}
    assert all(line.endswith("Broker: Topic authorization failed") for line in result.stderr.splitlines()[:1])
    assert counts(result)["failed"]
    assert "Traceback" not in result.stderr


def test_rate(bootstrap: str, topic: str) -> None:
    start = time.monotonic()
    assert produce(PAYMENTS, "--limit", 21, "--rate", 10, "--bootstrap", bootstrap, "--topic", topic).returncode == 0
    assert time.monotonic() - start > 2


def test_missing_topic_is_created_on_request(bootstrap: str) -> None:
    options = ("--limit", 10, "--bootstrap", bootstrap, "--topic", "new-payments")
    assert_one_error(
        produce(PAYMENTS, *options), f"there is no topic new-payments at {bootstrap}: --partitions N creates"
    )
    assert produce(PAYMENTS, *options, "--partitions", 2).returncode == 0
    assert {message.partition() for message in read(bootstrap, "new-payments", 10)} <= {0, 1}


def test_ctrl_c_waits_for_the_brokers(bootstrap: str, topic: str) -> None:
    with interruptible():
        process = clients.start("produce", PAYMENTS, "--rate", 20, "--bootstrap", bootstrap, "--topic", topic)
    assert process.stdout
    assert process.stdout.readline().startswith("columns: ")
    time.sleep(1)  # some records
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    delivered = int(output.split()[1])
    assert (process.returncode, output.splitlines()[1].split()) == (2, ["failed", "0"])
    assert errors == f"error: interrupted after {delivered} rows; run the same command again to continue\n"
    assert len(read(bootstrap, topic, delivered)) == delivered > 0


def test_ctrl_c_while_the_broker_does_not_respond() -> None:
    with listening("127.0.0.1", 0) as silent, interruptible():
        process = clients.start("produce", PAYMENTS, "--bootstrap", f"127.0.0.1:{silent.getsockname()[1]}")
        connection, _ = silent.accept()
        process.send_signal(signal.SIGINT)
        start = time.monotonic()
        output, errors = process.communicate(timeout=30)
        connection.close()
    assert time.monotonic() - start < 5
    assert (process.returncode, output, errors) == (2, "", "error: interrupted\n")


def test_unusable_brokers_are_one_line() -> None:
    port = free_port()
    refused = produce(PAYMENTS, "--bootstrap", f"127.0.0.1:{port}")
    assert_one_error(refused, f"error: no Kafka broker can be reached at 127.0.0.1:{port}: ")
    assert refused.stderr.endswith(f"Connection refused; start one with `make broker KAFKA_PORT={port}`\n")
    assert_one_error(produce(PAYMENTS, "--bootstrap", "nowhere.invalid:9092"), "Failed to resolve")


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ("nonsense", 'No such configuration property: "nonsense"'),
        ("MIIEvQIBADAN==", "line 1 is not a property of the form name=value"),
        ("security.protocol=none", 'Invalid value "none" for configuration property "security.protocol"'),
        ("acks=1", "sets acks, which this script needs to be all"),
        ("security.protocol=SSL\nssl.ca.location=/nowhere", "ssl.ca.location failed"),
        ("linger.ms=soon", "Invalid value for configuration property"),
    ],
)
def test_unusable_properties_are_one_line(bootstrap: str, tmp_path: Path, properties: str, message: str) -> None:
    file = tmp_path / "client.properties"
    file.write_text(properties)
    result = produce(PAYMENTS, "--bootstrap", bootstrap, "--properties", file)
    assert_one_error(result, message)
    assert "MII" not in result.stderr


def test_unusable_files_are_one_line(bootstrap: str, topic: str, tmp_path: Path) -> None:
    options = ("--bootstrap", bootstrap, "--topic", topic)
    (tmp_path / "empty").touch()
    assert_one_error(produce(tmp_path / "empty", *options), "empty contains no transactions")
    assert_one_error(produce(tmp_path / "missing", *options), "missing cannot be read: No such file or directory")
    missing = produce(PAYMENTS, *options, "--properties", tmp_path / "missing")
    assert_one_error(missing, "missing cannot be read: No such file or directory")


@pytest.mark.parametrize("rate", ["0", "-1", "1.5", "fast"])
def test_invalid_rate_is_refused(rate: str) -> None:
    result = produce(PAYMENTS, f"--rate={rate}")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.endswith(f"{rate!r} is not a positive integer\n")


def test_missing_packages_name_the_command_to_run() -> None:
    advice = "run `make install` once, then `.venv/bin/python events/produce.py`"
    assert_one_error(produce(PAYMENTS, python=("-S",)), f"error: this Python has no confluent_kafka: {advice}\n")
