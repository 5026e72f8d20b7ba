"""What a million decisions cost, item by item, an idle month, and the same on other services; printed as tables.

    .venv/bin/python -m tests.benchmarks.cost
    .venv/bin/python -m tests.benchmarks.cost --measure    # the handler's processor time, on this machine

What is written, logged and answered is measured: ``POST /score`` is invoked with the sample transactions, and the bytes
that it gives to DynamoDB, the log and API Gateway are counted by their rules. Alarms, dashboards, memory, days and
shards are those of the template.

List prices of us-east-1 in US dollars, without taxes, free tiers, discounts or support, as of June 2026. The AWS price
pages load their numbers from elsewhere, so those of the HTTP API, Lambda, DynamoDB's on-demand units, CloudWatch and
Fargate were taken from what others quoted of them between July 2025 and June 2026; the others are long unchanged ones
that were not looked up at that time. Look at the price pages before a budget depends on it. Prices of other regions are
different, mostly higher.

Assumed: how long a transaction takes (as in :mod:`tests.benchmarks.scale`) and with it an invocation, how many of them
are cold starts, what API Gateway and Lambda themselves log and send.

Left out, since they come to cents: the messages of the outbox, the metric of throttled requests, which costs something
only in hours with some, and the requests to KMS for the key of the tables, which DynamoDB makes about once in five
minutes for each table and caller.
"""

import argparse
import contextlib
import importlib
import io
import json
import math
import os
import re
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import fmean
from typing import Any
from unittest.mock import patch

from tests import events
from tests.benchmarks.scale import UNITS_A_TRANSACTIONAL_KB, Model, table
from tests.local import account, emulator, template

sys.path.insert(0, str(template.ROOT / "functions" / "layer"))  # pytest has it there already, `python -m` has not

from scoring import scorers
from scoring.assessment import RISK_LEVELS
from scoring.ledger import tables

MILLION = 1_000_000
KB = 1024
GB = 1024**3
SECONDS_A_MONTH = 730 * 3600
DAYS_A_MONTH = 730 / 24

# Amazon API Gateway pricing: (requests a month up to, dollars a million).
HTTP_API = ((300 * MILLION, 1.00), (math.inf, 0.90))
REST_API = ((333 * MILLION, 3.50), (1_000 * MILLION, 2.80), (20_000 * MILLION, 2.38), (math.inf, 1.51))
# Amazon EC2 on-demand pricing, data transfer to the internet; the first 100 GB a month of an account are free.
TRANSFER_GB = 0.09
# AWS Lambda pricing, by architecture. The start of an environment is billed since August 2025 ("AWS Lambda standardizes
# billing for INIT phase").
LAMBDA_REQUESTS = 0.20
LAMBDA_GB_SECOND = {"arm64": 0.0000133334, "x86_64": 0.0000166667}
# Amazon DynamoDB pricing, Standard table class; on-demand since the cut by half of November 2024.
WRITE_UNITS = 0.625
READ_UNITS = 0.125
PROVISIONED_WRITE_UNIT_HOUR = 0.00065
STORAGE_GB_MONTH = 0.25
RECOVERY_GB_MONTH = 0.20
# Amazon CloudWatch pricing; logs are stored compressed, which it reckons with as 0.15 of what came in.
LOGS_GB = 0.50
LOGS_GB_MONTH = 0.03
LOGS_COMPRESSED = 0.15
ALARM_MONTH = 0.10
METRIC_MONTH = 0.30
DASHBOARD_MONTH = 3.00
FREE_DASHBOARDS = 3
# Amazon SQS pricing, standard queue; a million requests a month of an account are free.
QUEUE_REQUESTS = 0.40
# AWS Fargate pricing, Linux on ARM. Elastic Load Balancing pricing. Amazon VPC pricing, a public IPv4 address.
FARGATE_CPU_HOUR = 0.03238
FARGATE_GB_HOUR = 0.00356
BALANCER_HOUR = 0.0225
BALANCER_UNIT_HOUR = 0.008
ADDRESS_HOUR = 0.005

