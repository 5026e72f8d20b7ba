#!/usr/bin/env python3
"""Score the transactions of a Kafka topic and print alerts.

    python events/consume.py                          read the topic transactions of `make broker`, score in `make run`
    python events/consume.py --until-end              stop at the end of the topic
    python events/consume.py --bootstrap HOST:PORT --topic NAME --properties FILE --url ADDRESS --sign

A record is the JSON of one transaction. Records are sent in batches to POST /score/batch; the decisions that are HIGH
or CRITICAL are printed. Offsets are committed after the response. The idempotency key of a record is its header
idempotency_key or, without one, TOPIC-PARTITION-OFFSET, so a record that is read again is not counted again.

Records that the service refuses are printed to standard error and do not hold up others. The script waits and tries
again while the service is unavailable. Ctrl-C stops it; run the same command again to continue. The exit code is 1 if a
record was refused, and 2 if the service or the brokers cannot be used. More in events/README.md.
"""

import argparse
import base64
import hashlib
import json
import os
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from http import HTTPStatus
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

# A script finds only the modules in its own folder.
sys.path.insert(0, str(Path(__file__).parents[1]))
from events import command
from events.command import Interrupt, UnusableError, printable, shown
from events.decisions import HEADINGS, Tally, is_decision, line

with command.packages():
    from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

    from events import kafka, service
    from events.kafka import KEY_HEADER, BrokerErrors, explain
    from events.service import NO_RETRIES, Service, UnreachableError

if TYPE_CHECKING:
    import requests

PATH = "/score/batch"
MAX_RECORDS = 1_000
# API Gateway encodes JSON Lines in base64, and Lambda accepts 6 MiB.
MAX_BATCH_BYTES = 4 * 1024 * 1024
# The limit of the service. A proxy may refuse a larger one with a page of its own.
MAX_TRANSACTION_BYTES = 64 * 1024
# Room for the longest valid key in JSON, with its name
MAX_KEY_BYTES = 300
# With the longest partition and offset, "-2147483647-9223372036854775807", a key has 128 characters.
MAX_TOPIC_LENGTH = 97
LINGER_SECONDS = 0.2
# Longer than API Gateway's
TIMEOUT_SECONDS = 35
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
LONGEST_RETRY_AFTER_SECONDS = 300.0
PROGRESS_SECONDS = 5
ALERT_LEVELS = ("CRITICAL", "HIGH")
RETRIED = {
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}
# Consecutive 500 responses after which the function is not expected to recover
MAX_FAILURES = 5
# Errors of a whole batch that one of its records may have caused
DIVISIBLE = {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE}
DEFAULT_GROUP = "risk-scoring"
DEFAULTS = {
    "group.id": DEFAULT_GROUP,
    "auto.offset.reset": "earliest",
    # The minimum that brokers accept by default, so that a group soon continues after a consumer is killed.
    "session.timeout.ms": "6000",
    "heartbeat.interval.ms": "1500",
}
REQUIRED = {"enable.auto.commit": "false", "enable.partition.eof": "true"}

Place = tuple[str, int]


class Record(NamedTuple):
    """A record of the topic, with the idempotency key of its transaction."""

    topic: str
    partition: int
    offset: int
    value: bytes | None
    key: str

    @classmethod
    def of(cls, message: Message) -> "Record":
        topic, partition, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
        headers = cast("list[tuple[str, bytes | None]]", message.headers() or [])
        keys = [value or b"" for name, value in headers if name == KEY_HEADER]
        key = keys[-1].decode(errors="replace") if keys else f"{_short(topic)}-{partition}-{offset}"
        return cls(topic, partition, offset, message.value(), key)

    def __str__(self) -> str:
        return f"{self.topic} partition {self.partition} offset {self.offset}"

    @property
    def place(self) -> Place:
        return self.topic, self.partition

    def item(self) -> bytes:
        """Return the line of JSON Lines to send: the value with its key; empty if there is no value."""
        # In JSON, a line break is either white space, like a tab, or invalid, like a tab.
        text = (self.value or b"").replace(b"\n", b"\t").replace(b"\r", b"\t").strip(b" \t")
        if not (text.startswith(b"{") and text.endswith(b"}")):
            return text  # never a transaction, so it needs no key
        # At the end, so that an error of the service names the right column
        key = b'"idempotency_key":' + json.dumps(self.key).encode()
        return text[:-1] + (b"," if text[1:-1].strip(b" \t") else b"") + key + b"}"


# A decision, or the error of a record
Outcome = dict[str, Any] | str


