"""Estimate what a million decisions and a month without requests cost.

    .venv/bin/python -m tests.capacity.cost

The bytes that a decision writes, logs and returns are measured: ``POST /score`` and ``POST /score/batch`` handle the
sample transactions, and their output to DynamoDB, the log and API Gateway is counted as AWS counts it. Memory, alarms
and retention are those of the template.

Prices are list prices of us-east-1 in US dollars, without taxes, free tiers or discounts. Those of the HTTP API,
Lambda, on-demand DynamoDB and CloudWatch come from third-party pages of July 2025 to June 2026; the others have not
changed for years and were not looked up. Check the AWS price pages before you budget.

Assumed: the duration of a transaction (with one decision, as in :mod:`tests.capacity.simulation`) and of a read, the
share of cold starts, and what API Gateway and Lambda themselves log and send.

A decision with one history reads the customer's profile, which is full here, and writes it with the decision. Decisions
that are made again because another one has changed the profile take further units.

Left out because they cost cents or nothing: outbox messages, the metric of throttled requests, KMS requests for the
table keys, and the dashboard (an account's first three are free).
"""

import base64
import contextlib
import importlib
import io
import itertools
import json
import math
import os
import re
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

from scoring import scorers, settings, shadow, telemetry
from scoring.assessment import RISK_LEVELS
from scoring.aws.queue import Queue
from scoring.batches import MAX_ITEMS
from scoring.history.profiles import MAX_ENTRIES, observe, update
from scoring.ledger import recorder
from scoring.ledger.outbox import Outbox
from scoring.ledger.recorder import Recorder
from scoring.ledger.writer import LedgerWriter
from scoring.scorers.forest import model_file
from scoring.scorers.forest.scorer import ForestScorer
from tests import events, payments, rule_set
from tests.capacity.simulation import Model
from tests.local import template
from tests.local.cloudformation import Stack
from tests.markdown import table

MILLION = 1_000_000
KB = 1024
GB = 1024**3
HOURS_PER_MONTH = 730
SECONDS_PER_MONTH = HOURS_PER_MONTH * 3600
DAYS_PER_MONTH = HOURS_PER_MONTH / 24

# Amazon API Gateway pricing, HTTP API: (requests a month up to, dollars per million).
HTTP_API_TIERS = ((300 * MILLION, 1.00), (math.inf, 0.90))
# AWS Lambda pricing, dollars per million requests and per GB-second; initialization is billed since August 2025 ("AWS
# Lambda standardizes billing for INIT phase").
LAMBDA_MILLION_REQUESTS = 0.20
LAMBDA_GB_SECOND = {"arm64": 0.0000133334, "x86_64": 0.0000166667}
# Amazon DynamoDB pricing, Standard table class, on-demand capacity.
MILLION_WRITE_UNITS = 0.625
MILLION_READ_UNITS = 0.125
STORAGE_GB_MONTH = 0.25
RECOVERY_GB_MONTH = 0.20
# Amazon CloudWatch pricing; stored logs are billed at an assumed 0.15 of the bytes that came in.
LOGS_GB = 0.50
LOGS_GB_MONTH = 0.03
LOGS_COMPRESSION = 0.15
ALARM_MONTH = 0.10
METRIC_MONTH = 0.30
# Amazon SQS pricing, standard queue.
QUEUE_MILLION_REQUESTS = 0.40
# Amazon EC2 on-demand pricing, data transfer to the internet.
TRANSFER_GB = 0.09

# A transactional write takes two units per KB ("DynamoDB read and write operations").
WRITE_UNITS_PER_KB = 2
# A consistent read of an item takes a unit per 4 KB; of one that does not exist, one unit (same page).
READ_UNIT_KB = 4
# Storage overhead of an item ("DynamoDB item sizes and formats") and of a log line ("PutLogEvents"), in bytes.
ITEM_OVERHEAD = 100
LOG_LINE_OVERHEAD = 26
# Memory in MB at which a function has one virtual processor (Lambda Developer Guide).
MB_PER_PROCESSOR = 1_769
# Lambda polls an empty queue with five pollers of 20 seconds each.
POLLS_PER_MONTH = 5 * SECONDS_PER_MONTH / 20

