"""The Kafka broker of ``make broker`` behaves like a broker in what the clients' tests rely on."""

import signal
import subprocess

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from tests.local import broker, processes
from tests.local.environments import APP_PYTHON
from tests.local.processes import StartError
from tests.local.template import ROOT

_RECORDS = 100


def test_broker_keeps_order_within_a_partition() -> None:
    with broker.running() as bootstrap:
        broker.create_topic(bootstrap, "payments", partitions=3)
        producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
        for number in range(_RECORDS):
            producer.produce("payments", str(number), key=f"customer {number % 10}", headers={"n": str(number)})
        assert producer.flush(30) == 0
        consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "test",
                "auto.offset.reset": "earliest",
                **broker.CONSUMER_PROPERTIES,
            }
        )
        consumer.subscribe(["payments"])
        numbers: dict[int, list[int]] = {}
        while sum(map(len, numbers.values())) < _RECORDS:
            for message in consumer.consume(_RECORDS, timeout=30):
                assert message.headers() == [("n", message.value())]
                numbers.setdefault(message.partition() or 0, []).append(int(message.value() or b""))
        consumer.close()
    assert len(numbers) == 3
    assert sorted(number for one in numbers.values() for number in one) == list(range(_RECORDS))
    assert all(one == sorted(one) for one in numbers.values())


def test_topic_has_its_partitions_and_is_created_once() -> None:
    with broker.running() as bootstrap:
        broker.create_topic(bootstrap, "payments", partitions=5)
        assert len(AdminClient({"bootstrap.servers": bootstrap}).list_topics().topics["payments"].partitions) == 5
        with pytest.raises(StartError, match="payments cannot be created"):
            broker.create_topic(bootstrap, "payments", partitions=5)


def test_port_in_use_is_one_sentence() -> None:
    with broker.running() as bootstrap:
        port = bootstrap.rpartition(":")[2]
        command = [str(APP_PYTHON), "-m", "tests.local.broker", "--port", port]
        refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert refused.returncode == 1
    assert refused.stderr == f"error: port {port} on 127.0.0.1 cannot be used: Address already in use\n"


def test_ctrl_c_ends_the_command_and_its_broker() -> None:
    port = processes.free_port()
    command = [str(APP_PYTHON), "-m", "tests.local.broker", "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline().startswith(f"Kafka broker at 127.0.0.1:{port}")
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    assert (output, errors, process.returncode) == ("", "", 0)
    processes.listening("127.0.0.1", port).close()
