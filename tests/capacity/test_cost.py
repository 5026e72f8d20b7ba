"""Test that sizes are counted as AWS counts them, and that every line of a bill follows from prices and usage."""

import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from scoring.assessment import RISK_LEVELS
from tests.capacity import cost
from tests.capacity.cost import GB, MILLION, LineItem, Opinions, Usage
from tests.local import template
from tests.local.template import ROOT
from tests.rule_set import RULE_SET

README = ROOT / "tests" / "capacity" / "README.md"
USAGE = Usage(
    decision_bytes=924,
    decision_units=2,
    shard_units=2,
    response_bytes=1024,
    log_bytes=74,
    log_lines=1,
    metrics=10,
    memory=512,
    architecture="arm64",
    decision_days=73,
    log_days=73,
    alarms=3,
    duration=0.020,
)
WRITES, API, LOGS, STORAGE, LAMBDA, TRANSFER = range(6)


@pytest.fixture(scope="module")
def usage() -> Usage:
    return cost.measure()


@pytest.fixture(scope="module")
def history() -> Usage:
    return cost.measure_history()


def dollars(lines: list[LineItem]) -> list[float]:
    return [line.dollars for line in lines]


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
        ({"b": {"B": "AAEC"}}, 1 + 3),
        ({"k": {"S": "ab"}, "n": {"N": "1765000001"}}, 3 + 1 + 5 + 1),
    ],
)
def test_item_size(item: Any, size: int) -> None:
    assert cost.item_size(item) == size


@pytest.mark.parametrize(("size", "units"), [(0, 2), (1, 2), (1024, 2), (1025, 4), (5000, 10)])
def test_write_units(size: int, units: int) -> None:
    assert cost.write_units(size) == units


@pytest.mark.parametrize(("size", "units"), [(0, 1), (1, 1), (4096, 1), (4097, 2)])
def test_read_units(size: int, units: int) -> None:
    assert cost.read_units(size) == units


def test_usage_is_that_of_handler_and_template(usage: Usage) -> None:
    parameters, resources = template.load()["Parameters"], template.load()["Resources"]
    assert 300 < usage.decision_bytes < 1024
    assert (usage.decision_units, usage.shard_units) == (2, 2)
    assert usage.log_lines >= 1
    assert usage.log_bytes > 200
    # Decisions and latency, in total and by level, and hits by rule
    assert usage.metrics == 2 * (1 + len(RISK_LEVELS)) + len(RULE_SET.rules)
    assert usage.memory == template.functions()["ScoreFunction"].memory
    assert usage.decision_days == parameters["DecisionDays"]["Default"]
    alarms = {name for name in resources if name.endswith("Alarm") and not name.startswith(("Shadow", "Stream"))}
    # AlertMappingAlarm has six: decisions and unrecorded decisions of two levels, published and failed alerts.
    assert usage.alarms == len(alarms) + 5
    # The bill leaves out dashboards, the first three of which are free.
    assert sum(one["Type"] == "AWS::CloudWatch::Dashboard" for one in resources.values()) <= 3


def test_measure_has_no_side_effects(usage: Usage) -> None:
    before = dict(os.environ), list(sys.path), set(sys.modules)
    assert cost.measure().log_lines == usage.log_lines
    assert (dict(os.environ), list(sys.path), set(sys.modules)) == before


def test_bill_for_a_million_decisions() -> None:
    # 2.4 months; a KB each with the storage overhead; 100 bytes for the handler's log line, 426 for the access log.
    months = 2.4
    logs = MILLION * (100 + 426 + sum(map(len, cost.PLATFORM_LOG)) + 3 * 26) / GB
    assert dollars(cost.million_decisions(USAGE)) == pytest.approx(
        [
            4 * 0.625,
            1.00,
            logs * (0.50 + 0.15 * months * 0.03),
            MILLION * 1024 / GB * months * (0.25 + 0.20),
            0.20 + (10_000 + 1_500) * 0.0000133334,
            MILLION * 1024 / GB * 0.09,
        ]
    )


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        ({"duration": 0.040}, {LAMBDA}),
        ({"memory": 1024}, {LAMBDA}),
        ({"architecture": "x86_64"}, {LAMBDA}),
        ({"decision_days": 90}, {STORAGE}),
        ({"log_days": 90}, {LOGS}),
        ({"shard_units": 4}, {WRITES}),
        ({"attempts": 1.5}, {WRITES}),
        ({"requests": 2.0}, {API, LOGS, LAMBDA}),
        ({"response_bytes": 2048}, {TRANSFER}),
        ({"profile_bytes": 936}, set()),
        ({"alarms": 9, "metrics": 99}, set()),
    ],
)
def test_each_setting_raises_its_lines_only(change: dict[str, Any], lines: set[int]) -> None:
    before = dollars(cost.million_decisions(USAGE))
    after = dollars(cost.million_decisions(replace(USAGE, **change)))
    assert {line for line in range(len(before)) if after[line] > before[line]} == lines
    assert {line for line in range(len(before)) if after[line] != before[line]} == lines