# Processor time of a decision in seconds, rounded: `make bench`.
HANDLER_SECONDS = 0.0003
# The same in a batch: `python -m tests.performance.batches`.
BATCH_HANDLER_SECONDS = 0.00015
# The same with one history: `make bench`.
HISTORY_HANDLER_SECONDS = 0.0007
# Processor time of a model's opinion and the call that stores it. The shipped model took 0.1 ms for most payments in
# `tests/data`, and 30 ms for one in a hundred, which it makes HIGH or CRITICAL: 0.7 ms on average.
OPINION_SECONDS = 0.001
# Decisions that share an invocation of the shadow function; fewer if decisions are rare.
OPINIONS_PER_INVOCATION = 100
# Duration of a transaction with 99 decisions, and of a read of a profile; both assumed.
BATCH_TRANSACTION_SECONDS = 0.050
READ_SECONDS = 0.005
# Lambda's own log lines of an invocation.
PLATFORM_LOG = (
    "START RequestId: 6f1d0d6c-5b07-4d5e-9f0a-7c1f4f0b1f53 Version: $LATEST\n",
    "END RequestId: 6f1d0d6c-5b07-4d5e-9f0a-7c1f4f0b1f53\n",
    (
        "REPORT RequestId: 6f1d0d6c-5b07-4d5e-9f0a-7c1f4f0b1f53\tDuration: 15.94 ms\tBilled Duration: 16 ms\t"
        "Memory Size: 512 MB\tMax Memory Used: 98 MB\t\n"
    ),
)
# Bytes of the response headers that API Gateway adds and of an access log line, both assumed.
GATEWAY_HEADER_BYTES = 250
ACCESS_LOG_BYTES = 400
# AWS names 1% as the upper bound of cold starts; of the seconds, 0.05 are processor time, the rest is assumed.
COLD_START_SHARE = 0.01
COLD_START_SECONDS = 0.3
# Fields of a payment that the rule set declares
_PAYMENT = ("timestamp", "tx_id", "customer_id", "amount", "store", "category", "hour")
# Nine digits: a counter that has long been in use.
_COUNT = "123456789"


@dataclass(frozen=True)
class Usage:
    """The usage of a decision, averaged over the samples, and the settings of the stack that affect its price.

    Attributes
    ----------
    decision_bytes
        Size of the stored decision.
    decision_units, shard_units
        Write units of the decision and, shared with the other decisions of its transaction, of its counter shard.
    response_bytes
        Body and headers.
    log_bytes, log_lines
        Log output of the handler.
    metrics
        Custom metrics that CloudWatch extracts from the log.
    memory
        Of the function, in MB.
    decision_days, log_days
        Retention.
    alarms
        Number of metrics of all alarms, which CloudWatch bills. An alarm on an expression has several.
    duration
        Billed seconds of an invocation.
    attempts
        Transactions per decision; conflicting ones are billed as well.
    requests
        Requests per decision; less than 1 in batches.
    profile_bytes
        Size of a full profile; 0 if the decisions have no history.
    profile_units, read_units
        Write units of the profile, and read units, of a decision.
    """

    decision_bytes: float
    decision_units: float
    shard_units: float
    response_bytes: float
    log_bytes: float
    log_lines: float
    metrics: int
    memory: int
    architecture: str
    decision_days: int
    log_days: int
    alarms: int
    duration: float
    attempts: float = 1.0
    requests: float = 1.0
    profile_bytes: float = 0.0
    profile_units: float = 0.0
    read_units: float = 0.0


class Opinions(NamedTuple):
    """Use of services by opinions of a model, averaged over decisions.

    Attributes
    ----------
    units
        Write units of an update.
    size
        Bytes that an opinion adds to its decision.
    metrics, alarms
        Custom metrics, and alarms of shadow mode.
    """

    units: float
    size: float
    metrics: int
    alarms: int


class LineItem(NamedTuple):
    """A line of a bill."""

    item: str
    dollars: float