# DynamoDB Developer Guide, "DynamoDB item sizes and formats": what storage counts besides an item's own bytes.
STORED_BESIDES = 100
# Amazon CloudWatch Logs API Reference, "PutLogEvents": what a line counts besides its own bytes.
LOGGED_BESIDES = 26
# Lambda Developer Guide, "Memory and computing power": the memory at which a function has one virtual processor.
MEMORY_A_PROCESSOR = 1_769
# The pollers with which Lambda asks an empty queue, each waiting for 20 seconds.
POLLERS = 5
POLL_SECONDS = 20

# Seconds of processor time that a decision took on the machine of the README's other figures, rounded up: `make bench`,
# with calls encrypted; --measure tells it without.
PROCESSOR = 0.0003
# What Lambda writes of an invocation in its text format: the lines START, END and REPORT.
PLATFORM_LOG = (
    "START RequestId: 6f1d0d6c-5b07-4d5e-9f0a-7c1f4f0b1f53 Version: $LATEST\n",
    "END RequestId: 6f1d0d6c-5b07-4d5e-9f0a-7c1f4f0b1f53\n",
    (
        "REPORT RequestId: 6f1d0d6c-5b07-4d5e-9f0a-7c1f4f0b1f53\tDuration: 15.94 ms\tBilled Duration: 16 ms\t"
        "Memory Size: 512 MB\tMax Memory Used: 98 MB\t\n"
    ),
)
# Headers that API Gateway adds to an answer, and what a line of its access log may have: both assumed.
_ANSWER_HEADERS = 250
ACCESS_LOG = 400
# One in a hundred at most, says "AWS Lambda standardizes billing for INIT phase". Of the seconds of each, 0.05 are the
# processor time of `make bench`; what Lambda adds for its runtime and for slower disks is assumed.
COLD_SHARE = 0.01
COLD_SECONDS = 0.3
# Fargate: two tasks at least, for two zones, each used up to this share; connections are kept for some requests.
_TASKS = 2
_TASK_PROCESSORS = 0.5
_TASK_GB = 1
_TASK_USED = 0.6
_REQUESTS_A_CONNECTION = 10
_REQUEST_BYTES = 600
# Nine digits, so that a shard's size is that of a service long in use.
_COUNTED = "123456789"


@dataclass(frozen=True)
class Sizes:
    """What one decision leaves behind, on average of the sample transactions; in bytes where nothing else is said.

    Attributes
    ----------
    decision
        The item as throughput counts it.
    decision_units
        Write units that the transaction takes for it.
    answer
        Body and headers of the response, with an allowance for those of API Gateway.
    log
        What the handler writes.
    log_lines
        In how many lines.
    counters
        Names of what the transactions add to a shard, those of all samples together.
    metrics
        Custom metrics that CloudWatch makes of the log, all together: names with their dimensions.
    """

    decision: float
    decision_units: float
    answer: float
    log: float
    log_lines: float
    counters: frozenset[str]
    metrics: int


@dataclass(frozen=True)
class Usage:
    """What the price of a million decisions goes by, besides :class:`Sizes`.

    Attributes
    ----------
    duration
        Seconds that an invocation is billed for.
    attempts
        Transactions a decision; refused ones are paid as well. See :mod:`tests.benchmarks.scale`.
    access_log
        Bytes a line of API Gateway's access log; 0 for none.
    """

    duration: float
    memory: int
    architecture: str
    decision_days: int
    log_days: int
    shards: int
    shard_units: int
    alarms: int
    dashboards: int
    attempts: float = 1.0
    access_log: int = ACCESS_LOG


@dataclass(frozen=True)
class Line:
    """One line of a bill: what, how much of it, dollars."""

    item: str
    quantity: str
    dollars: float


