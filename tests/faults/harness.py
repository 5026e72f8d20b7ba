"""The functions in their own processes, with proxies between them and the emulator."""

import json
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scoring.assessment import HIGH_RISK_LEVELS
from tests import events, forests, rule_set
from tests.faults import proxy
from tests.faults.proxy import Proxy
from tests.local import emulator, environments, template
from tests.local.environments import Environments
from tests.local.event_sources import queues

THREADS = 16
_DRAIN_SECONDS = 120


@dataclass(frozen=True)
class ScoreResponse:
    """A response of ``POST /score`` or ``POST /score/batch`` and its latency."""

    status: int
    body: dict[str, Any]
    seconds: float

    @property
    def decision(self) -> dict[str, Any]:
        """The fields that are equal in all responses to one key."""
        return {name: value for name, value in self.body.items() if name not in {"evaluated_at", "recorded"}}


@dataclass(frozen=True)
class Harness:
    """The service under faults; ``endpoint``, ``dynamodb`` and ``sqs`` bypass the proxies."""

    functions: Environments
    store: Proxy
    queue: Proxy
    topic: Proxy
    endpoint: str
    dynamodb: Any
    sqs: Any
    outbox: dict[str, Any]
    log: Path

    def score(self, transaction: dict[str, Any], decision_id: str, *, key: bool = False) -> ScoreResponse:
        """Invoke ``POST /score``; ``decision_id`` is the request id or, with ``key``, the idempotency key."""
        headers = {"idempotency_key": decision_id} if key else {}
        request_id = str(uuid.uuid4()) if key else decision_id
        event = events.post(json.dumps(transaction), request_id=request_id, **headers)
        start = time.perf_counter()
        response = json.loads(self.functions.invoke("ScoreFunction", json.dumps(event)))
        seconds = time.perf_counter() - start
        assert "statusCode" in response, response
        return ScoreResponse(response["statusCode"], json.loads(response["body"]), seconds)

    def score_batch(self, transactions: Sequence[dict[str, Any]], key: str) -> ScoreResponse:
        """Invoke ``POST /score/batch`` with an idempotency key."""
        event = events.post(json.dumps(transactions), request_id=str(uuid.uuid4()), idempotency_key=key)
        start = time.perf_counter()
        response = json.loads(self.functions.invoke("BatchFunction", json.dumps(event)))
        seconds = time.perf_counter() - start
        assert "statusCode" in response, response
        return ScoreResponse(response["statusCode"], json.loads(response["body"]), seconds)

    def get(self, function: str, name: str) -> Any:
        """Invoke a function with an event from ``events/``."""
        return json.loads(self.functions.invoke(function, json.dumps(events.load(name))))

    def queued(self) -> int:
        """Return the number of messages in the outbox, those in flight included."""
        names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        attributes = self.sqs.get_queue_attributes(QueueUrl="OutboxQueue", AttributeNames=["All"])["Attributes"]
        return sum(int(attributes[name]) for name in names)

    def deliver(self, times: int = 3) -> None:
        """Deliver one batch of the outbox to the reconcile function, several times before deleting it.

        A failed message becomes visible again after a second, not a minute as when deployed.
        """
        queues.deliver(self.sqs, self.functions.invoke, self.outbox, wait=0, times=times, again_after=1)

    def drain(self) -> None:
        """Deliver until the outbox is empty."""
        end = time.monotonic() + _DRAIN_SECONDS

        def work(_: int) -> None:
            while left := self.queued():
                assert time.monotonic() < end, f"{left} messages are left in the outbox"
                self.deliver()
                time.sleep(0.05)

        with ThreadPoolExecutor(THREADS // 2) as pool:
            list(pool.map(work, range(THREADS // 2)))

    def recorded(self) -> dict[str, dict[str, Any]]:
        """Return every stored response by its decision id."""
        pages = self.dynamodb.get_paginator("scan").paginate(TableName="DecisionsTable", ConsistentRead=True)
        responses = [json.loads(item["answer"]["S"]) for page in pages for item in page["Items"]]
        by_id = {response["decision_id"]: response for response in responses}
        assert len(by_id) == len(responses)
        return by_id

    def check_counts(self) -> None:
        """Fail unless the counters equal the sums over all stored decisions."""
        recorded = self.recorded().values()
        levels = Counter(one["risk_level"] for one in recorded)
        rules = Counter(label for one in recorded for label in one["triggered_rules"])
        response = self.get("StatsFunction", "stats")
        assert response["statusCode"] == 200, response
        stats = json.loads(response["body"])
        assert stats["total"] == len(recorded)
        assert stats["high"] == sum(levels[level] for level in HIGH_RISK_LEVELS)
        assert stats["by_risk_level"] == {level: levels[level] for level in stats["by_risk_level"]}
        assert stats["by_rule"] == {label: rules[label] for label in stats["by_rule"]}

    def unavailable(self, service: str) -> set[str]:
        """Return the ids of the decisions logged with ``<service> unavailable``: ``store`` or ``outbox``."""
        lines = (json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{"))
        return {line["decision_id"] for line in lines if line.get("message") == f"{service} unavailable"}


@dataclass(frozen=True)
class ProxiedFunctions:
    """The functions and their proxies, which outlive the emulators.

    Every test has its own emulator, because one with many items pauses for seconds.
    """

    functions: Environments
    store: Proxy
    queue: Proxy
    topic: Proxy
    log: Path

    @contextmanager
    def on_new_tables(self) -> Iterator[Harness]:
        """Connect the proxies to a new emulator; clear their faults at the end."""
        with emulator.running() as endpoint:
            proxies = self.store, self.queue, self.topic
            for one in proxies:
                one.forward_to(endpoint)
            dynamodb, sqs = (emulator.client(service, endpoint) for service in ("dynamodb", "sqs"))
            outbox = template.stack().properties("OutboxMapping")
            try:
                yield Harness(self.functions, *proxies, endpoint, dynamodb, sqs, outbox, self.log)
            finally:
                for one in proxies:
                    one.clear()


@contextmanager
def running(log: Path, scorer: str = "rules") -> Iterator[ProxiedFunctions]:
    """Start the functions and their proxies; the functions log to this file, and have the tests' rule set and model."""
    layer = template.copy_layer(log.with_name("layer"), rule_set.DOCUMENT)
    forests.write(layer / "scoring" / "scorers" / "forest.model")
    with (
        log.open("ab") as output,
        proxy.running() as store,
        proxy.running() as queue,
        proxy.running() as topic,
        environments.running(
            {**emulator.variables(store.endpoint, queue.endpoint, topic.endpoint), "SCORER": scorer},
            THREADS,
            output.fileno(),
            layer=layer,
        ) as functions,
    ):
        yield ProxiedFunctions(functions, store, queue, topic, log)