class RecordingClient:
    """A DynamoDB client that accepts every transaction and keeps its items; each read finds this profile, if any."""

    def __init__(self, profile: bytes | None = None) -> None:
        self._profile = profile
        self.items: list[dict[str, Any]] = []
        self.profiles: list[dict[str, Any]] = []
        self.counters: set[str] = set()
        self.transactions = 0
        self.read_units = 0

    def call(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        if operation == "BatchGetItem":
            return self._read(parameters["RequestItems"])
        *puts, update = parameters["TransactItems"]
        self.transactions += 1
        for item in [put["Put"]["Item"] for put in puts]:
            (self.profiles if "profile" in item else self.items).append(item)
        self.counters.update(update["Update"]["ExpressionAttributeNames"].values())
        return {}

    def _read(self, requested: dict[str, Any]) -> dict[str, Any]:
        profile: dict[str, Any] = {}
        if self._profile:
            profile["profile"] = {"B": base64.b64encode(self._profile).decode()}
            profile |= {"revision": {"S": "0" * 12}, "expires_at": {"N": "1765000001"}}
        found = {
            table: [{**key, **profile} for key in request["Keys"] if profile] for table, request in requested.items()
        }
        self.read_units += sum(read_units(item_size(item)) for items in found.values() for item in items)
        return {"Responses": found, "UnprocessedKeys": {}}


def item_size(item: dict[str, dict[str, str]]) -> int:
    """Return the size of an item of strings, numbers and binaries in bytes (*DynamoDB item sizes and formats*).

    Names and strings count their UTF-8 bytes, numbers one byte plus one for every two significant digits.
    """
    return sum(len(name.encode()) + _value_size(value) for name, value in item.items())


def _value_size(value: dict[str, str]) -> int:
    ((kind, text),) = value.items()
    if kind == "S":
        return len(text.encode())
    if kind == "B":
        return len(base64.b64decode(text))
    digits = re.sub(r"\D", "", text).strip("0")
    return 1 + math.ceil(len(digits) / 2) + text.startswith("-")


def write_units(size: float) -> int:
    """Return the write units of an item of ``size`` bytes in a transaction."""
    return WRITE_UNITS_PER_KB * max(math.ceil(size / KB), 1)


def read_units(size: float) -> int:
    """Return the read units of a consistent read of an item of ``size`` bytes."""
    return max(math.ceil(size / (READ_UNIT_KB * KB)), 1)


def billed_seconds(memory: int, transactions: float, handler: float | None = None) -> float:
    """Return the billed duration of an invocation: transactions, and the handler on its share of a processor."""
    seconds = transactions + (HANDLER_SECONDS if handler is None else handler) * max(MB_PER_PROCESSOR / memory, 1)
    return math.ceil(1000 * seconds) / 1000


@contextlib.contextmanager
def _handler(function: str, client: Any) -> Iterator[Any]:
    """Import the handler in this folder with the tests' rule set and a ledger that uses this client."""
    name = f"functions.{function}.app"
    with (
        patch.dict(os.environ, template.functions()["ScoreFunction"].variables),
        patch.dict(sys.modules),
        patch.object(settings, "SERVICE", "risk-scoring"),
        patch.object(scorers, "load", lambda: rule_set.RULE_SET),
        patch.object(
            recorder,
            "connect",
            lambda: Recorder(LedgerWriter(client, settings.read()), Outbox(Queue(client, "unused"))),
        ),
    ):
        sys.modules.pop(name, None)
        yield importlib.import_module(name).lambda_handler


def measure() -> Usage:
    """Score the sample transactions one by one and return what they use."""
    requests = [events.post(sample, idempotency_key=str(uuid.uuid4())) for sample in _samples()]
    memory = template.functions()["ScoreFunction"].memory
    return _usage("score", requests, len(requests), lambda _: billed_seconds(memory, Model(1, 1).mean))


def measure_history() -> Usage:
    """Score the sample transactions one by one, all of one customer with a full profile, and return what they use."""
    samples = [json.loads(sample) | {"customer_id": "C0001"} for sample in _samples()]
    requests = [events.post(json.dumps(sample), idempotency_key=str(uuid.uuid4())) for sample in samples]
    profile = None
    for _ in range(MAX_ENTRIES):
        _, profile = update(profile, observe(rule_set.RULE_SET.histories[0], samples[0], int(time.time())))
    memory = template.functions()["ScoreFunction"].memory
    duration = billed_seconds(memory, Model(1, 1).mean + READ_SECONDS, HISTORY_HANDLER_SECONDS)
    return _usage("score", requests, len(requests), lambda _: duration, profile)


def measure_batch() -> Usage:
    """Score a batch of 1,000, the sample transactions again and again, and return what they use."""
    samples = list(itertools.islice(itertools.cycle(_samples()), MAX_ITEMS))
    event = events.post("\n".join(samples), idempotency_key=str(uuid.uuid4()), content_type="application/x-ndjson")
    memory = template.functions()["BatchFunction"].memory
    handler = len(samples) * BATCH_HANDLER_SECONDS
    return _usage(
        "batch",
        [event],
        len(samples),
        lambda transactions: billed_seconds(memory, transactions * BATCH_TRANSACTION_SECONDS, handler),
    )


def measure_opinions() -> Opinions:
    """Let the shipped model judge the decisions on a thousand payments, and return what its opinions take."""
    client = RecordingClient()
    rows = [json.dumps({name: row[name] for name in _PAYMENT}) for row in payments.rows(MAX_ITEMS)]
    event = events.post("\n".join(rows), idempotency_key="opinions", content_type="application/x-ndjson")
    context = SimpleNamespace(aws_request_id="request-1", get_remaining_time_in_millis=lambda: 29_000)
    with _handler("batch", client) as handler, contextlib.redirect_stdout(io.StringIO()):
        handler(event, context)
    forest = ForestScorer(rule_set.RULE_SET, model_file.from_file(scorers.MODEL_FILE))
    sizes = []
    for item in client.items:
        opinion = shadow.judge({name: text for name, value in item.items() for text in value.values()}, forest)
        sizes.append((item_size(item), item_size({"shadow": {"S": opinion.document}})))
    log = io.StringIO()
    with patch.object(settings, "SERVICE", "risk-scoring"), contextlib.redirect_stdout(log):
        telemetry.emit_shadow([(*levels, True) for levels in itertools.combinations(RISK_LEVELS, 2)], failures=1)
        telemetry.emit_shadow([(RISK_LEVELS[-1], RISK_LEVELS[-1], True)], failures=0)
    return Opinions(
        units=fmean(math.ceil((decision + size) / KB) for decision, size in sizes),
        size=fmean(size for _, size in sizes),
        metrics=len(custom_metrics(log.getvalue())),
        alarms=_alarm_metrics({"Scorer": "shadow"}) - _alarm_metrics(),
    )


def _samples() -> list[str]:
    return (events.FOLDER / "transactions.jsonl").read_text(encoding="utf-8").splitlines()


def _usage(
    function: str,
    requests: Sequence[dict[str, Any]],
    decisions: int,
    duration: Callable[[int], float],
    profile: bytes | None = None,
) -> Usage:
    """Return what these requests use.

    Parameters
    ----------
    duration
        Returns the duration of an invocation with a number of transactions.
    profile
        The profile that each of them finds.
    """
    client, log = RecordingClient(profile), io.StringIO()
    context = SimpleNamespace(aws_request_id="request-1", get_remaining_time_in_millis=lambda: 29_000)
    with _handler(function, client) as handler, contextlib.redirect_stdout(log):
        responses = [handler(request, context) for request in requests]
    if len(client.items) != decisions or any(response["statusCode"] != 200 for response in responses):
        raise RuntimeError("A sample transaction was not recorded")
    parameters = {name: one.get("Default") for name, one in template.load()["Parameters"].items()}
    sizes = [item_size(item) for item in client.items]
    profile_sizes = [item_size(item) for item in client.profiles]
    response_bytes = sum(
        len(one["body"].encode())
        + sum(len(name) + len(value) + 4 for name, value in one["headers"].items())
        + GATEWAY_HEADER_BYTES
        for one in responses
    )
    shard = {"shard": {"N": "63"}} | {name: {"N": _COUNT} for name in client.counters}
    return Usage(
        decision_bytes=fmean(sizes),
        decision_units=fmean(map(write_units, sizes)),
        shard_units=write_units(item_size(shard)) * client.transactions / decisions,
        response_bytes=response_bytes / decisions,
        log_bytes=len(log.getvalue().encode()) / decisions,
        log_lines=log.getvalue().count("\n") / decisions,
        metrics=len(custom_metrics(log.getvalue())),
        memory=template.functions()[f"{function.capitalize()}Function"].memory,
        architecture=parameters["Architecture"],
        decision_days=parameters["DecisionDays"],
        log_days=parameters["LogDays"],
        alarms=_alarm_metrics(),
        duration=duration(client.transactions // len(responses)),
        requests=len(responses) / decisions,
        profile_bytes=max(profile_sizes, default=0),
        profile_units=sum(map(write_units, profile_sizes)) / decisions,
        read_units=client.read_units / decisions,
    )


def _alarm_metrics(parameters: Mapping[str, str] | None = None) -> int:
    """Return the number of metrics of the alarms in a stack with these parameters, by default the defaults."""
    alarms = Stack.local(template.load(), parameters).properties_of("AWS::CloudWatch::Alarm").values()
    return sum(max(1, sum("MetricStat" in one for one in alarm.get("Metrics", []))) for alarm in alarms)


def custom_metrics(log: str) -> set[tuple[str, ...]]:
    """Return the name and dimension values of each metric in log lines of the embedded metric format."""
    return {
        (metric["Name"], *(line[dimension] for dimension in dimensions))
        for line in map(json.loads, log.splitlines())
        for directive in line["_aws"]["CloudWatchMetrics"]
        for dimensions in directive["Dimensions"]
        for metric in directive["Metrics"]
    }


def million_decisions(usage: Usage) -> list[LineItem]:
    """Return the bill for a million decisions, including their storage until they expire."""
    days, milliseconds = usage.decision_days, 1000 * usage.duration
    written = usage.decision_units + usage.shard_units + usage.profile_units
    writes = usage.attempts * written * MILLION_WRITE_UNITS
    stored = MILLION * (usage.decision_bytes + ITEM_OVERHEAD) / GB * days / DAYS_PER_MONTH
    compute = gb_seconds(usage, usage.duration + COLD_START_SHARE * COLD_START_SECONDS)
    lines = usage.log_lines + usage.requests * (len(PLATFORM_LOG) + 1)
    request_bytes = sum(map(len, PLATFORM_LOG)) + ACCESS_LOG_BYTES
    log_bytes = usage.log_bytes + usage.requests * request_bytes + lines * LOG_LINE_OVERHEAD
    logs = MILLION * log_bytes / GB * (LOGS_GB + LOGS_GB_MONTH * LOGS_COMPRESSION * usage.log_days / DAYS_PER_MONTH)
    units = f"{usage.decision_units:g} units for the decision, {usage.shard_units:g} for the counters"
    reads = []
    if usage.profile_units:
        units += f", {usage.profile_units:g} for the profile"
        reads = [
            LineItem(f"DynamoDB, reads: {usage.read_units:g} unit for the profile", million_reads(usage.read_units))
        ]
    return [
        LineItem(f"DynamoDB, writes: {units}", writes),
        *reads,
        LineItem("API Gateway, HTTP API", usage.requests * HTTP_API_TIERS[0][1]),
        LineItem("CloudWatch, logs with the metrics in them, and the access log", logs),
        LineItem(
            f"DynamoDB, storage and point-in-time recovery for {days} days",
            stored * (STORAGE_GB_MONTH + RECOVERY_GB_MONTH),
        ),
        LineItem(
            f"Lambda: requests, {milliseconds:g} ms at {usage.memory} MB, {COLD_START_SHARE:.0%} cold starts",
            usage.requests * (LAMBDA_MILLION_REQUESTS + compute),
        ),
        LineItem("Data transfer out", MILLION * usage.response_bytes / GB * TRANSFER_GB),
    ]


def million_opinions(usage: Usage, opinions: Opinions) -> list[LineItem]:
    """Return what shadow mode adds to the bill for a million decisions."""
    memory = Stack.local(template.load(), {"Scorer": "shadow"}).properties("ShadowFunction")["MemorySize"]
    seconds = OPINION_SECONDS * max(MB_PER_PROCESSOR / memory, 1)
    stored = MILLION * opinions.size / GB * usage.decision_days / DAYS_PER_MONTH
    compute = gb_seconds(replace(usage, memory=memory), seconds)
    return [
        LineItem(f"DynamoDB, writes: {opinions.units:.1f} units for the opinion", opinions.units * MILLION_WRITE_UNITS),
        LineItem(
            f"DynamoDB, storage and point-in-time recovery of the opinions for {usage.decision_days} days",
            stored * (STORAGE_GB_MONTH + RECOVERY_GB_MONTH),
        ),
        LineItem(
            f"Lambda: {1000 * seconds:.1f} ms at {memory} MB, a request for {OPINIONS_PER_INVOCATION} decisions",
            compute + LAMBDA_MILLION_REQUESTS / OPINIONS_PER_INVOCATION,
        ),
    ]


def gb_seconds(usage: Usage, seconds: float) -> float:
    """Return the dollars for a million invocations of this duration, without the requests."""
    return MILLION * seconds * usage.memory / KB * LAMBDA_GB_SECOND[usage.architecture]


def idle_month(usage: Usage) -> list[LineItem]:
    """Return the bill for a month without requests and stored decisions."""
    return [
        LineItem(f"CloudWatch, {usage.alarms} metrics of alarms", usage.alarms * ALARM_MONTH),
        LineItem("SQS, Lambda's polling of the outbox", POLLS_PER_MONTH / MILLION * QUEUE_MILLION_REQUESTS),
    ]


def month(rate: float, usage: Usage) -> float:
    """Return the dollars of a month with ``rate`` decisions per second, in which the usual retention is stored."""
    millions = rate * SECONDS_PER_MONTH / MILLION
    variable = sum(line.dollars for line in million_decisions(usage)) - usage.requests * HTTP_API_TIERS[0][1]
    fixed = usage.alarms * ALARM_MONTH + usage.metrics * METRIC_MONTH
    return millions * variable + tiered(usage.requests * millions * MILLION, HTTP_API_TIERS) + fixed


def tiered(number: float, tiers: Iterable[tuple[float, float]]) -> float:
    """Return the dollars for ``number`` requests, by tiers of (requests up to, dollars per million)."""
    dollars, below = 0.0, 0.0
    for up_to, price in tiers:
        dollars += max(min(number, up_to) - below, 0) / MILLION * price
        below = up_to
    return dollars


def million_reads(units: float) -> float:
    """Return the dollars for a million reads of some units.

    ``GET /stats`` reads one unit for each shard of up to 4 KB, a decision one for each profile and list entry.
    """
    return units * MILLION_READ_UNITS


def million_profiles(usage: Usage) -> float:
    """Return the dollars for a million full profiles in a month: storage and point-in-time recovery."""
    return MILLION * (usage.profile_bytes + ITEM_OVERHEAD) / GB * (STORAGE_GB_MONTH + RECOVERY_GB_MONTH)


def bill(lines: Sequence[LineItem]) -> str:
    """Return the lines and their total as a table."""
    total = LineItem("**Total**", sum(line.dollars for line in lines))
    return table(["", "$"], [[line.item, f"{line.dollars:.2f}"] for line in [*lines, total]])


def main() -> None:
    """Print the bills."""
    usage, history = measure(), measure_history()
    print(f"A million decisions:\n\n{bill(million_decisions(usage))}\n")
    print(f"A million decisions with one history:\n\n{bill(million_decisions(history))}\n")
    print(f"A million decisions in batches of {MAX_ITEMS:,}:\n\n{bill(million_decisions(measure_batch()))}\n")
    opinions = measure_opinions()
    print(f"Opinions of a model about a million decisions:\n\n{bill(million_opinions(usage, opinions))}\n")
    print(f"A month without requests:\n\n{bill(idle_month(usage))}\n")
    print(f"Each further 10 ms of an invocation adds ${gb_seconds(usage, 0.010):.2f} to a million decisions.")
    print(f"A month with traffic adds ${usage.metrics * METRIC_MONTH:.2f} for {usage.metrics} custom metrics.")
    print(
        f"Shadow mode adds ${opinions.metrics * METRIC_MONTH + opinions.alarms * ALARM_MONTH:.2f} a month for "
        f"{opinions.metrics} custom metrics and {opinions.alarms} alarms."
    )
    reads = ", ".join(f"${million_reads(shards):g} with {shards:,} shards" for shards in (64, 2048))
    print(f"A million GET /stats cost {reads}.")
    print(f"A million searches of a list for a value cost ${million_reads(1):g}.")
    size = round(history.profile_bytes)
    print(f"A million full profiles of {size} bytes cost ${million_profiles(history):.2f} a month.")


if __name__ == "__main__":
    main()
