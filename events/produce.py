#!/usr/bin/env python3
"""Send a file of transactions to a Kafka topic.

    python events/produce.py FILE --partitions 3     create the topic transactions of `make broker`, and send a file
    python events/produce.py FILE --rate 100         send 100 records per second
    python events/produce.py FILE --bootstrap HOST:PORT --topic NAME --properties FILE

FILE contains JSON Lines, a JSON array, or CSV with a header row, optionally compressed with gzip, as for replay.py.

Each record has the idempotency key of its row in the header idempotency_key, the same as in replay.py, so a row that
is sent again is not counted again. Records of a customer keep their order. After an interruption, run the same command
again. The exit code is 1 if a record was not delivered, and 2 if the file or the brokers cannot be used. More in
events/README.md.
"""

import argparse
import functools
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

# A script finds only the modules in its own folder.
sys.path.insert(0, str(Path(__file__).parents[1]))
from events import command
from events.command import Interrupt, UnusableError, printable
from events.rows import ACCEPTED, FileError, Keys, Row, read

with command.packages():
    from confluent_kafka import KafkaError, KafkaException, Message, Producer
    from confluent_kafka.admin import AdminClient
    from confluent_kafka.cimpl import NewTopic

    from events import kafka, service
    from events.kafka import KEY_HEADER, BrokerErrors, explain
    from events.service import Service

ORDERED_BY = ("customer_id", "tx_id")
PROGRESS_SECONDS = 5
SHOWN_FAILURES = 20
STOP_SECONDS = 5
DEFAULTS = {
    # The partitioner of the Java client: its producers send a customer to the same partition.
    "partitioner": "murmur2_random",
    "message.timeout.ms": "60000",
    "linger.ms": "5",
}
REQUIRED = {"enable.idempotence": "true", "acks": "all"}


class Sender:
    """Sends rows to a topic and counts what the brokers confirm.

    Attributes
    ----------
    read
        Rows that were read.
    sent, delivered, failed
        Records that were sent, that a broker confirmed, and rows that were not sent or not confirmed.
    unordered
        Records without a key, which may go to any partition.
    """

    def __init__(
        self, producer: Producer, errors: BrokerErrors, topic: str, order_by: tuple[str, ...], interrupt: Interrupt
    ) -> None:
        self._producer = producer
        self._errors = errors
        self._interrupt = interrupt
        self._topic = topic
        self._order_by = order_by
        self._start = self._reported = time.monotonic()
        self.read = self.sent = self.delivered = self.failed = self.unordered = 0

    def send(self, rows: Iterator[Row], keys: Keys, rate: int | None) -> None:
        """Send the rows; raise :class:`UnusableError` if no further row can be sent."""
        for row in rows:
            self._interrupt.check()
            if row.note:
                print(printable(row.note))
            if row.problem:
                self._fail(row.line, row.problem)
            else:
                self._wait(self._start + self.sent / rate if rate else 0)
                self._send(row, keys.key(row))
            self.read += 1
            self._report()

    def wait(self) -> None:
        """Wait until the brokers have confirmed or refused every record."""
        while len(self._producer):
            self._producer.poll(0.1)
            self._interrupt.check()
            self._report()

    def give_up(self) -> None:
        """Wait for a moment; count the records that are not confirmed by then as failed."""
        self._producer.flush(STOP_SECONDS)
        if len(self._producer):
            self._producer.purge()
            self._producer.flush(STOP_SECONDS)

    def print(self) -> None:
        rate = self.delivered / max(time.monotonic() - self._start, 0.001)
        print(f"{'delivered':<10} {self.delivered:>8}  {rate:,.0f}/s")
        print(f"{'failed':<10} {self.failed:>8}")
        if self.unordered:
            print(f"{'no key':<10} {self.unordered:>8}  without {' and '.join(self._order_by)}, in no order")

    def _send(self, row: Row, key: str) -> None:
        ordered_by = next(
            (str(row.fields[name]) for name in self._order_by if row.fields.get(name) not in {None, ""}), None
        )
        while True:
            try:
                self._producer.produce(
                    self._topic,
                    row.body.encode(errors="surrogatepass"),
                    key=ordered_by,
                    headers=[(KEY_HEADER, key.encode())],
                    on_delivery=functools.partial(self._delivered, row.line),
                )
            except BufferError:  # the queue is full
                self._producer.poll(0.1)
                self._interrupt.check()
                self._report()
                continue
            except KafkaException as error:
                if error.args[0].code() != KafkaError.MSG_SIZE_TOO_LARGE:
                    raise UnusableError(f"the topic {self._topic} cannot be written: {explain(error)}") from error
                self._fail(row.line, explain(error))
                return
            self.sent += 1
            self.unordered += ordered_by is None
            self._producer.poll(0)
            return

    def _delivered(self, line: int, error: KafkaError | None, _message: Message) -> None:
        if error is None:
            self.delivered += 1
        elif kafka.is_purged(error):
            self.failed += 1
        else:
            self._fail(line, explain(error))

    def _fail(self, line: int, problem: str) -> None:
        self.failed += 1
        if self.failed <= SHOWN_FAILURES:
            print(f"line {line}: {problem}", file=sys.stderr)
        if self.failed == SHOWN_FAILURES:
            print("further failures are only counted", file=sys.stderr)

    def _wait(self, due: float) -> None:
        while (left := due - time.monotonic()) > 0:
            self._producer.poll(min(left, 0.1))
            self._interrupt.check()

    def _report(self) -> None:
        now = time.monotonic()
        if now - self._reported > PROGRESS_SECONDS:
            self._reported = now
            self._errors.print()
            rate = self.delivered / (now - self._start)
            print(
                f"{self.sent} sent, {self.delivered} delivered ({rate:,.0f}/s), {self.failed} failed", file=sys.stderr
            )


