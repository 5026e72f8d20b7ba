"""Test the recommended numbers of shards, and that README and template quote them."""

import re

import pytest

from tests.capacity import cost, plan
from tests.capacity.plan import Plan
from tests.capacity.simulation import Model, Outcome
from tests.local import template
from tests.local.template import ROOT

SHARDS = template.load()["Parameters"]["StatsShards"]
USAGE = cost.measure()


@pytest.fixture(scope="module")
def plans() -> dict[float, Plan]:
    return {one.rate: one for one in plan.plan_rates(plan.RATES)}


def test_readme_quotes_the_table(plans: dict[float, Plan]) -> None:
    lines = (ROOT / "tests" / "capacity" / "README.md").read_text(encoding="utf-8").splitlines()
    header, rule, *rows = plan.report(list(plans.values())).splitlines()
    start = lines.index(header)
    assert lines[start + 1] == rule
    for line, row in zip(lines[start + 2 :], rows, strict=False):
        *quoted_cells, quoted_dollars = line.strip("| ").split(" | ")
        *cells, dollars = row.strip("| ").split(" | ")
        assert quoted_cells == cells
        # Latencies in the log differ in length.
        assert float(quoted_dollars.replace(",", "")) == pytest.approx(float(dollars.replace(",", "")), rel=0.02)


def test_template_quotes_the_shards(plans: dict[float, Plan]) -> None:
    quoted = re.findall(r"(\d+) (?:do )?for (?:some )?([\d,]+)", SHARDS["Description"])
    assert len(quoted) >= 4
    for shards, rate in quoted:
        assert plans[float(rate.replace(",", ""))].shards == int(shards)


def test_default_is_that_of_the_template() -> None:
    assert SHARDS["Default"] == plan.DEFAULT_SHARDS


def test_template_accepts_the_recommended_shards(plans: dict[float, Plan]) -> None:
    assert {one.shards for one in plans.values()} <= set(range(SHARDS["Default"], SHARDS["MaxValue"] + 1))


def test_conflicts_are_rare_with_the_recommended_shards(plans: dict[float, Plan]) -> None:
    for one in plans.values():
        assert one.conflicts < 0.01
        assert one.environments < one.shards


@pytest.mark.parametrize(
    ("outcome", "sufficient"),
    [
        (Outcome(1000, 1000, environments=63), True),
        (Outcome(1000, 1000, environments=64), False),
        (Outcome(990, 1000, conflicts=9, environments=63), True),
        (Outcome(990, 1000, conflicts=10, environments=63), False),
    ],
)
def test_sufficient_shards(outcome: Outcome, *, sufficient: bool) -> None:
    assert plan.is_sufficient(64, [outcome]) == sufficient


def test_slower_transactions_need_more_shards() -> None:
    model, _ = plan.recommend(Model(2_000, plan.DEFAULT_SHARDS, transaction=0.020, handler=0.010))
    assert model.shards == 128


def test_too_few_shards() -> None:
    """The README quotes these figures; at 5,000 a second, 64 shards are half the recommended number."""
    one, other = plan.plan_rates([3_000, 5_000], shards=64)
    assert (one.rate, one.shards) == (3_000, 64)
    assert one.conflicts == pytest.approx(0.28, abs=0.02)
    assert other.deferred == pytest.approx(0.03, abs=0.01)
    assert other.conflicts > 0.5


def test_conflicts_are_billed() -> None:
    model = Model(2_000, 64)
    without = Outcome(decisions=1, attempts=1, seconds=model.mean, environments=50)
    crowded = Outcome(decisions=1, attempts=3, conflicts=2, deferred=1, seconds=model.mean + 0.1, environments=900)
    small, large = plan.plan(USAGE, model, [without]), plan.plan(USAGE, model, [without, crowded])
    assert (small.conflicts, large.conflicts) == pytest.approx((0, 1 / 3))
    assert (small.deferred, large.deferred) == (0, 0.5)
    assert (small.environments, large.environments) == (50, 900)
    assert (small.quotas, large.quotas) == ({}, {"Lambda": 0.9})
    assert small.dollars == pytest.approx(cost.month(2_000, USAGE))
    # One more attempt a decision takes four write units; the time costs little.
    writes = 2_000 * cost.SECONDS_PER_MONTH / cost.MILLION * 4 * cost.MILLION_WRITE_UNITS
    assert writes < large.dollars - small.dollars < 1.2 * writes


@pytest.mark.parametrize(
    ("rate", "quotas"),
    [
        (7_999, {}),
        (8_000, {"API Gateway": 0.8, "Lambda": 0.8}),
        (16_000, {"API Gateway": 1.6, "Lambda": 1.6, "tables": 0.8}),
    ],
)
def test_quotas_are_named_from_four_fifths_on(rate: float, quotas: dict[str, float]) -> None:
    outcome = Outcome(decisions=1, attempts=1, seconds=0.01, environments=1)
    assert plan.plan(USAGE, Model(rate, 256), [outcome]).quotas == pytest.approx(quotas)
