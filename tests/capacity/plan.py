"""Recommend a number of shards for each rate, with the quotas that the rate uses and its cost.

    .venv/bin/python -m tests.capacity.plan
    .venv/bin/python -m tests.capacity.plan --rates 3000 5000 --shards 64    # with a given number of shards

Combines :mod:`tests.capacity.simulation` and :mod:`tests.capacity.cost`, whose docstrings have sources and assumptions.

The recommended number of shards is the smallest power of two, starting at the template's default, that exceeds the peak
number of busy environments in every run, and with which less than 1% of all attempts conflict.

Quotas are the defaults (*Quotas in Amazon DynamoDB*, *Amazon API Gateway quotas*, *Lambda quotas*); new accounts and
some regions have lower ones. Dollars are for a month at a steady rate, with the decisions of ``DecisionDays`` stored.
"""

import argparse
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean

from tests.capacity import cost
from tests.capacity.cost import Usage
from tests.capacity.simulation import Model, Outcome, simulate
from tests.markdown import table

RATES = (1, 10, 100, 1_000, 2_000, 5_000, 10_000, 20_000, 100_000)
DEFAULT_SHARDS = 64
DEFAULT = Model(1, DEFAULT_SHARDS)
SEEDS = (1, 2)
MAX_CONFLICT_SHARE = 0.01
# The table names a quota from this share on, because traffic has peaks.
QUOTA_WARNING_SHARE = 0.8

API_REQUESTS_PER_SECOND = 10_000
LAMBDA_CONCURRENCY = 1_000
LAMBDA_REQUESTS_PER_SECOND = 10_000
TABLE_WRITE_UNITS_PER_SECOND = 40_000


@dataclass(frozen=True)
class Plan:
    """The recommendation for a rate.

    Attributes
    ----------
    rate
        Decisions per second.
    conflicts
        Conflicting transactions as a share of all attempts, on average.
    deferred
        Share of decisions that go to the outbox, on average.
    environments
        Peak number of busy environments.
    quotas
        Used share of each default quota, from :data:`QUOTA_WARNING_SHARE` on.
    dollars
        Per month.
    """

    rate: float
    shards: int
    conflicts: float
    deferred: float
    environments: int
    quotas: dict[str, float]
    dollars: float


def is_sufficient(shards: int, outcomes: Sequence[Outcome]) -> bool:
    """Return whether there are more shards than busy environments, and conflicts are rare."""
    conflicts = fmean(outcome.conflict_share for outcome in outcomes)
    return max(outcome.environments for outcome in outcomes) < shards and conflicts < MAX_CONFLICT_SHARE


def runs(model: Model) -> list[Outcome]:
    """Simulate the model once with each seed."""
    return [simulate(replace(model, seed=seed)) for seed in SEEDS]


def recommend(model: Model) -> tuple[Model, list[Outcome]]:
    """Return the model with the recommended number of shards, and its outcomes."""
    shards = DEFAULT_SHARDS
    # By Little's law this many environments are busy on average; fewer shards need no simulation.
    while shards <= model.rate * (model.mean + model.handler):
        shards *= 2
    while not is_sufficient(shards, outcomes := runs(replace(model, shards=shards))):
        shards *= 2
    return replace(model, shards=shards), outcomes


def plan(usage: Usage, model: Model, outcomes: Sequence[Outcome]) -> Plan:
    """Summarize the outcomes of a model."""
    environments = max(outcome.environments for outcome in outcomes)
    decisions = sum(outcome.decisions for outcome in outcomes)
    attempts = sum(outcome.attempts for outcome in outcomes) / decisions
    seconds = sum(outcome.seconds for outcome in outcomes) / decisions
    used = replace(usage, attempts=attempts, duration=cost.billed_seconds(usage.memory, seconds))
    quotas = {
        "API Gateway": model.rate / API_REQUESTS_PER_SECOND,
        "Lambda": max(model.rate / LAMBDA_REQUESTS_PER_SECOND, environments / LAMBDA_CONCURRENCY),
        "tables": model.rate * usage.decision_units / TABLE_WRITE_UNITS_PER_SECOND,
    }
    return Plan(
        rate=model.rate,
        shards=model.shards,
        conflicts=fmean(outcome.conflict_share for outcome in outcomes),
        deferred=fmean(outcome.deferred_share for outcome in outcomes),
        environments=environments,
        quotas={name: share for name, share in quotas.items() if share >= QUOTA_WARNING_SHARE},
        dollars=cost.month(model.rate, used),
    )


def _plan_rate(usage: Usage, shards: int | None, model: Model) -> Plan:
    if shards is None:
        return plan(usage, *recommend(model))
    model = replace(model, shards=shards)
    return plan(usage, model, runs(model))


def plan_rates(rates: Iterable[float], base: Model = DEFAULT, shards: int | None = None) -> list[Plan]:
    """Plan each rate with the given number of shards, by default the recommended one."""
    # The highest rate takes longest, so it starts first.
    models = [replace(base, rate=rate) for rate in sorted(rates, reverse=True)]
    with ProcessPoolExecutor() as pool:
        return list(pool.map(partial(_plan_rate, cost.measure(), shards), models))[::-1]


def report(plans: Sequence[Plan]) -> str:
    """Return the plans as a table."""
    header = ["decisions/s", "shards", "conflicts", "to the outbox", "environments", "default quotas", "$ per month"]
    rows = [
        [
            f"{one.rate:,g}",
            f"{one.shards:,}",
            f"{one.conflicts:.1%}",
            f"{one.deferred:.1%}",
            f"{one.environments:,}",
            ", ".join(f"{name} {share:.0%}" for name, share in one.quotas.items())
            or f"below {QUOTA_WARNING_SHARE:.0%}",
            f"{float(f'{one.dollars:.3g}'):,.0f}",
        ]
        for one in plans
    ]
    return table(header, rows)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Recommend shards, and show quotas and dollars by rate.")
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="decisions per second")
    parser.add_argument("--shards", type=int, help="default: the recommended number")
    parser.add_argument("--transaction-ms", type=float, default=1000 * DEFAULT.transaction, help="median")
    parser.add_argument("--handler-ms", type=float, default=1000 * DEFAULT.handler, help="in addition")
    arguments = parser.parse_args()
    base = replace(DEFAULT, transaction=arguments.transaction_ms / 1000, handler=arguments.handler_ms / 1000)
    print(report(plan_rates(arguments.rates, base, arguments.shards)))


if __name__ == "__main__":
    main()