class _Store:
    """Takes transactions as DynamoDB does, and keeps what they would write."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []
        self.counters: set[str] = set()

    def call(self, _operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        put, update = parameters["TransactItems"]
        self.items.append(put["Put"]["Item"])
        self.counters.update(update["Update"]["ExpressionAttributeNames"].values())
        return {}


class Context:
    """The part of Lambda's context object that the handlers use."""

    aws_request_id = "6f1d0d6c-5b07-4d5e-9f0a-7c1f4f0b1f53"

    @staticmethod
    def get_remaining_time_in_millis() -> int:
        return 10_000


def item_size(item: dict[str, dict[str, str]]) -> int:
    """Bytes of an item of strings and numbers, as DynamoDB counts throughput.

    A name and a string have their UTF-8 bytes, a number one byte and one for every two significant digits (*DynamoDB
    item sizes and formats*).
    """
    return sum(len(name.encode()) + _value_size(value) for name, value in item.items())


def _value_size(value: dict[str, str]) -> int:
    ((kind, text),) = value.items()
    if kind == "S":
        return len(text.encode())
    digits = re.sub(r"\D", "", text).strip("0")
    return 1 + math.ceil(len(digits) / 2) + text.startswith("-")


def units(size: float) -> int:
    """Write units of an item of so many bytes in a transaction."""
    return UNITS_A_TRANSACTIONAL_KB * max(math.ceil(size / KB), 1)


def shard_item(counters: Iterable[str]) -> dict[str, dict[str, str]]:
    """A shard that has counted for long, with these counters."""
    return {"shard": {"N": "63"}} | {name: {"N": _COUNTED} for name in counters}


@contextlib.contextmanager
def score_function(variables: dict[str, str]) -> Iterator[Any]:
    """The module of ``POST /score`` with the environment of the template and these variables."""
    function = template.functions()["ScoreFunction"]
    name = "functions.score.app"
    with patch.dict(os.environ), patch.dict(sys.modules):
        account.replace()
        os.environ.update(function.variables | variables)
        sys.modules.pop(name, None)
        yield importlib.import_module(name)


