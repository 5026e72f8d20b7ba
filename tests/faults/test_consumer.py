"""``events/consume.py`` against the local stack: every good record is counted once, however often it is killed."""

import itertools
import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from events import rows
from tests import clients
from tests import service as services
from tests.local import broker
from tests.local.template import ROOT
from tests.rule_set import DOCUMENT, assess
from tests.service import LocalStack

PAYMENTS = ROOT / "tests" / "data" / "sparkov_slim.csv.gz"
TOPIC = "payments"
PARTITIONS = 3
KILLS = 3
_SECONDS = 300
MALFORMED = (
    '{"tx_id": "bad", "amount": ',
    "[1]",
    '"text"',
    "null",
    "{}",
    '{"amount": "12"}',
    '{"amount": -1}',
    '{"amount": 1, "hour": 24}',
    '{"amount": NaN}',
    '{"amount": 1, "amount": 2}',
)


def lines(count: int) -> Iterator[str]:
    """Yield this many payments as JSON Lines, and a malformed one after every hundredth."""
    malformed = itertools.cycle(MALFORMED)
    for number, row in enumerate(itertools.islice(rows.read(PAYMENTS, dict), count), start=1):
        yield row.body + "\n"
        if number % 100 == 0:
            yield next(malformed) + "\n"


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[LocalStack]:
    """The local stack with empty tables."""
    with services.started(tmp_path / "stack.log", services.checkout(tmp_path / "checkout", DOCUMENT)) as stack:
        yield stack


def test_killed_consumer_counts_every_good_record_once(stack: LocalStack, tmp_path: Path, *, full: bool) -> None:
    count = 20_000 if full else 3_000
    file, letters, properties = tmp_path / "payments.jsonl", tmp_path / "dead.jsonl", tmp_path / "consumer.properties"
    file.write_text("".join(lines(count)), encoding="utf-8")
    properties.write_text("".join(f"{name}={value}\n" for name, value in broker.CONSUMER_PROPERTIES.items()))
    with broker.running() as bootstrap:
        where = ("--bootstrap", bootstrap, "--topic", TOPIC)
        produced = clients.run("produce", file, *where, "--partitions", PARTITIONS)
        assert produced.returncode == 0, produced.stderr
        options = (*where, "--properties", properties, "--url", stack.url, "--dead-letters", letters)
        draw = random.Random(count)
        for kill in range(1, KILLS + 1):
            with clients.start("consume", *options, "--batch-size", 100) as process:
                wait_until_counted(stack, count * kill // (KILLS + 1))
                time.sleep(draw.uniform(0, 0.3))
                assert process.poll() is None
                process.kill()
        finished = clients.run("consume", *options, "--until-end")
    assert finished.returncode in {0, 1}, finished.stderr
    assert "Traceback" not in finished.stderr
    payments = [json.loads(row.body) for row in itertools.islice(rows.read(PAYMENTS, dict), count)]
    expected = Counter(assess(payment)["risk_level"] for payment in payments)
    assert Counter(stack.stats()["by_risk_level"]) == expected
    # A kill between file and commit writes a dead letter again.
    places = {(one["partition"], one["offset"]) for one in map(json.loads, letters.read_text().splitlines())}
    assert len(places) == count // 100
    # The last run read only what the others left, some of it again.
    assert sum(clients.summary(finished.stdout)[level] for level in expected) < count


def wait_until_counted(stack: LocalStack, count: int) -> None:
    deadline = time.monotonic() + _SECONDS
    while stack.stats()["total"] < count:
        assert time.monotonic() < deadline, stack.stats()
        time.sleep(0.05)
