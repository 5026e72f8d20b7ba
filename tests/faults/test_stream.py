"""Faults in the stream: each record is decided, counted and alerted, or is in the dead-letter queue, whatever fails.

``make faults`` runs at full length; ``make test`` sends fewer records and has shorter outages.
"""

import base64
import itertools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message, Producer

from scoring.assessment import HIGH_RISK_LEVELS
from tests import payments
from tests.faults.harness import Harness
from tests.faults.proxy import Down, Fault
from tests.faults.stream_poller import Configuration
from tests.local import alerts, broker, emulator, event_sources, template
from tests.local.processes import end, end_with_parent

TOPIC, PARTITIONS = "transactions", 3
DEAD_LETTERS = "StreamDeadLetterQueue"
ROWS_PER_BAD_RECORD = 100
TIMEOUT_SECONDS = 120
CARD = "4929-1234"
# Values that can never be scored, and headers.
BAD_RECORDS: list[tuple[bytes | None, dict[str, str | bytes | None]]] = [
    (None, {}),
    (b"", {}),
    (b'{"amount": 12.5, "store": "4929-1234"', {}),
    (b'[{"amount": 12.5, "store": "4929-1234"}]', {}),
    (b'"4929-1234"', {}),
    (b'{"amount": 12.5, "store": "4929-1234\xff"}', {}),
    (b'{"amount": NaN, "store": "4929-1234"}', {}),
    (b'{"amount": "12.5", "store": "4929-1234"}', {}),
    (b'{"store": "4929-1234"}', {}),
    (b'{"amount": 12.5, "store": "4929-1234"}', {"idempotency_key": b"4929-1234 \xff"}),
]

Position = tuple[int, int]


@dataclass
class Produced:
    """The records in the topic, by partition and offset."""

    good: dict[Position, dict[str, Any]] = field(default_factory=dict)
    bad: dict[Position, bytes | None] = field(default_factory=dict)

    @property
    def expected(self) -> dict[str, dict[str, Any]]:
        """Score, level and rules of each decision, by its id."""
        return {f"{TOPIC}-{partition}-{offset}": payments.assess(row) for (partition, offset), row in self.good.items()}


def produce(bootstrap: str, count: int) -> Produced:
    """Send rows at full speed, one bad record per hundred among them."""
    produced = Produced()
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})

    def deliver(to: dict[Position, Any], content: Any) -> Callable[[Any, Message], None]:
        def delivered(error: Any, message: Message) -> None:
            assert error is None
            to[message.partition() or 0, message.offset() or 0] = content

        return delivered

    bad = itertools.cycle(BAD_RECORDS)
    for number, row in enumerate(payments.rows(count)):
        key = row["customer_id"]
        producer.produce(TOPIC, json.dumps(row), key=key, on_delivery=deliver(produced.good, row))
        if number % ROWS_PER_BAD_RECORD == 0:
            value, headers = next(bad)
            producer.produce(TOPIC, value, key=key, headers=headers, on_delivery=deliver(produced.bad, value))
        producer.poll(0)
    assert producer.flush(TIMEOUT_SECONDS) == 0
    assert len(produced.good) == count
    return produced


