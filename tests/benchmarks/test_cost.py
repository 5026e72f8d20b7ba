"""The cost of a million decisions: that sizes are counted right, and that every line follows from prices and usage."""

import dataclasses
import math
import os
import subprocess
import sys
from typing import Any

import pytest

from scoring.assessment import RISK_LEVELS
from scoring.scorers.rules_loader import MAX_LABEL_LENGTH, MAX_RULES
from tests.benchmarks import cost
from tests.benchmarks.cost import MILLION, Line, Sizes, Usage
from tests.local import template
from tests.local.template import ROOT
from tests.rule_set import RULE_SET

SIZES = Sizes(decision=924, decision_units=2, answer=1024, log=74, log_lines=1, counters=frozenset(), metrics=0)
USAGE = Usage(
    duration=0.020,
    memory=512,
    architecture="arm64",
    decision_days=73,
    log_days=73,
    shards=64,
    shard_units=2,
    alarms=3,
    dashboards=4,
    access_log=74,
)


@pytest.fixture(scope="module")
def sizes() -> Sizes:
    return cost.measure_sizes()


def dollars(lines: list[Line]) -> dict[str, float]:
    return {line.item: line.dollars for line in lines}


@pytest.mark.parametrize(
    ("item", "size"),
    [
        ({"a": {"S": ""}}, 1),
        ({"name": {"S": "\u017b"}}, 4 + 2),
        ({"n": {"N": "0"}}, 1 + 1),
        ({"n": {"N": "7"}}, 1 + 1 + 1),
        ({"n": {"N": "123"}}, 1 + 2 + 1),
        ({"n": {"N": "1200"}}, 1 + 1 + 1),
        ({"n": {"N": "-12"}}, 1 + 1 + 1 + 1),
        ({"k": {"S": "ab"}, "n": {"N": "1765000001"}}, 3 + 1 + 5 + 1),
    ],
)
def test_item_sizes(item: Any, size: int) -> None:
    assert cost.item_size(item) == size


@pytest.mark.parametrize(("size", "units"), [(0, 2), (1, 2), (1024, 2), (1025, 4), (5000, 10)])
def test_units(size: int, units: int) -> None:
    assert cost.units(size) == units


def test_what_the_handler_writes_is_what_is_counted(sizes: Sizes) -> None:
    assert 300 < sizes.decision < 1024
    assert sizes.decision_units == 2
    assert sizes.log_lines >= 1
    assert sizes.log > 200
    # Decisions and latency, as a whole and by level, and hits by rule
    assert sizes.metrics == 2 * (1 + len(RISK_LEVELS)) + len(RULE_SET.rules)
    # Every sample counts some of what a shard can count, and nothing else.
    assert {"total", "high"} < sizes.counters <= set(cost.counters())


def test_measuring_leaves_no_trace(sizes: Sizes) -> None:
    before = dict(os.environ), list(sys.path), set(sys.modules)
    assert cost.measure_sizes().log_lines == sizes.log_lines
    assert (dict(os.environ), list(sys.path), set(sys.modules)) == before


def test_rules_make_a_shard_grow() -> None:
    label = "R1: amount > 3000"
    most = cost.rules_in_a_kb(len(label))
    fixed = [name for name in cost.counters() if not name.startswith("rule#")]
    shard = [*fixed, *(f"rule#{'x' * (len(label) - 3)}{number:03}" for number in range(most))]
    assert cost.item_size(cost.shard_item(shard)) <= cost.KB
    assert cost.item_size(cost.shard_item([*shard, f"rule#{label}"])) > cost.KB
    assert most > len(RULE_SET.rules)
    # The most that a rule set may have
    assert cost.rules_in_a_kb(MAX_LABEL_LENGTH) < MAX_RULES


def test_every_line_of_a_million() -> None:
    million = cost.million(SIZES, USAGE)
    # 2.4 months; a KB each with what storage adds; a hundred bytes each for the lines of handler and access log.
    months, platform = 2.4, sum(map(len, cost.PLATFORM_LOG)) + 3 * 26
    logs = MILLION * (100 + 100 + platform) / 2**30
    assert dollars(million) == pytest.approx(
        {
            "API Gateway, HTTP API": 1.00,
            "Lambda, requests": 0.20,
            "Lambda, duration": 10_000 * 0.0000133334,
            "Lambda, cold starts": 1_500 * 0.0000133334,
            "DynamoDB, decisions": 2 * 0.625,
            "DynamoDB, counters": 2 * 0.625,
            "DynamoDB, storage": MILLION * 1024 / 2**30 * months * 0.25,
            "DynamoDB, point-in-time recovery": MILLION * 1024 / 2**30 * months * 0.20,
            "DynamoDB, expiry": 0,
            "CloudWatch, logs": logs * 0.50,
            "CloudWatch, logs kept": logs * 0.15 * months * 0.03,
            "Data transfer out": MILLION * 1024 / 2**30 * 0.09,
        }
    )