class Scoring:
    """Sends batches of records to the service until there is a response.

    Parameters
    ----------
    to
        The service.
    interrupt
        Ends the pauses between attempts.
    """

    def __init__(self, to: Service, interrupt: Interrupt) -> None:
        self._to = to
        self._interrupt = interrupt

    def check(self) -> None:
        """Raise :class:`UnusableError` if the service does not respond."""
        self._to.check(self._to.request("GET", "/health"), "/health")

    def score(self, records: list[Record]) -> list[Outcome]:
        """Return the outcomes of a batch in order.

        Raises
        ------
        UnusableError
            Every other batch would fail as well.
        KeyboardInterrupt
            The user ended the wait for the next attempt.
        """
        items = [record.item() for record in records]
        # The service skips blank lines.
        sendable = [bool(item.decode(errors="replace").strip()) and len(item) <= MAX_BATCH_BYTES for item in items]
        outcomes = iter(self._send([item for item, send in zip(items, sendable, strict=True) if send]))
        return [
            next(outcomes) if send else _problem(record, item)
            for record, item, send in zip(records, items, sendable, strict=True)
        ]

    def _send(self, items: list[bytes]) -> list[Outcome]:
        if not items:
            return []
        response = self._post(b"\n".join(items))
        status, text = response.status_code, shown(response.text)
        if status in DIVISIBLE and len(items) > 1:
            middle = len(items) // 2
            return self._send(items[:middle]) + self._send(items[middle:])
        if status in DIVISIBLE and (_is_error(response) or len(items[0]) > MAX_TRANSACTION_BYTES):
            return [text]
        if status != HTTPStatus.OK:
            raise UnusableError(f"{self._to.url}{PATH} responds {status} {text}")
        try:
            results = response.json()["results"]
            outcomes = [one if is_decision(one) else str(one["error"]) for one in results]
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise UnusableError(
                f"{self._to.url}{PATH} is not a scoring service ({status} {text}): check --url"
            ) from error
        if len(outcomes) != len(items):
            raise UnusableError(f"{self._to.url}{PATH} responds with {len(outcomes)} results to {len(items)} records")
        return outcomes

    def _post(self, body: bytes) -> "requests.Response":
        """Return a response that is final; wait and send again while the service is unavailable."""
        longest = FIRST_PAUSE_SECONDS
        failures = 0
        while True:
            asked = 0.0
            try:
                response = self._to.post(PATH, body, {"content-type": "application/x-ndjson"}, TIMEOUT_SECONDS)
            except UnreachableError as error:
                problem = str(error)
            else:
                status = response.status_code
                failures = failures + 1 if status == HTTPStatus.INTERNAL_SERVER_ERROR else 0
                if status not in RETRIED and not 0 < failures < MAX_FAILURES:
                    return response
                problem = f"{self._to.url} responds {status} {shown(response.text)}"
                asked = service.retry_after(response, LONGEST_RETRY_AFTER_SECONDS)
            # At least half of the pause, so that it grows; the rest is random, so that consumers spread.
            pause = asked + random.uniform(longest / 2, longest)
            print(f"{problem}; next attempt in {pause:.1f} s", file=sys.stderr)
            self._wait(pause)
            longest = min(2 * longest, LONGEST_PAUSE_SECONDS)

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._interrupt.check()
            time.sleep(min(left, 0.1))


def _short(topic: str) -> str:
    """Return a topic's name or, if its keys could exceed 128 characters, a hash of it, as the stream function does."""
    return topic if len(topic) <= MAX_TOPIC_LENGTH else hashlib.sha256(topic.encode()).hexdigest()[:32]


def _is_error(response: "requests.Response") -> bool:
    """Return whether a response has an error of the service; a gateway or proxy has its own format."""
    try:
        body = response.json()
    except (ValueError, RecursionError):
        return False
    return isinstance(body, dict) and body.keys() == {"error"} and isinstance(body["error"], str)


def _problem(record: Record, item: bytes) -> str:
    """Return why a record is not sent; if the service has an error for it, in the same words."""
    if record.value is None:
        return "The record has no value"
    if len(item) > MAX_BATCH_BYTES:
        return f"The record is larger than {MAX_BATCH_BYTES} bytes"
    return "The body is empty; it must be a JSON document"


