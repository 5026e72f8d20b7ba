"""The service with proxies on the wire: functions in processes of their own, the emulator behind them."""

import json
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scoring.assessment import HIGH_RISK_LEVELS
from tests import events
from tests.faults import proxy
from tests.faults.proxy import Proxy
from tests.local import emulator, environments, event_source, template
from tests.local.environments import Environments

THREADS = 16
_DRAIN_SECONDS = 120


@dataclass(frozen=True)
class Answer:
    """What ``POST /score`` answered, and after how many seconds."""

    status: int
    body: dict[str, Any]
    seconds: float

    @property
    def decision(self) -> dict[str, Any]:
        """What was decided; when, and whether it is recorded yet, may differ between answers to one key."""
        return {name: value for name, value in self.body.items() if name not in {"evaluated_at", "recorded"}}


@dataclass(frozen=True)
class Harness:
    """The service under faults, and what stands behind it, seen past the proxies."""

    functions: Environments
    store: Proxy
    queue: Proxy
    dynamodb: Any
    sqs: Any
    outbox: dict[str, Any]
    log: Path

    def score(self, transaction: dict[str, Any], decision_id: str, *, key: bool = False) -> Answer:
        """Score as API Gateway would have it done, the decision id being the request id or the idempotency key."""
        headers = {"idempotency_key": decision_id} if key else {}
        request_id = str(uuid.uuid4()) if key else decision_id
        event = events.post(json.dumps(transaction), request_id=request_id, **headers)
        start = time.perf_counter()
        response = json.loads(self.functions.invoke("ScoreFunction", json.dumps(event)))
        seconds = time.perf_counter() - start
        assert "statusCode" in response, response
        return Answer(response["statusCode"], json.loads(response["body"]), seconds)

    def get(self, function: str, name: str) -> Any:
        """Invoke a function with an event of ``events/``."""
        return json.loads(self.functions.invoke(function, json.dumps(events.load(name))))

    def stats(self) -> dict[str, Any]:
        response = self.get("StatsFunction", "stats")
        assert response["statusCode"] == 200, response
        stats: dict[str, Any] = json.loads(response["body"])
        return stats

    def waiting(self) -> int:
        """Messages in the outbox, also those just delivered."""
        names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        attributes = self.sqs.get_queue_attributes(QueueUrl="OutboxQueue", AttributeNames=["All"])["Attributes"]
        return sum(int(attributes[name]) for name in names)

    def deliver(self, times: int = 3) -> None:
        """Have a batch of the outbox's messages reconciled, each delivered this often before it is deleted.

        What fails comes again after a second; deployed, after a minute.
        """
        event_source.deliver(self.sqs, self.functions.invoke, self.outbox, wait=0, times=times, again_after=1)

    def drain(self) -> None:
        """Have all messages of the outbox reconciled, or set aside."""
        end = time.monotonic() + _DRAIN_SECONDS

        def work(_: int) -> None:
            while left := self.waiting():
                assert time.monotonic() < end, f"{left} messages are left in the outbox"
                self.deliver()
                time.sleep(0.05)

        with ThreadPoolExecutor(THREADS // 2) as pool:
            list(pool.map(work, range(THREADS // 2)))

    def recorded(self) -> dict[str, dict[str, Any]]:
        """Every answer that is stored, by its decision id."""
        pages = self.dynamodb.get_paginator("scan").paginate(TableName="DecisionsTable", ConsistentRead=True)
        answers = [json.loads(item["answer"]["S"]) for page in pages for item in page["Items"]]
        by_id = {answer["decision_id"]: answer for answer in answers}
        assert len(by_id) == len(answers)
        return by_id

    def check_counts(self) -> None:
        """The counters say what all decisions so far add up to, exactly."""
        answers = self.recorded().values()
        levels = Counter(answer["risk_level"] for answer in answers)
        rules = Counter(label for answer in answers for label in answer["triggered_rules"])
        stats = self.stats()
        assert stats["total"] == len(answers)
        assert stats["high"] == sum(levels[level] for level in HIGH_RISK_LEVELS)
        assert stats["by_risk_level"] == {level: levels[level] for level in stats["by_risk_level"]}
        assert stats["by_rule"] == {label: rules[label] for label in stats["by_rule"]}

    def unavailable(self, what: str) -> set[str]:
        """Ids of the decisions for which the functions logged that the store, or the outbox, was unavailable."""
        lines = (json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{"))
        return {line["decision_id"] for line in lines if line.get("message") == f"{what} unavailable"}


@dataclass(frozen=True)
class Service:
    """The functions and the proxies, which last longer than a store.

    Every test has an emulator of its own: one that holds the items of many makes pauses of seconds.
    """

    functions: Environments
    store: Proxy
    queue: Proxy
    log: Path

    @contextmanager
    def on_new_tables(self) -> Iterator[Harness]:
        """The service with nothing recorded yet; without faults again on the way out."""
        with emulator.running() as endpoint:
            self.store.lead_to(endpoint)
            self.queue.lead_to(endpoint)
            dynamodb, sqs = (emulator.client(service, endpoint) for service in ("dynamodb", "sqs"))
            (outbox,) = template.stack().properties_of("AWS::Lambda::EventSourceMapping").values()
            try:
                yield Harness(self.functions, self.store, self.queue, dynamodb, sqs, outbox, self.log)
            finally:
                self.store.clear()
                self.queue.clear()


@contextmanager
def running(log: Path) -> Iterator[Service]:
    """The service, its functions logging to a file."""
    with (
        log.open("ab") as output,
        proxy.running() as store,
        proxy.running() as queue,
        environments.running(emulator.variables(store.endpoint, queue.endpoint), THREADS, output.fileno()) as functions,
    ):
        yield Service(functions, store, queue, log)