def test_history_takes_two_more_write_units_and_a_read_unit(usage: Usage, history: Usage) -> None:
    assert (history.decision_units, history.shard_units) == (usage.decision_units, usage.shard_units)
    assert (history.profile_units, history.read_units) == (2, 1)
    assert (usage.profile_units, usage.read_units, usage.profile_bytes) == (0, 0, 0)
    assert 849 < history.profile_bytes < 1024
    # Nine numbers
    assert 100 < history.decision_bytes - usage.decision_bytes < 300


def test_bill_with_one_history() -> None:
    lines = cost.million_decisions(replace(USAGE, profile_units=2, read_units=1))
    assert dollars(lines[:2]) == pytest.approx([6 * 0.625, 0.125])
    assert dollars(lines[2:]) == dollars(cost.million_decisions(USAGE)[1:])
    twice = cost.million_decisions(replace(USAGE, profile_units=2, read_units=1, attempts=2))
    assert dollars(twice[:1]) == pytest.approx([12 * 0.625])


def test_price_of_profiles() -> None:
    assert cost.million_profiles(replace(USAGE, profile_bytes=924)) == pytest.approx(MILLION * 1024 / GB * 0.45)


def test_bill_for_an_idle_month() -> None:
    assert dollars(cost.idle_month(USAGE)) == pytest.approx([0.30, 0.657 * 0.40])


@pytest.mark.parametrize(("millions", "price"), [(0, 0), (1, 1), (300, 300), (301, 300.9), (1000, 300 + 630)])
def test_tiers(millions: int, price: float) -> None:
    assert cost.tiered(millions * MILLION, cost.HTTP_API_TIERS) == pytest.approx(price)


def test_month_adds_alarms_and_metrics() -> None:
    """One decision in two seconds makes 1,314,000 a month, within the first price tier."""
    variable = 1.314 * sum(dollars(cost.million_decisions(USAGE)))
    assert cost.month(0.5, USAGE) == pytest.approx(variable + 3 * 0.10 + 10 * 0.30)


def test_billed_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "HANDLER_SECONDS", 0.002)
    assert cost.billed_seconds(cost.MB_PER_PROCESSOR, 0.0101) == 0.013
    assert cost.billed_seconds(2 * cost.MB_PER_PROCESSOR, 0.010) == 0.012
    assert cost.billed_seconds(cost.MB_PER_PROCESSOR // 2, 0.010) == pytest.approx(0.015)


def test_read_costs_a_unit_per_shard() -> None:
    assert cost.million_reads(64) == pytest.approx(64 * 0.125)


def test_batch_costs_less_for_the_same_decisions(usage: Usage) -> None:
    batch = cost.measure_batch()
    # The id of a decision has the index in the batch.
    assert usage.decision_bytes == pytest.approx(batch.decision_bytes, abs=10)
    assert (batch.decision_units, batch.shard_units, batch.requests) == (2, 0.022, 0.001)
    assert batch.memory == template.functions()["BatchFunction"].memory
    assert batch.log_lines < 0.02
    assert sum(dollars(cost.million_decisions(batch))) < sum(dollars(cost.million_decisions(usage))) / 2


def test_opinions() -> None:
    opinions = cost.measure_opinions()
    # Most decisions have less than a KB, and no contributions.
    assert 1 <= opinions.units < 1.1
    assert 100 < opinions.size < 300
    # Judged, agreements, failures; six shifts; frauds, in total and by level
    assert (opinions.metrics, opinions.alarms) == (3 + 6 + 1 + len(RISK_LEVELS), 3)


def test_bill_for_opinions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "OPINION_SECONDS", 0.001 * 1024 / cost.MB_PER_PROCESSOR)
    bill = dollars(cost.million_opinions(USAGE, Opinions(units=1.5, size=1024, metrics=1, alarms=1)))
    # A millisecond at a GB each
    assert bill == pytest.approx([1.5 * 0.625, MILLION * 1024 / GB * 2.4 * 0.45, 1000 * 0.0000133334 + 0.002])


def test_readme_quotes_the_bills(usage: Usage, history: Usage) -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    bills = [cost.million_decisions(one) for one in (usage, history, cost.measure_batch())]
    opinions = cost.million_opinions(usage, cost.measure_opinions())
    for bill in [*bills, opinions, cost.idle_month(usage)]:
        for row in cost.bill(bill).splitlines():
            *cells, amount = row.strip("| ").split(" | ")
            quoted = [line.strip("| ").split(" | ") for line in lines if line.startswith(f"| {' | '.join(cells)} |")]
            assert quoted, row
            if amount not in {"$", "---:"}:
                # Latencies in the log differ in length.
                assert any(float(one[-1]) == pytest.approx(float(amount), abs=0.011) for one in quoted), row


def test_command_prints_the_bills() -> None:
    command = [sys.executable, "-m", "tests.capacity.cost"]
    result = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.count("**Total**") == 5