class Stream:
    """Reads a topic as a member of a consumer group, and tracks its position."""

    def __init__(self, consumer: Consumer, topic: str, errors: BrokerErrors) -> None:
        self._consumer = consumer
        self._errors = errors
        # The next offset to commit of each assigned partition; None if the group has none yet
        self._next: dict[Place, int | None] = {}
        self._ended: set[Place] = set()
        consumer.subscribe([topic], on_assign=self._assign, on_revoke=self._revoke)

    def read(self, limit: int) -> list[Record]:
        """Return the next records, or none after a moment; raise :class:`UnusableError` if the topic cannot be read."""
        try:
            messages = self._consumer.consume(limit, timeout=LINGER_SECONDS)
        except KafkaException as error:
            raise UnusableError(f"the topic cannot be read: {explain(error)}") from error
        self._errors.print()
        records = []
        for message in messages:
            if problem := message.error():
                self._receive(problem, message)
            else:
                record = Record.of(message)
                self._ended.discard(record.place)
                records.append(record)
        return records

    def commit(self, records: list[Record]) -> None:
        """Commit the offsets after these records; print a line if that fails."""
        offsets = {record.place: record.offset + 1 for record in records}
        places = [TopicPartition(topic, partition, offset) for (topic, partition), offset in offsets.items()]
        try:
            committed = self._consumer.commit(offsets=places, asynchronous=False) or []
            problem = next((explain(place.error) for place in committed if place.error), "")
        except KafkaException as error:
            problem = explain(error)
        if problem:
            print(
                f"offsets are not committed: {problem}; records may be read again, but are not counted again",
                file=sys.stderr,
            )
        self._next |= {place: offset for place, offset in offsets.items() if place in self._next}

    @property
    def at_end(self) -> bool:
        """Whether there are no more records in the assigned partitions."""
        return bool(self._next) and self._ended >= self._next.keys()

    def lag(self) -> int | None:
        """Return the number of records that are not committed in the assigned partitions; None if it is not known."""
        if not self._next:
            return None
        total = 0
        for place, position in self._next.items():
            # Those of the last fetch
            low, high = self._consumer.get_watermark_offsets(TopicPartition(*place), cached=True)
            if high < 0:
                return None
            total += max(high - (max(low, 0) if position is None else position), 0)
        return total

    def _receive(self, error: KafkaError, message: Message) -> None:
        if error.code() == kafka.END_OF_PARTITION:
            self._ended.add((message.topic() or "", message.partition() or 0))
        elif kafka.is_permanent(error):
            raise UnusableError(f"the topic cannot be read: {explain(error)}")
        else:
            print(f"broker: {explain(error)}", file=sys.stderr)

    def _assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        try:
            partitions = consumer.committed(partitions, timeout=kafka.CONNECT_SECONDS)
        except KafkaException as error:
            print(f"broker: {explain(error)}", file=sys.stderr)
        self._next |= {(one.topic, one.partition): one.offset if one.offset >= 0 else None for one in partitions}

    def _revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for place in ((one.topic, one.partition) for one in partitions):
            self._next.pop(place, None)
            self._ended.discard(place)


class Report:
    """Prints alerts, refused records, progress and the summary."""

    def __init__(self, dead_letters: IO[bytes] | None) -> None:
        self._dead_letters = dead_letters
        self._unkept: list[bytes] = []
        self.tally = Tally("already recorded, not counted again")
        self._reported = time.monotonic()
        self._last: tuple[int, int | None] = (0, None)
        self._alerts = 0

    def add(self, records: list[Record], outcomes: list[Outcome]) -> None:
        """Count and print the outcomes of a batch; raise :class:`UnusableError` if a refused one cannot be kept."""
        for record, outcome in zip(records, outcomes, strict=True):
            if isinstance(outcome, str):
                self._refuse(record, outcome)
            else:
                self._decide(record, outcome)
        # Before the commit: committed records are not read again.
        sys.stdout.flush()
        self._keep()

    def progress(self, lag: int | None) -> None:
        """Print a line if something changed since the last one, but not too often."""
        now = time.monotonic()
        total = self.tally.outcome.total()
        if now - self._reported < PROGRESS_SECONDS or (total, lag) == self._last:
            return
        rate = (total - self._last[0]) / (now - self._reported)
        self._reported, self._last = now, (total, lag)
        print(
            f"{total} records ({rate:,.0f}/s), lag {'?' if lag is None else lag}, {self._alerts} alerts, "
            f"{self.tally.outcome['failed']} failed, {self.tally.replayed} replayed",
            file=sys.stderr,
        )

    def _decide(self, record: Record, decision: dict[str, Any]) -> None:
        self.tally.outcome[decision["risk_level"]] += 1
        replayed = decision.get("replayed") is True
        self.tally.replayed += replayed
        self.tally.unrecorded += decision.get("recorded") is False
        self.tally.warn(str(record), decision)
        if decision["risk_level"] in ALERT_LEVELS:
            if not self._alerts:
                print(HEADINGS)
            self._alerts += 1
            # It may have been recorded, but not printed.
            print(line(decision, record.value or b"") + ("  (replayed)" if replayed else ""))

    def _refuse(self, record: Record, error: str) -> None:
        self.tally.outcome["failed"] += 1
        print(f"{record}: {printable(error)}", file=sys.stderr)
        if self._dead_letters:
            value = None if record.value is None else base64.b64encode(record.value).decode()
            letter = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
            self._unkept.append(json.dumps({**letter, "reason": error, "value": value}).encode() + b"\n")

    def _keep(self) -> None:
        """Write the refused records to the file, and wait until they are on the disk."""
        if not (self._dead_letters and self._unkept):
            return
        try:
            self._dead_letters.write(b"".join(self._unkept))
            os.fsync(self._dead_letters.fileno())
        except OSError as error:
            raise UnusableError(f"{self._dead_letters.name} cannot be written: {error.strerror or error}") from error
        self._unkept.clear()