def connect(arguments: argparse.Namespace, errors: BrokerErrors, interrupt: Interrupt) -> Producer:
    """Return a producer for a topic that exists; create the topic if ``--partitions`` says so."""
    configuration = kafka.configuration(arguments, errors, DEFAULTS, REQUIRED)
    with kafka.configuring(arguments):
        producer = Producer(configuration)
    brokers = configuration["bootstrap.servers"]
    if not kafka.partitions(producer, arguments.topic, brokers, errors, interrupt):
        if not arguments.partitions:
            raise UnusableError(f"there is no topic {arguments.topic} at {brokers}: --partitions N creates it")
        admin = AdminClient(configuration)
        try:
            (created,) = admin.create_topics([NewTopic(arguments.topic, arguments.partitions)]).values()
            created.result(timeout=kafka.CONNECT_SECONDS)
        except (KafkaException, TimeoutError) as error:
            raise UnusableError(f"the topic {arguments.topic} cannot be created: {explain(error)}") from error
    return producer


def _run(arguments: argparse.Namespace) -> int:
    interrupt = Interrupt()
    stop: UnusableError | FileError | KeyboardInterrupt | None = None
    sender: Sender | None = None
    try:
        fields = Service(arguments.url, arguments.auth).declared_fields if arguments.url else dict
        order_by = (arguments.order_by,) if arguments.order_by else ORDERED_BY
        errors = BrokerErrors()
        sender = Sender(connect(arguments, errors, interrupt), errors, arguments.topic, order_by, interrupt)
        sender.send(islice(read(arguments.file, fields), arguments.limit), Keys(arguments.batch), arguments.rate)
        sender.wait()
    except (UnusableError, FileError, KeyboardInterrupt) as error:
        stop = error
        if sender:
            sender.give_up()
    rows = sender.read if sender else 0
    if sender and rows:
        sender.print()
    elif not stop:
        stop = FileError(f"{arguments.file} contains no transactions")
    if stop:
        print(f"error: {command.explain(stop, rows)}", file=sys.stderr)
        return 2
    return 1 if sender and sender.failed else 0


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help=ACCEPTED)
    kafka.add_options(parser)
    parser.add_argument("--partitions", type=kafka.number, metavar="N", help="create the topic if it does not exist")
    parser.add_argument("--rate", type=kafka.number, metavar="N", help="records per second (no limit)")
    parser.add_argument("--limit", type=kafka.number, metavar="N", help="send the first N rows only")
    parser.add_argument(
        "--order-by", metavar="FIELD", help="keep the order of records with the same value (customer_id, else tx_id)"
    )
    parser.add_argument("--batch", default="", metavar="NAME", help="count the rows again under this name")
    service.add_options(parser, None, "address of a service that declares the fields of a CSV")
    arguments = parser.parse_args()
    return command.run(lambda: _run(arguments))


if __name__ == "__main__":
    sys.exit(main())
