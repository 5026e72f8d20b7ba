"""The command ``events/consume.py``, with a broker and a service that stands in for ``POST /score/batch``."""

import base64
import itertools
import json
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from tests import clients, mock_broker
from tests.clients import QuietHandler, assert_one_error, interruptible, serving, summary
from tests.local import broker
from tests.local.processes import free_port, listening
from tests.mock_broker import OFFSET_COMMIT

if TYPE_CHECKING:
    import subprocess

JSON = "application/json"
DROPPED = 0


@dataclass
class BatchService:
    """A service that decides each transaction once, by its key.

    Attributes
    ----------
    faults
        Responses to the next requests: status, body, headers; :data:`DROPPED` as status closes the connection.
    refuses
        Returns whether a whole batch is refused with a 400.
    requests
        The time and the items of each request.
    counts
        How often each key was decided or replayed.
    """

    url: str = ""
    pause: float = 0
    faults: deque[tuple[int, bytes, dict[str, str]]] = field(default_factory=deque)
    refuses: Callable[[bytes], bool] = lambda _body: False
    requests: list[tuple[float, list[bytes]]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def result(self, item: bytes) -> dict[str, Any]:
        try:
            transaction = json.loads(item)
            amount = transaction["amount"]
        except (ValueError, LookupError, TypeError) as error:
            return {"error": f"refused: {error}"}
        level = "CRITICAL" if amount > 5000 else "HIGH" if amount > 3000 else "LOW"
        self.counts[transaction["idempotency_key"]] += 1
        replayed = {"replayed": True} if self.counts[transaction["idempotency_key"]] > 1 else {}
        tx_id = transaction.get("tx_id", "unknown")
        return {"tx_id": tx_id, "risk_level": level, "score": 3, "triggered_rules": ["R1"]} | replayed


@pytest.fixture
def service() -> Iterator[BatchService]:
    service = BatchService()

    class Handler(QuietHandler):
        def get(self) -> None:
            self.respond(200 if self.path == "/health" else 404, b'{"status": "ok"}', Content_Type=JSON)

        def post(self) -> None:
            assert self.path == "/score/batch"
            assert self.headers["Content-Type"] == "application/x-ndjson"
            body = self.body()
            service.requests.append((time.monotonic(), body.split(b"\n")))
            time.sleep(service.pause)
            status, error, headers = service.faults.popleft() if service.faults else (200, b"", {})
            if status == DROPPED:
                self.close_connection = True
            elif status != 200 or error:
                self.respond(status, error, **headers)
            elif service.refuses(body):
                self.respond(400, b'{"error": "refused"}', Content_Type=JSON)
            else:
                results = [service.result(item) for item in body.split(b"\n") if item.strip()]
                self.respond(200, json.dumps({"results": results}).encode(), Content_Type=JSON)

    with serving(Handler) as service.url:
        yield service


@dataclass(frozen=True)
class Topic:
    """A topic and the service that scores it."""

    bootstrap: str
    name: str
    service: BatchService
    properties: Path

    def send(self, *values: str | bytes | None, partition: int = 0, **properties: Any) -> None:
        """Append records without a key to a partition."""
        producer = Producer({"bootstrap.servers": self.bootstrap, **properties})
        for value in values:
            producer.produce(self.name, value, partition=partition)
        assert producer.flush(30) == 0

    def options(self, *options: object) -> tuple[object, ...]:
        """Return the options of the command; the group is named after the topic unless there is another."""
        where = ("--bootstrap", self.bootstrap, "--topic", self.name, "--url", self.service.url)
        return (*where, "--properties", self.properties, "--group", self.name, *options)

    def consume(self, *options: object) -> "subprocess.CompletedProcess[str]":
        """Run the command until the end of the topic."""
        return clients.run("consume", *self.options("--until-end", *options))

    def committed(self) -> list[int]:
        """Return the committed offset of each partition, -1001 if there is none."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": self.name})
        places = consumer.committed([TopicPartition(self.name, partition) for partition in range(3)], timeout=30)
        consumer.close()
        return [place.offset for place in places]


@pytest.fixture
def payments(bootstrap: str, topic: str, service: BatchService, tmp_path: Path) -> Topic:
    properties = tmp_path / "consumer.properties"
    properties.write_text("".join(f"{name}={value}\n" for name, value in broker.CONSUMER_PROPERTIES.items()))
    return Topic(bootstrap, topic, service, properties)


def messages(result: "subprocess.CompletedProcess[str]") -> list[str]:
    """Return the lines on standard error after the first, which says what the command reads."""
    first, *lines = result.stderr.splitlines()
    assert first.startswith("reading payments")
    return lines


def transactions(count: int, start: int = 0) -> list[str]:
    return [json.dumps({"tx_id": f"T{number}", "amount": 1}) for number in range(start, start + count)]


def test_alerts_and_refused_records(payments: Topic, tmp_path: Path) -> None:
    payments.send('{"tx_id": "A", "amount": 20}', "{oops", '{"tx_id": "B", "amount": 3500.5}', "[1]")
    payments.send('{"tx_id": "C"}', '{"tx_id": "D", "amount": 9000}', None, "", " \n", "\u00a0", partition=2)
    letters = tmp_path / "dead.jsonl"
    result = payments.consume("--dead-letters", letters)
    assert result.returncode == 1
    assert "B                 3500.50  HIGH       3  R1\n" in result.stdout
    assert "D                 9000.00  CRITICAL   3  R1\n" in result.stdout
    assert "A  " not in result.stdout
    assert summary(result.stdout) == {"CRITICAL": 1, "HIGH": 1, "MEDIUM": 0, "LOW": 1, "failed": 7}
    problems = sorted(messages(result))
    assert [problem.partition(": ")[0] for problem in problems] == [
        *(f"{payments.name} partition 0 offset {offset}" for offset in (1, 3)),
        *(f"{payments.name} partition 2 offset {offset}" for offset in (0, 2, 3, 4, 5)),
    ]
    assert problems[2].endswith(": refused: 'amount'")
    empty = ["The body is empty; it must be a JSON document"] * 3
    assert [problem.partition(": ")[2] for problem in problems[3:]] == ["The record has no value", *empty]
    kept = sorted(map(json.loads, letters.read_text().splitlines()), key=lambda one: (one["partition"], one["offset"]))
    assert [(one["partition"], one["offset"], one["topic"]) for one in kept] == [
        (partition, offset, payments.name)
        for partition, offset in ((0, 1), (0, 3), (2, 0), (2, 2), (2, 3), (2, 4), (2, 5))
    ]
    assert kept[0]["value"] == base64.b64encode(b"{oops").decode()
    assert kept[3]["value"] is None
    assert kept[2]["reason"] == "refused: 'amount'"
    assert payments.committed() == [4, -1001, 6]
    again = payments.consume()
    assert (again.returncode, again.stdout) == (0, "")
    assert len(payments.service.requests) == 1


def test_item_is_the_record_with_its_key(payments: Topic) -> None:
    producer = Producer({"bootstrap.servers": payments.bootstrap})
    for value, headers in (
        (b'{"amount":1.50,"store":"a\\nb\xc5\x81"}', []),
        (
            b'\r\n {\n "amount" : 1e2\r\n}\n',
            [("idempotency_key", b"old"), ("idempotency_key", b"order-17"), ("x", b"y")],
        ),
        (b"{ }", [("idempotency_key", b'"\xff')]),
        (b'{"store":"a\nb","amount":1}', []),
        (b'{"amount":1', []),
        (b'{"store":"a}', []),
    ):
        producer.produce(payments.name, value, partition=1, headers=cast("Any", headers))
    assert producer.flush(30) == 0
    payments.consume()
    ((_, items),) = payments.service.requests
    assert items == [
        f'{{"amount":1.50,"store":"a\\nbŁ","idempotency_key":"{payments.name}-1-0"}}'.encode(),
        b'{\t "amount" : 1e2\t\t,"idempotency_key":"order-17"}',
        b'{ "idempotency_key":"\\"\\ufffd"}',
        f'{{"store":"a\tb","amount":1,"idempotency_key":"{payments.name}-1-3"}}'.encode(),
        b'{"amount":1',
        f'{{"store":"a,"idempotency_key":"{payments.name}-1-5"}}'.encode(),
    ]


def test_pauses_grow_while_the_service_is_unavailable(payments: Topic) -> None:
    payments.service.faults += [
        (503, b'{"error": "later"}', {"Content-Type": JSON}),
        (DROPPED, b"", {}),
        (429, b"slow", {"Retry-After": "2", "Content-Type": "text/html"}),
        (502, b"<html>", {"Content-Type": "text/html"}),
    ]
    payments.send(*transactions(3))
    result = payments.consume()
    assert result.returncode == 0
    times, items = zip(*payments.service.requests, strict=True)
    assert len({tuple(one) for one in items}) == 1
    pauses = [after - before for before, after in itertools.pairwise(times)]
    for pause, (shortest, longest) in zip(pauses, ((0.25, 0.5), (0.5, 1), (3, 4), (2, 4)), strict=True):
        assert shortest <= pause < longest + 1  # a busy machine may add something
    problems = messages(result)
    assert problems[0].startswith(f'{payments.service.url} responds 503 {{"error": "later"}}; next attempt in 0.')
    assert "cannot be reached: Remote end closed connection without response; next attempt in " in problems[1]
    assert " responds 429 slow; next attempt in " in problems[2]
    assert payments.committed() == [3, -1001, -1001]


@pytest.mark.parametrize(
    ("status", "body", "headers", "message"),
    [
        (401, b'{"message":"Unauthorized"}', {"Content-Type": JSON}, "requires --sign or --token"),
        (403, b'{"message":"Forbidden"}', {"Content-Type": JSON}, "requires --sign or --token"),
        (404, b'{"error":"No"}', {"Content-Type": JSON}, "/score/batch is not a scoring service (404 {"),
        (301, b"", {"Location": "https://example.org/x"}, "redirects to https://example.org/x: pass that address"),
        (415, b'{"error":"No"}', {"Content-Type": JSON}, '/score/batch responds 415 {"error":"No"}'),
        (413, b"<html>", {"Content-Type": "text/html"}, "/score/batch responds 413 <html>"),
        (400, b'{"message":"Bad Request"}', {"Content-Type": JSON}, '/score/batch responds 400 {"message":"Bad'),
        (200, b"<html>", {"Content-Type": "text/html"}, "is not a scoring service (200 <html>)"),
        (200, b'{"results": 5}', {"Content-Type": JSON}, "is not a scoring service (200 {"),
        (200, b'{"results": []}', {"Content-Type": JSON}, "responds with 0 results to 1 records"),
        (200, b'{"results": [{"risk_level": "NONE"}]}', {"Content-Type": JSON}, "is not a scoring service"),
    ],
)
def test_error_of_every_batch_stops(
    payments: Topic, status: int, body: bytes, headers: dict[str, str], message: str
) -> None:
    payments.service.faults.append((status, body, headers))
    payments.send(*transactions(1))
    result = payments.consume()
    assert (result.returncode, result.stdout) == (2, "")
    (problem,) = messages(result)
    assert problem.startswith("error: ")
    assert message in problem
    assert payments.committed() == [-1001] * 3
    # Nothing is lost.
    assert summary(payments.consume().stdout)["LOW"] == 1


def test_function_that_always_fails_stops_after_five_attempts(payments: Topic) -> None:
    payments.service.faults += [(500, b'{"message":"Internal Server Error"}', {"Content-Type": JSON})] * 5
    payments.send(*transactions(1))
    result = payments.consume()
    assert result.returncode == 2
    assert messages(result)[-1].endswith('/score/batch responds 500 {"message":"Internal Server Error"}')
    assert len(payments.service.requests) == 5
    assert payments.committed() == [-1001] * 3


def test_record_that_spoils_its_batch_is_found(payments: Topic) -> None:
    payments.service.refuses = lambda body: b"poison" in body
    payments.send(*transactions(20), '{"store": "poison"}', *transactions(30, start=20))
    result = payments.consume()
    assert (result.returncode, messages(result)) == (
        1,
        [f'{payments.name} partition 0 offset 20: {{"error": "refused"}}'],
    )
    assert summary(result.stdout)["LOW"] == len(payments.service.counts) == 50
    assert payments.committed()[0] == 51


def test_oversized_record_does_not_fail_its_batch(payments: Topic) -> None:
    large = json.dumps({"amount": 1, "store": "x" * 5_000_000})
    # Each is accepted, but four are more than a batch may have.
    medium = [json.dumps({"amount": 1, "store": "x" * 1_500_000})] * 4
    payments.send("{}", large, *medium, '{"amount": 2}', **{"message.max.bytes": 10_000_000})
    result = payments.consume()
    assert messages(result)[1] == f"{payments.name} partition 0 offset 1: The record is larger than 4194304 bytes"
    assert summary(result.stdout) == {"CRITICAL": 0, "HIGH": 0, "MEDIUM": 0, "LOW": 5, "failed": 2}
    assert max(sum(map(len, items)) for _, items in payments.service.requests) < 4 * 1024 * 1024


def test_killed_consumer_loses_nothing_and_counts_nothing_twice(payments: Topic) -> None:
    payments.service.pause = 0.1
    for partition in range(3):
        payments.send(*transactions(500, start=500 * partition), partition=partition)
    for kill in range(3):
        requests = len(payments.service.requests)
        process = clients.start("consume", *payments.options("--batch-size", 50))
        while len(payments.service.requests) < requests + 4:
            time.sleep(0.02)
            assert process.poll() is None
        process.kill()
        output, errors = process.communicate()
        assert errors.startswith("reading "), (kill, output, errors)
    payments.service.pause = 0
    result = payments.consume()
    assert result.returncode == 0
    assert len(payments.service.counts) == 1500
    assert payments.committed() == [500, 500, 500]
    assert 0 < summary(result.stdout)["LOW"] < 1500


def test_ctrl_c_commits_what_was_scored(payments: Topic) -> None:
    payments.send(*transactions(100))
    payments.service.pause = 0.5
    with interruptible():
        process = clients.start("consume", *payments.options("--batch-size", 10))
    while len(payments.service.requests) < 3:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert len(errors.splitlines()) == 1
    # The last batch was complete although its response came later.
    assert summary(output)["LOW"] == payments.committed()[0] == len(payments.service.counts) < 40


def test_ctrl_c_ends_a_pause(payments: Topic) -> None:
    payments.send(*transactions(1))
    payments.service.faults.append((503, b"{}", {"Retry-After": "120", "Content-Type": JSON}))
    with interruptible():
        process = clients.start("consume", *payments.options())
    assert process.stderr
    assert process.stderr.readline().startswith("reading ")
    assert "next attempt in 120." in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    assert (process.returncode, output, errors) == (0, "", "")


def test_ctrl_c_while_the_broker_does_not_respond(payments: Topic) -> None:
    with listening("127.0.0.1", 0) as silent, interruptible():
        bootstrap = f"127.0.0.1:{silent.getsockname()[1]}"
        process = clients.start("consume", *payments.options("--bootstrap", bootstrap))
        connection, _ = silent.accept()
        process.send_signal(signal.SIGINT)
        start = time.monotonic()
        output, errors = process.communicate(timeout=30)
        connection.close()
    assert time.monotonic() - start < 5
    assert (process.returncode, output, errors) == (0, "", "")


def test_second_ctrl_c_stops_at_once(payments: Topic) -> None:
    payments.send(*transactions(1))
    payments.service.pause = 15
    with interruptible():
        process = clients.start("consume", *payments.options())
    while not payments.service.requests:
        time.sleep(0.02)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
    start = time.monotonic()
    assert process.wait(timeout=30) == 2
    assert time.monotonic() - start < 5
    process.communicate()


def test_progress_with_rate_and_lag(payments: Topic) -> None:
    payments.send(*transactions(12))
    payments.service.pause = 0.6
    result = payments.consume("--batch-size", 1)
    progress = messages(result)[0]
    number = int(progress.split()[0])
    assert 5 <= number <= 9
    assert progress.endswith(f"/s), lag {12 - number}, 0 alerts, 0 failed, 0 replayed")


def test_replayed_alerts_are_marked(payments: Topic) -> None:
    payments.send('{"tx_id": "A", "amount": 3500}')
    assert "replayed" not in payments.consume().stdout
    again = payments.consume("--group", f"{payments.name}-2").stdout
    assert "A                 3500.00  HIGH       3  R1  (replayed)\n" in again
    assert again.splitlines()[-1] == "replayed        1  already recorded, not counted again"


def test_consumers_of_a_group_share_the_topic(payments: Topic) -> None:
    payments.service.pause = 0.05
    for partition in range(3):
        payments.send(*transactions(600, start=600 * partition), partition=partition)
    with interruptible():
        processes = [clients.start("consume", *payments.options("--batch-size", 20)) for _ in range(2)]
    deadline = time.monotonic() + 60
    while len(payments.service.counts) < 1800:
        time.sleep(0.05)
        assert time.monotonic() < deadline
    time.sleep(0.5)
    for process in processes:
        process.send_signal(signal.SIGINT)
    for process in processes:
        output, errors = process.communicate(timeout=30)
        assert (process.returncode, "Traceback" in errors) == (0, False), (output, errors)
    assert payments.committed() == [600, 600, 600]


def test_offsets_that_are_not_committed_are_a_warning(service: BatchService, tmp_path: Path) -> None:
    with mock_broker.running() as brokers:
        brokers.create_topic("payments")
        brokers.fail(OFFSET_COMMIT, KafkaError.GROUP_AUTHORIZATION_FAILED)
        payments = Topic(brokers.bootstrap, "payments", service, tmp_path / "none.properties")
        payments.properties.touch()
        payments.send(*transactions(1))
        result = payments.consume()
    assert result.returncode == 0
    (warning,) = messages(result)
    assert warning.startswith("offsets are not committed: Commit failed: Broker: Group authorization failed; ")


def test_unusable_service_is_one_line(payments: Topic) -> None:
    port = free_port()
    dead = clients.run("consume", *payments.options("--url", f"http://127.0.0.1:{port}"))
    assert_one_error(
        dead, f"http://127.0.0.1:{port} cannot be reached: Connection refused; start the service with `make run"
    )
    wrong = clients.run("consume", *payments.options("--url", f"{payments.service.url}/prod"))
    assert_one_error(wrong, "/prod/health is not a scoring service (404 ")
    assert_one_error(clients.run("consume", *payments.options("--token"), TOKEN=""), "--token needs a token")
    assert_one_error(clients.run("consume", *payments.options("--sign"), AWS_PROFILE="nobody"), "AWS credentials")


def test_unusable_topic_broker_or_file_is_one_line(payments: Topic, tmp_path: Path) -> None:
    missing = clients.run("consume", *payments.options("--topic", "none"))
    assert_one_error(missing, f"error: there is no topic none at {payments.bootstrap}\n")
    refused = clients.run("consume", *payments.options("--bootstrap", f"127.0.0.1:{free_port()}"))
    assert_one_error(refused, "Connection refused; start one with `make broker")
    unwritable = clients.run("consume", *payments.options("--dead-letters", tmp_path))
    assert_one_error(unwritable, f"{tmp_path} cannot be written: Is a directory")
    payments.properties.write_text("enable.auto.commit=true")
    assert_one_error(payments.consume(), "sets enable.auto.commit, which this script needs to be false")


def test_full_disk_stops_before_the_commit(payments: Topic) -> None:
    payments.send("{oops")
    result = payments.consume("--dead-letters", "/dev/full")
    assert result.returncode == 2
    assert "error: /dev/full cannot be written: " in messages(result)[-1]
    assert payments.committed() == [-1001] * 3


@pytest.mark.parametrize("size", ["0", "1001", "many"])
def test_invalid_batch_size_is_refused(size: str) -> None:
    result = clients.run("consume", f"--batch-size={size}")
    assert (result.returncode, result.stdout) == (2, "")
    assert "argument --batch-size: " in result.stderr