def test_an_idle_month() -> None:
    assert dollars(cost.idle_month(USAGE)) == pytest.approx(
        {
            "CloudWatch, alarms": 0.30,
            "CloudWatch, dashboards": 3.00,
            "SQS, Lambda's polling of the outbox": 0.657 * 0.40,
            "API Gateway, Lambda, DynamoDB on-demand": 0,
        }
    )


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        ({"duration": 0.040}, {"Lambda, duration"}),
        ({"memory": 1024}, {"Lambda, duration", "Lambda, cold starts"}),
        ({"architecture": "x86_64"}, {"Lambda, duration", "Lambda, cold starts"}),
        ({"decision_days": 90}, {"DynamoDB, storage", "DynamoDB, point-in-time recovery"}),
        ({"log_days": 90}, {"CloudWatch, logs kept"}),
        ({"shards": 1000}, set()),
        ({"shard_units": 4}, {"DynamoDB, counters"}),
        ({"attempts": 1.5}, {"DynamoDB, decisions", "DynamoDB, counters"}),
        ({"access_log": 400}, {"CloudWatch, logs", "CloudWatch, logs kept"}),
        ({"alarms": 9, "dashboards": 9}, set()),
    ],
)
def test_what_changes_which_line(change: dict[str, Any], lines: set[str]) -> None:
    before = dollars(cost.million(SIZES, USAGE))
    after = dollars(cost.million(SIZES, dataclasses.replace(USAGE, **change)))
    assert {item for item in before if after[item] > before[item]} == lines
    assert {item for item in before if after[item] != before[item]} == lines


@pytest.mark.parametrize(
    ("number", "price"),
    [(0, 0), (1, 1), (300, 300), (301, 300.9), (1000, 300 + 630)],
)
def test_tiers(number: int, price: float) -> None:
    assert cost.tiered(number * MILLION, cost.HTTP_API) == pytest.approx(price)


def test_a_month() -> None:
    """At one decision in two seconds: 1,314,000 decisions, of which nothing reaches a second tier."""
    fixed = 3 * 0.10 + 3.00
    whole = 1.314 * sum(line.dollars for line in cost.million(SIZES, USAGE)) + fixed
    month = cost.month(0.5, SIZES, USAGE)
    assert month["this service"] == pytest.approx(whole)
    assert month["with a REST API"] == pytest.approx(whole + 1.314 * 2.50)
    # Two units a second at full use for $0.00065 an hour, in place of four for each decision
    saved = 1.314 * 4 * 0.625 - 2 * 0.00065 * 730
    assert month["with provisioned DynamoDB"] == pytest.approx(whole - saved)
    assert month["containers"] - month["containers and provisioned"] == pytest.approx(saved)
    with_metrics = cost.month(0.5, dataclasses.replace(SIZES, metrics=10), USAGE)
    assert with_metrics["this service"] == pytest.approx(whole + 3.00)


def test_containers_that_do_little() -> None:
    """Two tasks, four addresses and a load balancer, by the hour."""
    task, balancer = 0.5 * 0.03238 + 0.00356, 0.0225
    assert cost.container_month(0, SIZES) == pytest.approx(730 * (2 * task + balancer + 4 * 0.005))


@pytest.mark.parametrize(("rate", "tasks"), [(0, 2), (300, 2), (1_000, 6)])
def test_tasks(rate: float, tasks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "PROCESSOR", 0.0016)
    assert cost.tasks(rate) == tasks


def test_the_duration_billed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "PROCESSOR", 0.002)
    assert cost.billed(cost.MEMORY_A_PROCESSOR, 0.0101) == 0.013
    assert cost.billed(2 * cost.MEMORY_A_PROCESSOR, 0.010) == 0.012
    assert math.isclose(cost.billed(cost.MEMORY_A_PROCESSOR // 2, 0.010), 0.015)


def test_usage_is_that_of_the_template() -> None:
    parameters, resources = template.load()["Parameters"], template.load()["Resources"]
    usage = cost.usage(memory=1024, decision_days=None)
    assert usage.memory == 1024
    assert usage.decision_days == parameters["DecisionDays"]["Default"]
    assert usage.shards == parameters["StatsShards"]["Default"]
    assert usage.alarms == sum(name.endswith("Alarm") for name in resources)


def test_reading_takes_a_unit_of_each_shard() -> None:
    assert cost.reading(USAGE) == pytest.approx(64 * 0.125)
    assert cost.reading(dataclasses.replace(USAGE, shard_units=10)) == pytest.approx(2 * 64 * 0.125)


def test_the_command_prints_its_tables() -> None:
    command = [sys.executable, "-m", "tests.benchmarks.cost", "--duration-ms", "25"]
    result = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")
    rows = [line.strip("| ").split(" | ") for line in result.stdout.splitlines() if line.startswith("| ")]
    told = [float(row[-1].strip("*")) for row in rows if row[0] == "**together**"]
    assert len(told) == 2
    # What is told for 25 ms is the same in the table of durations.
    (durations,) = [row for row in rows if row[0] == "a million decisions, $"]
    assert float(durations[2]) == told[0]
