"""``make stream``: card payments flow through Kafka, the stream function, the ledger and the alerts, live.

Sends rows of ``tests/data/sparkov_slim.csv.gz``, and one malformed record per thousand, to a topic with three
partitions. Prints each alert and a line per second. At the end, checks that each record was counted once or is in the
dead-letter queue, and that each HIGH or CRITICAL decision was alerted. In shadow mode, waits for the model's opinions
as well, and prints how many levels it would change.

Runs in the virtual environment of the tests, which has confluent-kafka; the API needs that of SAM CLI.
"""

import argparse
import json
import os
import re
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from confluent_kafka import Producer

from tests.local import account, alerts, broker, emulator, environments, event_sources, processes, template
from tests.local.console import LOGS, Console
from tests.local.environments import APP_PYTHON, Environments
from tests.local.event_sources import kafka
from tests.local.processes import StartError

if TYPE_CHECKING:
    import subprocess

HOST = "127.0.0.1"
DEAD_LETTERS = "StreamDeadLetterQueue"
TOPIC, PARTITIONS = "transactions", 3
DATA = template.ROOT / "tests" / "data" / "sparkov_slim.csv.gz"
# The shipped rules hit few of these payments.
RULES = template.ROOT / "events" / "stream-rules.json"
ROWS_PER_MALFORMED_RECORD = 1000
SAM_PYTHON = template.ROOT / ".tools" / "sam" / "bin" / "python"

_STATS_EVENT = template.ROOT / "events" / "stats.json"
_MESSAGES = "ApproximateNumberOfMessages"
_REPORT_SECONDS = 1
# Without progress for this long, the stream has failed.
_STALL_SECONDS = 30
_FLUSH_SECONDS = 30


def welcome(address: str, rows: int, malformed: int) -> str:
    """Return the first message."""
    return f"""
Sending {rows:,} card payments and {malformed} malformed records to a Kafka topic with {PARTITIONS} partitions.
Decisions follow {RULES.relative_to(template.ROOT)}. The API is at {address}; press Ctrl-C to stop.
"""


@dataclass
class Stream:
    """The running stream.

    Attributes
    ----------
    functions
        The functions of the template.
    poller
        Reads the topic.
    sqs
        A boto3 client.
    alerted
        Ids of the alerts that have arrived.
    """

    functions: Environments
    poller: kafka.Poller
    sqs: Any
    alerted: set[str]

    def numbers(self) -> dict[str, int]:
        """Return the numbers of a line."""
        response = json.loads(self.functions.invoke("StatsFunction", _STATS_EVENT.read_text(encoding="utf-8")))
        if response.get("statusCode") != HTTPStatus.OK:
            raise StartError(f"GET /stats failed: {response.get('body') or response}")
        stats = json.loads(response["body"])
        queue = self.sqs.get_queue_attributes(QueueUrl=DEAD_LETTERS, AttributeNames=[_MESSAGES])["Attributes"]
        dead_letters = int(queue[_MESSAGES])
        return {
            "records": stats["total"] + dead_letters,
            "lag": self.poller.lag,
            **stats["by_risk_level"],
            "alerts": len(self.alerted),
            "dead letters": dead_letters,
        }


@dataclass(frozen=True)
class Producing:
    """The process that sends the rows, and the file with its output."""

    process: "subprocess.Popen[bytes]"
    log: Path

    def delivered(self) -> int | None:
        """Return how many records the broker has confirmed, once all rows are sent."""
        if self.process.poll() is None:
            return None
        output = self.log.read_text(encoding="utf-8")
        delivered = re.search(r"^delivered +(\d+) ", output, re.MULTILINE)
        if self.process.returncode or not delivered:
            raise StartError(f"the rows were not sent: {output.strip().rpartition(os.linesep)[2]}")
        return int(delivered[1])


def watch(stream: Stream, producer: Producing, malformed: int, console: Console) -> str:
    """Print a line per second until every record and alert has arrived.

    Returns
    -------
    str
        A summary.

    Raises
    ------
    StartError
        A record or an alert is missing, or there are too many.
    """
    start = changed = now = time.monotonic()
    numbers = {"records": 0}
    while True:
        time.sleep(_REPORT_SECONDS)
        delivered = producer.delivered()
        before, last = numbers, now
        numbers, now = stream.numbers(), time.monotonic()
        rate = round((numbers["records"] - before["records"]) / (now - last))
        console.numbers("stream", {"records": numbers["records"], "per second": rate, **numbers})
        high = sum(numbers[level] for level in ("HIGH", "CRITICAL"))
        if numbers != before:
            changed = now
        if delivered is not None:
            produced = delivered + malformed
            arrived = numbers["records"] >= produced and numbers["alerts"] >= high
            if arrived or now - changed > _STALL_SECONDS:
                break
    counted = numbers["records"] - numbers["dead letters"]
    summary = (
        f"{produced:,} records in {now - start:.0f} s: {counted:,} counted, "
        f"{numbers['dead letters']:,} in {DEAD_LETTERS}. "
        f"{high:,} decisions are HIGH or CRITICAL, {numbers['alerts']:,} were alerted."
    )
    if (numbers["records"], numbers["dead letters"], numbers["alerts"]) != (produced, malformed, high):
        raise StartError(f"the numbers do not match: {summary}")
    return summary


