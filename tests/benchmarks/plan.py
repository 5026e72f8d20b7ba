"""What it takes to make so many decisions a second, and what it costs: shards, environments, quotas, dollars.

    .venv/bin/python -m tests.benchmarks.plan

One table from 1 to 100,000 decisions a second, of the simulation in :mod:`tests.benchmarks.scale` and the prices in
:mod:`tests.benchmarks.cost`, whose docstrings have sources and assumptions. In particular, a transaction takes 10 ms
(median) and the handler 5 ms besides. That of the handler is on the safe side: of processor time it takes 0.3 ms, or
1 ms at its 512 MB (see the README), which is what the price goes by.

Shards are advised in powers of two, from the template's default on: the least with which, in some runs, there are never
as many environments at work at once, and less than a hundredth of all attempts conflict (:func:`is_enough`). Tables are
those of long use; a new one takes some 1,500 decisions a second at first.

Of the default quotas, those are told of which a rate takes four fifths or more, since traffic comes in waves. Lambda's
count of requests goes by that of executions, so both are raised in one. New accounts may have less. The template's own
``ThrottleRate`` is to be raised along.

A month is one at that rate all the time, in us-east-1, with a steady 90 days of decisions stored.
"""

import argparse
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from statistics import fmean

from tests.benchmarks import cost, scale
from tests.benchmarks.cost import Sizes
from tests.benchmarks.scale import DEFAULT_SHARDS, Model, Outcome

# Besides those of the simulation, what the default is good for, and where the tables' quota is reached.
RATES = tuple(sorted({*scale.RATES, 2_000, 20_000}))
SEEDS = range(1, 4)
# Of all attempts.
RARE = 0.01
# Of a quota.
NEAR = 0.8

# Quotas that are raised in one, by the names in :func:`.scale.quotas`.
QUOTAS = {
    "API Gateway": {"API Gateway requests"},
    "Lambda": {"Lambda requests", "Lambda concurrency"},
    "tables": {"table write units"},
}


@dataclass(frozen=True)
class Plan:
    """What a rate takes.

    Attributes
    ----------
    rate
        Decisions a second.
    shards
        Advised for ``StatsShards``.
    conflicts
        Share of attempts, on average.
    attempts
        Transactions a decision, on average.
    environments
        At work at once, at most.
    quotas
        Share of each default quota that is taken, where it is :data:`NEAR` or beyond.
    dollars
        A month.
    """

    rate: float
    shards: int
    conflicts: float
    attempts: float
    environments: int
    quotas: dict[str, float]
    dollars: float


def is_enough(model: Model, outcomes: Sequence[Outcome]) -> bool:
    """Whether conflicts are rare, and there is a shard for each environment, and one to spare."""
    return max(outcome.environments for outcome in outcomes) < model.shards and conflicts(outcomes) < RARE


def conflicts(outcomes: Sequence[Outcome]) -> float:
    """Share of attempts that conflict, on average: it differs from seed to seed, by how long the start takes."""
    return fmean(outcome.share("TransactionConflict") for outcome in outcomes)


def advised(model: Model) -> tuple[Model, list[Outcome]]:
    """The model with the shards that are advised for it, and what comes of it by seed."""
    shards = DEFAULT_SHARDS
    # Little's law: no fewer environments are at work on average. With fewer shards, simulating is long and in vain.
    while shards <= model.rate * (model.mean + model.handler):
        shards *= 2
    while True:
        model = replace(model, shards=shards)
        outcomes = [scale.simulate(replace(model, seed=seed)) for seed in SEEDS]
        if is_enough(model, outcomes):
            return model, outcomes
        shards *= 2


def plan(model: Model, outcomes: Sequence[Outcome], sizes: Sizes) -> Plan:
    """What it takes, of what :func:`advised` found."""
    environments = max(outcome.environments for outcome in outcomes)
    taken = scale.quotas(model, Outcome(environments=environments))
    shares = {name: max(taken[one] for one in ones) for name, ones in QUOTAS.items()}
    attempts = fmean(fmean(outcome.attempts) for outcome in outcomes)
    added = fmean(fmean(outcome.added) for outcome in outcomes)
    used = cost.usage(shards=model.shards, attempts=attempts)
    used = replace(used, duration=cost.billed(used.memory, model.mean + added))
    return Plan(
        rate=model.rate,
        shards=model.shards,
        conflicts=conflicts(outcomes),
        attempts=attempts,
        environments=environments,
        quotas={name: share for name, share in shares.items() if share >= NEAR},
        dollars=cost.month(model.rate, sizes, used)["this service"],
    )


def report(plans: Iterable[Plan]) -> str:
    """The table."""
    header = ["decisions/s", "shards", "in conflict", "attempts", "environments", "of default quotas", "$ a month"]
    return scale.table(header, [_row(one) for one in plans])


def _row(one: Plan) -> list[str]:
    return [
        f"{one.rate:,g}",
        f"{one.shards:,}",
        f"{100 * one.conflicts:.1f}%",
        f"{one.attempts:.3f}",
        f"{one.environments:,}",
        ", ".join(f"{name} {share:.0%}" for name, share in one.quotas.items()) or f"below {NEAR:.0%}",
        f"{rounded(one.dollars):,.0f}",
    ]


def rounded(dollars: float) -> float:
    """To three digits: more would say more than is known."""
    return float(f"{dollars:.3g}")


def main() -> None:
    """The command line."""
    default = Model(1, DEFAULT_SHARDS)
    parser = argparse.ArgumentParser(description="Shards, environments, quotas and dollars by rate.")
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="decisions a second")
    parser.add_argument("--transaction-ms", type=float, default=1000 * default.transaction, help="median")
    parser.add_argument("--handler-ms", type=float, default=1000 * default.handler, help="besides the transaction")
    arguments = parser.parse_args()
    base = replace(default, transaction=arguments.transaction_ms / 1000, handler=arguments.handler_ms / 1000)
    sizes = cost.measure_sizes()
    with ProcessPoolExecutor() as pool:
        found = pool.map(advised, [replace(base, rate=rate) for rate in arguments.rates])
        print(report(plan(model, outcomes, sizes) for model, outcomes in found))


if __name__ == "__main__":
    main()