def _samples() -> list[dict[str, Any]]:
    lines = (events.FOLDER / "transactions.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _event(sample: dict[str, Any]) -> dict[str, Any]:
    return events.post(json.dumps(sample), idempotency_key=str(uuid.uuid4()))


def measure_sizes() -> Sizes:
    """Score the sample transactions and count the bytes."""
    store, log = _Store(), io.StringIO()
    with (
        score_function(emulator.variables("http://127.0.0.1:9")) as app,
        patch.object(app.RECORDER._ledger, "_dynamodb", store),
        contextlib.redirect_stdout(log),
    ):
        answers = [app.lambda_handler(_event(sample), Context) for sample in _samples()]
    number = len(answers)
    if len(store.items) != number or any(answer["statusCode"] != 200 for answer in answers):
        raise RuntimeError("A sample transaction was not recorded")
    sizes = [item_size(item) for item in store.items]
    headers = [sum(len(name) + len(value) + 4 for name, value in answer["headers"].items()) for answer in answers]
    return Sizes(
        decision=fmean(sizes),
        decision_units=fmean(units(size) for size in sizes),
        answer=fmean(len(answer["body"].encode()) for answer in answers) + fmean(headers) + _ANSWER_HEADERS,
        log=len(log.getvalue().encode()) / number,
        log_lines=log.getvalue().count("\n") / number,
        counters=frozenset(store.counters),
        metrics=len(custom_metrics(log.getvalue())),
    )


def custom_metrics(log: str) -> set[tuple[str, ...]]:
    """Each metric that CloudWatch makes of lines in its embedded metric format: name, and values of its dimensions."""
    return {
        (metric["Name"], *(line[dimension] for dimension in dimensions))
        for line in map(json.loads, log.splitlines())
        for directive in line["_aws"]["CloudWatchMetrics"]
        for dimensions in directive["Dimensions"]
        for metric in directive["Metrics"]
    }


def counters() -> list[str]:
    """Names of all that a shard can count: total, high, every level, every rule of ``rules.json``."""
    levels = [tables.LEVEL_PREFIX + level for level in RISK_LEVELS]
    return ["total", "high", *levels, *(tables.RULE_PREFIX + label for label in scorers.load().labels)]


def rules_in_a_kb(label_length: int) -> int:
    """How many rules with labels of so many bytes a shard may count and still be of 1 KB."""
    size = item_size(shard_item(name for name in counters() if not name.startswith(tables.RULE_PREFIX)))
    each = item_size(shard_item([tables.RULE_PREFIX + "x" * label_length])) - item_size(shard_item([]))
    return (KB - size) // each


def billed(memory: int, transaction: float) -> float:
    """Seconds that an invocation is billed for: a transaction, and the handler's work at its share of a processor."""
    seconds = transaction + PROCESSOR * max(MEMORY_A_PROCESSOR / memory, 1)
    return math.ceil(1000 * seconds) / 1000


def usage(**given: Any) -> Usage:
    """Usage of the template as it is, with some of it given otherwise."""
    document = template.load()
    parameters, types = document["Parameters"], [one["Type"] for one in document["Resources"].values()]
    memory = template.functions()["ScoreFunction"].memory
    found = {
        "duration": billed(memory, Model(1, 1).mean),
        "memory": memory,
        "architecture": parameters["Architecture"]["Default"],
        "decision_days": parameters["DecisionDays"]["Default"],
        "log_days": parameters["LogDays"]["Default"],
        "shards": parameters["StatsShards"]["Default"],
        "shard_units": units(item_size(shard_item(counters()))),
        "alarms": sum(kind in {"AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm"} for kind in types),
        "dashboards": types.count("AWS::CloudWatch::Dashboard"),
    }
    return Usage(**found | {name: value for name, value in given.items() if value is not None})


def million(sizes: Sizes, used: Usage) -> list[Line]:
    """The bill for a million decisions, all that follows from them until they expire included."""
    gb_seconds = MILLION * used.duration * used.memory / KB
    cold = MILLION * COLD_SHARE * COLD_SECONDS * used.memory / KB
    price = LAMBDA_GB_SECOND[used.architecture]
    stored = MILLION * (sizes.decision + STORED_BESIDES) / GB * used.decision_days / DAYS_A_MONTH
    platform = sum(len(line) + LOGGED_BESIDES for line in PLATFORM_LOG)
    handler = sizes.log + sizes.log_lines * LOGGED_BESIDES
    access = used.access_log + LOGGED_BESIDES if used.access_log else 0
    logged = MILLION * (handler + platform + access) / GB
    kept = logged * LOGS_COMPRESSED * used.log_days / DAYS_A_MONTH
    sent = MILLION * sizes.answer / GB
    writes, counts = used.attempts * sizes.decision_units, used.attempts * used.shard_units
    return [
        Line("API Gateway, HTTP API", "1 M requests", HTTP_API[0][1]),
        Line("Lambda, requests", "1 M", LAMBDA_REQUESTS),
        Line("Lambda, duration", f"{1000 * used.duration:g} ms x {used.memory} MB", gb_seconds * price),
        Line("Lambda, cold starts", f"{COLD_SHARE:.0%} x {COLD_SECONDS:g} s", cold * price),
        Line("DynamoDB, decisions", f"{writes:.3g} write units each", writes * WRITE_UNITS),
        Line("DynamoDB, counters", f"{counts:.3g} write units each", counts * WRITE_UNITS),
        Line(
            "DynamoDB, storage",
            f"{sizes.decision:.0f} + {STORED_BESIDES} B, {used.decision_days} days",
            stored * STORAGE_GB_MONTH,
        ),
        Line("DynamoDB, point-in-time recovery", "the same", stored * RECOVERY_GB_MONTH),
        Line("DynamoDB, expiry", "1 M deletions", 0),
        Line(
            "CloudWatch, logs",
            f"{handler:.0f} B handler, {platform} B Lambda, {access} B access log",
            logged * LOGS_GB,
        ),
        Line("CloudWatch, logs kept", f"{used.log_days} days", kept * LOGS_GB_MONTH),
        Line("Data transfer out", f"{sizes.answer:.0f} B each", sent * TRANSFER_GB),
    ]


def idle_month(used: Usage) -> list[Line]:
    """The bill for a month without a request, once nothing is stored any more; and before free tiers."""
    polls = POLLERS * SECONDS_A_MONTH / POLL_SECONDS
    paid = max(used.dashboards - FREE_DASHBOARDS, 0)
    return [
        Line("CloudWatch, alarms", f"{used.alarms}", used.alarms * ALARM_MONTH),
        Line("CloudWatch, dashboards", f"{used.dashboards}, {FREE_DASHBOARDS} free", paid * DASHBOARD_MONTH),
        Line("SQS, Lambda's polling of the outbox", f"{polls:,.0f} requests", polls / MILLION * QUEUE_REQUESTS),
        Line("API Gateway, Lambda, DynamoDB on-demand", "no request", 0),
    ]


def reading(used: Usage) -> float:
    """Dollars for a million reads of ``/stats``, of DynamoDB alone: a read unit for each shard of up to 4 KB."""
    return used.shards * math.ceil(used.shard_units / UNITS_A_TRANSACTIONAL_KB / 4) * READ_UNITS


def tiered(number: float, tiers: Iterable[tuple[float, float]]) -> float:
    """Dollars for so many requests a month, by tiers of (requests up to, dollars a million)."""
    dollars, below = 0.0, 0.0
    for up_to, price in tiers:
        dollars += max(min(number, up_to) - below, 0) / MILLION * price
        below = up_to
    return dollars


def month(rate: float, sizes: Sizes, used: Usage) -> dict[str, float]:
    """Dollars a month at a steady rate, of this service and of the same one on other services.

    Provisioned DynamoDB has exactly the write capacity that it needs, all of it used: the least that it can cost. The
    containers do the same work, write the same items, and log what the handler logs.
    """
    decisions = rate * SECONDS_A_MONTH
    bill = {line.item: line.dollars * decisions / MILLION for line in million(sizes, used)}
    bill["API Gateway, HTTP API"] = tiered(decisions, HTTP_API)
    fixed = used.alarms * ALARM_MONTH + sizes.metrics * METRIC_MONTH
    fixed += max(used.dashboards - FREE_DASHBOARDS, 0) * DASHBOARD_MONTH
    total = sum(bill.values()) + fixed
    capacity = rate * used.attempts * (sizes.decision_units + used.shard_units)
    writes = bill["DynamoDB, decisions"] + bill["DynamoDB, counters"]
    saved = writes - capacity * PROVISIONED_WRITE_UNIT_HOUR * 730
    logs = decisions * (sizes.log + sizes.log_lines * LOGGED_BESIDES) / GB * LOGS_GB
    serverless = sum(bill[name] for name in bill if name.startswith(("API", "Lambda", "CloudWatch")))
    containers = total - serverless + logs + container_month(rate, sizes)
    return {
        "this service": total,
        "with a REST API": total - bill["API Gateway, HTTP API"] + tiered(decisions, REST_API),
        "with provisioned DynamoDB": total - saved,
        "containers": containers,
        "containers and provisioned": containers - saved,
    }


def tasks(rate: float) -> int:
    """Fargate tasks that it takes."""
    return max(_TASKS, math.ceil(rate * PROCESSOR / (_TASK_PROCESSORS * _TASK_USED)))


def container_month(rate: float, sizes: Sizes) -> float:
    """Dollars a month for the tasks, the load balancer in front of them, and their public addresses."""
    number = tasks(rate)
    gigabytes_an_hour = rate * 3600 * (_REQUEST_BYTES + sizes.answer) / GB
    # One unit has 25 new connections a second and 1 GB an hour; what takes more of them counts.
    capacity = max(rate / _REQUESTS_A_CONNECTION / 25, gigabytes_an_hour)
    task = _TASK_PROCESSORS * FARGATE_CPU_HOUR + _TASK_GB * FARGATE_GB_HOUR
    balancer = BALANCER_HOUR + capacity * BALANCER_UNIT_HOUR
    return 730 * (number * task + balancer + (number + _TASKS) * ADDRESS_HOUR)


def measure_processor(number: int = 1_000) -> float:
    """Seconds of processor time that the handler takes for a decision, with the emulator in another process."""
    account.replace()
    samples = _samples()
    with (
        emulator.running() as endpoint,
        score_function(emulator.variables(endpoint)) as app,
        contextlib.redirect_stdout(io.StringIO()),
    ):
        prepared = [_event(samples[n % len(samples)]) for n in range(number + 100)]
        for event in prepared[:100]:
            app.lambda_handler(event, Context)
        start = time.process_time()
        for event in prepared[100:]:
            app.lambda_handler(event, Context)
        return (time.process_time() - start) / number


def bill(lines: list[Line]) -> str:
    """A table of lines, with their sum."""
    rows = [[line.item, line.quantity, _dollars(line.dollars)] for line in lines]
    return table(["item", "", "$"], [*rows, ["**together**", "", f"**{sum(line.dollars for line in lines):.2f}**"]])


def _dollars(dollars: float) -> str:
    return "< 0.01" if 0 < dollars < 0.01 else f"{dollars:,.2f}"


def report(sizes: Sizes, used: Usage) -> str:
    """What a person reads."""
    durations = (0.010, 0.025, 0.050, 0.100)
    sums = [sum(line.dollars for line in million(sizes, Usage(**vars(used) | {"duration": one}))) for one in durations]
    months = {rate: month(rate, sizes, used) for rate in (10, 100, 1_000)}
    length = round(fmean(len(label.encode()) for label in scorers.load().labels))
    note = (
        f"A shard has {item_size(shard_item(counters()))} bytes with {len(scorers.load().labels)} rules, and takes "
        f"{used.shard_units} write units; with labels of {length} bytes, up to {rules_in_a_kb(length)} rules do. "
        f"A million reads of /stats read {used.shards} shards each, for ${reading(used):.2f}. "
        f"{sizes.metrics} custom metrics add ${sizes.metrics * METRIC_MONTH:.2f} to a month with traffic."
    )
    return "\n\n".join(
        [
            "A million decisions:",
            bill(million(sizes, used)),
            "The same by the duration of an invocation:",
            table(
                ["billed", *(f"{1000 * one:g} ms" for one in durations)],
                [["a million decisions, $", *(f"{one:.2f}" for one in sums)]],
            ),
            "A month without a request:",
            bill(idle_month(used)),
            "A month at a steady rate, $:",
            table(
                ["decisions/s", *months[10], "tasks"],
                [
                    [f"{rate:,}", *(f"{one:,.0f}" for one in by.values()), f"{tasks(rate)}"]
                    for rate, by in months.items()
                ],
            ),
            note,
        ]
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="What a million decisions cost, at list prices of us-east-1.")
    parser.add_argument("--duration-ms", type=float, help="billed for an invocation; default: estimated")
    parser.add_argument("--attempts", type=float, default=1.0, help="transactions a decision")
    parser.add_argument("--memory", type=int, help="MB")
    parser.add_argument("--decision-days", type=int)
    parser.add_argument("--shards", type=int)
    parser.add_argument("--access-log-bytes", type=int, default=ACCESS_LOG)
    parser.add_argument("--measure", action="store_true", help="only the handler's processor time")
    arguments = parser.parse_args()
    if arguments.measure:
        print(f"{1000 * measure_processor():.2f} ms of processor time a decision")
        return
    used = usage(
        duration=arguments.duration_ms and arguments.duration_ms / 1000,
        attempts=arguments.attempts,
        memory=arguments.memory,
        decision_days=arguments.decision_days,
        shards=arguments.shards,
        access_log=arguments.access_log_bytes,
    )
    print(report(measure_sizes(), used))


if __name__ == "__main__":
    main()