class Pollers:
    """Starts pollers, one at a time, and reads their journal."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.stream_poller", json.dumps(self._configuration)],
            cwd=template.ROOT,
            preexec_fn=end_with_parent,  # noqa: PLW1509  calls one system call
        )

    def kill(self) -> None:
        assert self._process
        assert self._process.poll() is None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def end(self) -> None:
        if self._process:
            end(self._process)

    def deliveries(self) -> list[tuple[dict[str, list[int]], Any]]:
        """Return the lines of the journal: offsets by partition, and the result of the function."""
        path = Path(self._configuration.journal)
        lines = path.read_text(encoding="utf-8").splitlines()
        return [tuple(json.loads(line)) for line in lines]

    def times_delivered(self) -> dict[tuple[str, int], int]:
        """Return how often the function got each record."""
        times: dict[tuple[str, int], int] = {}
        for offsets, result in self.deliveries():
            if result is None:
                for name, of in offsets.items():
                    for offset in of:
                        times[name, offset] = times.get((name, offset), 0) + 1
        return times


@dataclass(frozen=True)
class Stream:
    """A topic with its pollers, and the alerts that have arrived."""

    harness: Harness
    bootstrap: str
    pollers: Pollers
    alerted: list[alerts.Alert]
    log: Path

    def recorded(self) -> int:
        """Return the number of decisions that are counted."""
        response = self.harness.get("StatsFunction", "stats")
        return int(json.loads(response["body"])["total"]) if response["statusCode"] == 200 else 0

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not condition():
            assert time.monotonic() < deadline, (self.recorded(), self.log.read_text()[-2000:])
            time.sleep(0.1)

    def dead_letters(self) -> dict[Position, Any]:
        """Receive all dead letters; return them by partition and offset."""
        letters = {}
        while messages := self.harness.sqs.receive_message(
            QueueUrl=DEAD_LETTERS, MaxNumberOfMessages=10, VisibilityTimeout=600
        ).get("Messages"):
            for message in messages:
                letter = json.loads(message["Body"])
                letters[letter["partition"], letter["offset"]] = letter
        return letters

    def check(self, produced: Produced) -> None:
        """Wait for all records and alerts; fail if one is missing, duplicated, wrong or out of order."""
        expected = produced.expected
        high = {key for key, one in expected.items() if one["risk_level"] in HIGH_RISK_LEVELS}
        assert high
        self.wait_for(lambda: self.recorded() >= len(expected))
        self.wait_for(lambda: high <= {alert["decision_id"] for alert in self.alerted})
        letters = {}

        def all_dead() -> bool:
            letters.update(self.dead_letters())
            return letters.keys() >= produced.bad.keys()

        self.wait_for(all_dead)
        recorded = self.harness.recorded()
        assert {key: {name: one[name] for name in expected[key]} for key, one in recorded.items()} == expected
        assert self.recorded() == len(expected)
        self.harness.check_counts()
        assert letters.keys() == produced.bad.keys()
        for position, value in produced.bad.items():
            sent = None if value is None else base64.b64encode(value).decode()
            assert letters[position]["topic"] == TOPIC
            assert letters[position]["value"] == sent
            assert letters[position]["reason"]
        assert {alert["decision_id"] for alert in self.alerted} == high
        for alert in self.alerted:
            assert alert.items() >= expected[alert["decision_id"]].items()
        assert len({alert["alert_id"] for alert in self.alerted}) == len(high)
        self.check_order()
        contents = {CARD, *(base64.b64encode(value).decode() for value in produced.bad.values() if value)}
        for log in (self.log, self.harness.log):
            assert not [content for content in contents if content in log.read_text()]

    def check_order(self) -> None:
        """Fail if a record was delivered before its predecessor in the partition was handled."""
        handled: dict[str, int] = {}
        for offsets, result in self.pollers.deliveries():
            for name, of in offsets.items():
                assert of == list(range(of[0], of[-1] + 1))
                assert of[0] <= handled.get(name, 0)
            if result is None or "errorType" in result:
                continue
            failed = {one["itemIdentifier"]["partition"]: one["itemIdentifier"]["offset"] for one in _failures(result)}
            for name, of in offsets.items():
                handled[name] = max(handled.get(name, 0), failed.get(name, of[-1] + 1))


def _failures(result: dict[str, Any]) -> list[Any]:
    failures: list[Any] = result["batchItemFailures"]
    return failures


@contextmanager
def running(harness: Harness, folder: Path, batch_size: int, *, partial: bool) -> Iterator[Stream]:
    """Start the broker and the alert function; :attr:`Stream.pollers` has no poller yet."""
    alerted: list[alerts.Alert] = []
    layer = template.copy_layer(folder / "layer", json.loads(payments.RULES.read_text(encoding="utf-8")))
    log = folder / "stream.log"
    with ExitStack() as stack:
        bootstrap = stack.enter_context(broker.running())
        broker.create_topic(bootstrap, TOPIC, PARTITIONS)
        stack.enter_context(alerts.receiving(harness.endpoint, alerted.append))
        stack.enter_context(event_sources.running(harness.endpoint, harness.functions.invoke))
        mapping = template.kafka_mapping(bootstrap, TOPIC, pollers=int(partial)) | {"BatchSize": batch_size}
        variables = emulator.variables(harness.store.endpoint, harness.queue.endpoint)
        variables["PARTIAL_RESPONSES"] = "true" if partial else "false"
        pollers = Pollers(Configuration(mapping, variables, str(layer), str(log), str(folder / "journal")))
        stack.callback(pollers.end)
        yield Stream(harness, bootstrap, pollers, alerted, log)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize by every fault and outage, or by those that differ most in the short form."""
    full = metafunc.config.getoption("--full")
    kinds: dict[str, Any] = {
        "fault": Fault if full else (Fault.REPLY_DROPPED, Fault.CALL_LATE, Fault.CONFLICT),
        "how": Down if full else (Down.REFUSING, Down.SILENT),
    }
    for name in kinds.keys() & metafunc.fixturenames:
        metafunc.parametrize(name, kinds[name], ids=lambda kind: kind.name.lower())


@pytest.mark.parametrize("partial", [True, False], ids=["partial responses", "whole batches"])
def test_killed_pollers_and_repeated_batches_lose_and_double_nothing(
    harness: Harness, tmp_path: Path, *, full: bool, partial: bool
) -> None:
    count, kills, batch_size = (20_000, 5, 500) if full else (2000, 2, 100)
    with running(harness, tmp_path, batch_size, partial=partial) as stream:
        stream.pollers.start()
        produced = produce(stream.bootstrap, count)
        for number in range(1, kills + 1):
            stream.wait_for(lambda number=number: stream.recorded() >= count * number / (kills + 2))  # type: ignore[misc]
            stream.pollers.kill()
            stream.pollers.start()
        stream.check(produced)
        assert max(stream.pollers.times_delivered().values()) > 1


def test_store_outage_in_the_middle_loses_and_doubles_nothing(
    harness: Harness, tmp_path: Path, how: Down, *, full: bool
) -> None:
    count, seconds = (20_000, 30) if full else (2000, 3)
    with running(harness, tmp_path, 100, partial=True) as stream:
        stream.pollers.start()
        produced = produce(stream.bootstrap, count)
        stream.wait_for(lambda: stream.recorded() >= count / 10)
        with harness.store.down(how):
            time.sleep(seconds / 2)
            before = len(harness.recorded())
            time.sleep(seconds / 2)
            assert len(harness.recorded()) == before < count
        stream.check(produced)


def test_faults_on_the_wire_lose_and_double_nothing(
    harness: Harness, tmp_path: Path, fault: Fault, *, full: bool
) -> None:
    count = 3000 if full else 500
    with running(harness, tmp_path, 50, partial=True) as stream:
        harness.store.inject(fault, 0.1, seed=1)
        harness.queue.inject(fault, 0.1, seed=2)
        if fault in {Fault.REPLY_DROPPED, Fault.REPLY_LATE, Fault.CALL_LATE, Fault.REFUSED}:
            harness.topic.inject(fault, 0.1, seed=3)
        stream.pollers.start()
        produced = produce(stream.bootstrap, count)
        stream.wait_for(lambda: len(harness.recorded()) >= count)
        harness.store.clear()
        harness.queue.clear()
        stream.check(produced)