def level_shifts(dynamodb: Any) -> str:
    """Wait until each decision has the opinion of a model, and return a summary of the levels that it would change.

    Raises
    ------
    StartError
        An opinion is missing.
    """
    waiting, changed = -1, time.monotonic()
    while waiting:
        pages = dynamodb.get_paginator("scan").paginate(
            TableName="DecisionsTable", ProjectionExpression="risk_level, shadow"
        )
        items = [item for page in pages for item in page["Items"]]
        before, waiting = waiting, sum("shadow" not in item for item in items)
        if waiting != before:
            changed = time.monotonic()
        if time.monotonic() - changed > _STALL_SECONDS:
            raise StartError(f"{waiting:,} decisions have no opinion of the model")
        time.sleep(_REPORT_SECONDS)
    levels = Counter((item["risk_level"]["S"], json.loads(item["shadow"]["S"])["risk_level"]) for item in items)
    shifts = {f"{before} to {after}": count for (before, after), count in levels.items() if before != after}
    details = ", ".join(f"{count:,} from {shift}" for shift, count in sorted(shifts.items()))
    return f"The model would change the level of {sum(shifts.values()):,} decisions{details and ': '}{details}."


def run(rows: int, rate: int, port: int, logs: str) -> None:
    """Run the stream until every record has arrived; the parameters are the options of the command."""
    account.replace()
    console = Console(logs)
    port = port or processes.free_port(HOST)
    processes.listening(HOST, port).close()
    alerted: set[str] = set()

    def alert(document: alerts.Alert) -> None:
        alerted.add(document["alert_id"])
        console.alert(document)

    with ExitStack() as stack:
        enter = stack.enter_context
        folder = Path(enter(tempfile.TemporaryDirectory()))
        layer = template.copy_layer(folder / "layer", _rules())
        endpoint = enter(emulator.running(on_exit=processes.fail))
        enter(_api(port, endpoint, layer, logs))
        bootstrap = enter(broker.running(on_exit=processes.fail))
        broker.create_topic(bootstrap, TOPIC, PARTITIONS)
        variables = {**emulator.variables(endpoint), "PARTIAL_RESPONSES": "true"}
        functions = enter(environments.running(variables, console=console, layer=layer))
        enter(event_sources.running(endpoint, functions.invoke))
        enter(alerts.receiving(endpoint, alert))
        poller = enter(kafka.running(functions.invoke, template.kafka_mapping(bootstrap, TOPIC, pollers=1)))
        address = f"http://{HOST}:{port}"
        malformed = rows // ROWS_PER_MALFORMED_RECORD
        print(welcome(address, rows, malformed), flush=True)
        _produce_malformed(bootstrap, malformed)
        producer = enter(_producer(bootstrap, address, rows, rate, folder / "producer.log"))
        summary = watch(
            Stream(functions, poller, emulator.client("sqs", endpoint), alerted), producer, malformed, console
        )
        if template.scorer() == "shadow":
            summary += f"\n{level_shifts(emulator.client('dynamodb', endpoint))}"
    print(f"\n{summary}", flush=True)


def _rules() -> dict[str, Any]:
    """Return the rule set; with a model, it has the histories of the shipped one, for which the model is trained."""
    rules: dict[str, Any] = json.loads(RULES.read_text(encoding="utf-8"))
    if template.scorer() != "rules":
        rules["histories"] = json.loads(template.RULES_FILE.read_text(encoding="utf-8"))["histories"]
    return rules


@contextmanager
def _api(port: int, endpoint: str, layer: Path, logs: str) -> Iterator[None]:
    """Run the API in the virtual environment of SAM CLI."""
    options = ["--port", str(port), "--emulator", endpoint, "--layer", str(layer), "--logs", logs]
    with processes.child([SAM_PYTHON, "-m", "tests.local.api", *options], template.ROOT) as process:
        processes.wait_until_listening("the API", process, HOST, port)
        ending = threading.Event()
        processes.watch(process, ending, lambda how: processes.fail(f"the API {how}; run the command again"))
        try:
            yield
        finally:
            ending.set()


@contextmanager
def _producer(bootstrap: str, address: str, rows: int, rate: int, log: Path) -> Iterator["Producing"]:
    """Send rows of the data to the topic with ``events/produce.py``."""
    options = ["--bootstrap", bootstrap, "--topic", TOPIC, "--limit", str(rows), "--url", address]
    if rate:
        options += ["--rate", str(rate)]
    with (
        log.open("wb") as output,
        processes.child([APP_PYTHON, "events/produce.py", DATA, *options], template.ROOT, output) as process,
    ):
        yield Producing(process, log)


def _produce_malformed(bootstrap: str, count: int) -> None:
    """Send records that can never be scored."""
    producer = Producer({"bootstrap.servers": bootstrap})
    for number in range(count):
        producer.produce(TOPIC, '{"amount": ', partition=number % PARTITIONS)
    if producer.flush(_FLUSH_SECONDS):
        raise StartError(f"the broker does not accept records for {TOPIC}")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Card payments through Kafka, live.")
    parser.add_argument("--rows", default="20000")
    parser.add_argument("--rate", default="", help="rows per second; no limit if it is empty")
    parser.add_argument("--port", default="3000")
    parser.add_argument("--logs", default="text", help="text for people, json for programs")
    arguments = parser.parse_args()
    with processes.command():
        if arguments.logs not in LOGS:
            raise StartError(f"LOGS must be {' or '.join(LOGS)}, not {arguments.logs!r}")
        template.scorer()  # raises an error before anything starts
        rate = _positive("RATE", arguments.rate) if arguments.rate else 0
        run(_positive("ROWS", arguments.rows), rate, processes.port_number(arguments.port), arguments.logs)


def _positive(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text)):
        raise StartError(f"{name} must be a positive integer, not {text!r}")
    return int(text)


if __name__ == "__main__":
    main()
