"""What it takes by rate: that the advice holds, and that README and template give it."""

import re
from dataclasses import replace

import pytest

from tests.benchmarks import cost, plan, scale
from tests.benchmarks.plan import Plan
from tests.benchmarks.scale import Model, Outcome
from tests.local import template
from tests.local.template import ROOT

SHARDS = template.load()["Parameters"]["StatsShards"]


@pytest.fixture(scope="module")
def plans() -> dict[float, Plan]:
    """Of every rate; some seconds."""
    sizes = cost.measure_sizes()
    found = [plan.advised(Model(rate, scale.DEFAULT_SHARDS)) for rate in plan.RATES]
    return {model.rate: plan.plan(model, outcomes, sizes) for model, outcomes in found}


def test_the_rates_go_from_1_to_100_000() -> None:
    assert set(scale.RATES) <= set(plan.RATES)
    assert (min(plan.RATES), max(plan.RATES)) == (1, 100_000)


def test_the_readme_has_the_table(plans: dict[float, Plan]) -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    header, rule, *rows = plan.report(plans.values()).splitlines()
    start = lines.index(header)
    assert lines[start + 1] == rule
    for told, row in zip(lines[start + 2 :], rows, strict=False):
        *told_cells, told_dollars = told.strip("| ").split(" | ")
        *cells, dollars = row.strip("| ").split(" | ")
        assert told_cells == cells
        # The log has figures in it that are not the same each time.
        assert float(told_dollars.replace(",", "")) == pytest.approx(float(dollars.replace(",", "")), rel=0.02)


def test_the_template_advises_the_same(plans: dict[float, Plan]) -> None:
    advice = re.findall(r"(\d+) (?:do )?for (?:some )?([\d,]+)", SHARDS["Description"])
    assert len(advice) >= 4
    for shards, rate in advice:
        assert plans[float(rate.replace(",", ""))].shards == int(shards)


def test_what_is_advised_can_be_set(plans: dict[float, Plan]) -> None:
    assert {one.shards for one in plans.values()} <= set(range(SHARDS["Default"], SHARDS["MaxValue"] + 1))


def test_conflicts_are_rare_with_what_is_advised_and_not_with_half(plans: dict[float, Plan]) -> None:
    for one in plans.values():
        assert one.conflicts < 0.01
        assert one.environments < one.shards
    for rate in (5_000, 10_000):
        half = Model(rate, plans[rate].shards // 2)
        assert not plan.is_enough(half, [scale.simulate(half)])


@pytest.mark.parametrize(
    ("outcome", "enough"),
    [
        (Outcome([1] * 1000, environments=63), True),
        (Outcome([1] * 1000, environments=64), False),
        (Outcome([2] * 500, refused={"TransactionConflict": 9}, environments=63), True),
        (Outcome([2] * 500, refused={"TransactionConflict": 10}, environments=63), False),
    ],
)
def test_what_is_enough(outcome: Outcome, *, enough: bool) -> None:
    assert plan.is_enough(Model(1, 64), [outcome]) == enough


def test_slower_transactions_take_more_shards() -> None:
    model, _ = plan.advised(Model(2_000, scale.DEFAULT_SHARDS, transaction=0.020, handler=0.010))
    assert model.shards == 128


def test_what_is_refused_is_paid_and_waited_for() -> None:
    sizes = cost.measure_sizes()
    model = Model(2_000, 64)
    clean = Outcome([1], [0.0], environments=50)
    crowded = Outcome([3], [0.1], environments=900)
    small, large = plan.plan(model, [clean], sizes), plan.plan(model, [clean, crowded], sizes)
    assert (small.attempts, large.attempts) == (1, 2)
    assert (small.environments, large.environments) == (50, 900)
    assert (small.quotas, large.quotas) == ({}, {"Lambda": 0.9})
    month = cost.month(2_000, sizes, cost.usage())["this service"]
    assert small.dollars == pytest.approx(month)
    # Each attempt takes four write units; the time is some cents a million.
    writes = 2_000 * cost.SECONDS_A_MONTH / cost.MILLION * 4 * cost.WRITE_UNITS
    assert writes < large.dollars - month < 1.2 * writes


def test_quotas_that_are_near() -> None:
    outcome = Outcome([1], [0.0], environments=1)
    sizes = cost.measure_sizes()
    model = Model(7_999, 256)
    assert plan.plan(model, [outcome], sizes).quotas == {}
    assert plan.plan(replace(model, rate=8_000), [outcome], sizes).quotas == {"API Gateway": 0.8, "Lambda": 0.8}