def batches(records: list[Record], limit: int) -> Iterator[list[Record]]:
    """Split records into batches of at most this many records and :data:`MAX_BATCH_BYTES`."""
    batch: list[Record] = []
    size = 0
    for record in records:
        added = len(record.value or b"") + MAX_KEY_BYTES
        if batch and (len(batch) == limit or size + added > MAX_BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += added
    if batch:
        yield batch


def consume(
    stream: Stream, scoring: Scoring, report: Report, arguments: argparse.Namespace, interrupt: Interrupt
) -> None:
    """Score records until the user interrupts, or until the end of the topic if the arguments say so."""
    while not (arguments.until_end and stream.at_end):
        for batch in batches(stream.read(arguments.batch_size), arguments.batch_size):
            interrupt.check()
            report.add(batch, scoring.score(batch))
            stream.commit(batch)
            report.progress(stream.lag())
        interrupt.check()
        report.progress(stream.lag())


@contextmanager
def connected(arguments: argparse.Namespace, interrupt: Interrupt) -> Iterator[Stream]:
    """Open the stream of a topic that exists; leave the group at the end."""
    errors = BrokerErrors()
    configuration = kafka.configuration(arguments, errors, DEFAULTS, REQUIRED)
    brokers = configuration["bootstrap.servers"]
    if arguments.group:
        configuration["group.id"] = arguments.group
    with kafka.configuring(arguments):
        consumer = Consumer(configuration)
    if not kafka.partitions(consumer, arguments.topic, brokers, errors, interrupt):
        raise UnusableError(f"there is no topic {arguments.topic} at {brokers}")
    print(f"reading {arguments.topic} at {brokers} as group {configuration['group.id']}", file=sys.stderr)
    try:
        yield Stream(consumer, arguments.topic, errors)
    finally:
        consumer.close()


@contextmanager
def opened(path: Path | None) -> Iterator[IO[bytes] | None]:
    """Open the file of dead letters for appending, if there is one."""
    try:
        file = path.open("ab", buffering=0) if path else None
    except OSError as error:
        raise UnusableError(f"{path} cannot be written: {error.strerror or error}") from error
    with file or nullcontext():
        yield file


def _run(arguments: argparse.Namespace) -> int:
    interrupt = Interrupt()
    tally: Tally | None = None
    code = 0
    try:
        with opened(arguments.dead_letters) as file, Service(arguments.url, arguments.auth, NO_RETRIES) as to:
            scoring, report = Scoring(to, interrupt), Report(file)
            tally = report.tally
            scoring.check()
            with connected(arguments, interrupt) as stream:
                consume(stream, scoring, report, arguments, interrupt)
    except UnusableError as error:
        advice = "; stopped; run the same command again to continue" if tally and tally.outcome else ""
        print(f"error: {error}{advice}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        pass  # the usual end
    if tally and tally.outcome:
        tally.print()
    return code or int(bool(tally and tally.outcome["failed"]))


def batch_size(text: str) -> int:
    """Parse an option that is a number of records in a batch."""
    size = kafka.number(text)
    if size > MAX_RECORDS:
        raise argparse.ArgumentTypeError(f"{size} is more than {MAX_RECORDS}")
    return size


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kafka.add_options(parser)
    parser.add_argument(
        "--group", metavar="NAME", help=f"consumer group ({DEFAULT_GROUP}, or group.id of the properties)"
    )
    service.add_options(parser)
    parser.add_argument(
        "--batch-size", type=batch_size, default=MAX_RECORDS, metavar="N", help="records per request (1000)"
    )
    parser.add_argument(
        "--dead-letters", type=Path, metavar="FILE", help="append refused records to a file, as JSON Lines"
    )
    parser.add_argument("--until-end", action="store_true", help="stop at the end of the topic")
    arguments = parser.parse_args()
    return command.run(lambda: _run(arguments))


if __name__ == "__main__":
    sys.exit(main())
