"""How many counter shards at what rate: a simulation of the ledger's transactions, printed as tables.

    .venv/bin/python -m tests.benchmarks.scale

Decisions arrive at random, at a rate (a Poisson process). Each takes an execution environment that is free, or starts a
new one, and is recorded by it in one transaction on a shard, as :meth:`LedgerWriter.record` does: the pauses
and the patience are the ledger's own code, on the clock of the simulation, and the tests run the ledger itself in here
to show that it makes the same attempts at the same times.

What DynamoDB and Lambda do, and where it is from; the pages are those of the AWS documentation, read in November 2026,
some of them in older copies:

- A transaction on an item that another one is writing fails at once with ``TransactionConflict``; nothing waits, and no
  SDK tries it again (*Amazon DynamoDB Transactions: How it works*). Here the item is taken for as long as the caller
  waits for the transaction. In truth it is for less, from when it is prepared until it is committed (*Distributed
  Transactions at Scale in Amazon DynamoDB*, USENIX ATC 2023), so there are fewer conflicts than here.
- A transactional write takes 2 write units per KB (*DynamoDB read and write operations*); a partition takes 1,000 a
  second, and so does one item (*Best practices for designing and using partition keys effectively*). Refused attempts
  are taken to cost as much as others, and the five minutes of burst capacity are left out: both are on the safe side.
- A new on-demand table takes 4,000 a second, here as four partitions; one in use takes up to twice its previous peak,
  and more half an hour later (*DynamoDB on-demand capacity mode*). Under steady load it splits, down to one item
  a partition (*DynamoDB burst and adaptive capacity*).
- By default, a table takes 40,000 write units a second (*Quotas in Amazon DynamoDB*), API Gateway 10,000 requests a
  second an account, in some regions 2,500 (*Amazon API Gateway quotas*), Lambda 1,000 executions at once and ten times
  as many requests a second (*Understanding Lambda function scaling*, *Lambda quotas*). New accounts may have less.
- An environment handles one request at a time (*Lambda execution environment lifecycle*). Which one gets a request is
  documented nowhere; here it is any that is free. Were it the one that was busy last (``last_first``), conflicts would
  set in a little later: 5% of attempts in place of 18% with 64 shards at 3,000 a second, about as many at 5,000.

Assumed, since only an account could tell: how long a transaction and the rest of the handler take (:class:`Model`).
Where both take twice as long, read the line of twice the rate; quotas that count requests stay as they are.

What is checked: besides the ledger in here, :mod:`tests.benchmarks.wire` has the real function, in processes and over
HTTP, meet conflicts at the emulator, and compares. In 10 runs with 250 decisions each, 12.5% of attempts met one with
0.3 transactions in flight a shard, and 39.8% with 0.5; simulated, it was 12.8% and 38.6%. Each was within 2.2 standard
deviations of what the simulation has with other seeds. Of environments at once there was about one more.

What comes of it: an environment that meets another one moves on, so each soon has a shard to itself, as long as there
are more shards than environments at work. Up to there, conflicts are rare; beyond it, they quickly are the rule. By
rate, with quotas and dollars: :mod:`tests.benchmarks.plan`.
"""

import argparse
import heapq
import itertools
import math
import random
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from unittest.mock import patch

from tests.benchmarks.load import percentile
from tests.local.template import ROOT

sys.path.insert(0, str(ROOT / "functions" / "layer"))  # pytest has it there already, `python -m` has not

from scoring.ledger import writer

RATES = (1, 10, 100, 1_000, 5_000, 10_000, 100_000)
SHARDS = (8, 64, 256, 2_048)
# Of the table of new tables.
START_RATES = (500, 1_000, 1_500, 2_000, 5_000)
# Of the table of what keeping to a shard gains: transactions in flight a shard.
LOADS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
DEFAULT_SHARDS = 64

UNITS_A_TRANSACTIONAL_KB = 2
UNITS_A_PARTITION = 1_000
UNITS_A_TABLE = 40_000
NEW_TABLE_PARTITIONS = 4
API_REQUESTS = 10_000
CONCURRENCY = 1_000
REQUESTS_AN_ENVIRONMENT = 10

# What a partition may be ahead of its rate: in truth some minutes' worth, where it was idle before.
_AHEAD_SECONDS = 0.1
# The environments start on shards at random; what is told is how it is once they have found their places.
_SETTLE_DECISIONS = 1_000
_MEASURED_DECISIONS = 4_000

# What a decision asks for, one after another: an attempt on a shard, answered with the code that refused it or None,
# or a pause in seconds.
Step = tuple[Literal["attempt"], int] | tuple[Literal["pause"], float]
Recording = Generator[Step, str | None, bool]
# As map() does, in one process or in several.
Run = Callable[[Callable[["Model"], "Outcome"], Iterable["Model"]], Iterator["Outcome"]]


@dataclass(frozen=True)
class Model:
    """What is simulated.

    Attributes
    ----------
    rate
        Decisions a second.
    shards
        Items that the counters are spread over.
    transaction
        Seconds, the median of a lognormal distribution; an assumption, see the module.
    spread
        Standard deviation of its logarithm; 0.4 has 1 in 100 take 2.5 times the median.
    refusal
        Share of a transaction's duration after which a refused one is answered: that of the first of its two phases.
    handler
        Seconds for which a decision keeps its environment busy besides; an assumption.
    partitions
        Of each table; None where the tables have split as far as they need to.
    item_kb
        Size of decision and shard, each rounded up.
    settle
        Seconds from the start that are not told of.
    lifetime
        Decisions that an environment makes before another one takes its place; None for no end. With 1, every decision
        has a shard at random, which is what keeping to one is compared with.
    last_first
        Whether a decision gets the environment that was busy last, as :mod:`tests.local.environments` has it, and not
        any of those that are free.
    seed
        Of all that is random.
    """

    rate: float
    shards: int
    transaction: float = 0.010
    spread: float = 0.4
    refusal: float = 0.5
    handler: float = 0.005
    partitions: int | None = None
    item_kb: int = 1
    settle: float = 2 * writer.RETRY_BUDGET_SECONDS
    lifetime: int | None = None
    last_first: bool = False
    seed: int = 1

    @property
    def mean(self) -> float:
        """Seconds that a transaction takes on average."""
        return self.transaction * math.exp(self.spread**2 / 2)

    @property
    def in_flight(self) -> float:
        """Transactions at a time that it takes to record what arrives, on average: Little's law."""
        return self.rate * self.mean

    @property
    def units(self) -> int:
        """Write units that a transaction takes of either table."""
        return self.item_kb * UNITS_A_TRANSACTIONAL_KB


@dataclass
class Outcome:
    """What became of the decisions that arrived after the simulation had settled.

    Attributes
    ----------
    attempts
        Transactions that each decision took.
    added
        Seconds that each one spent on attempts that were refused and on pauses.
    refused
        Attempts by the code that refused them.
    deferred
        Decisions that ran out of patience, and went to the outbox.
    environments
        Busy at a time, at most: what Lambda reports as ``ConcurrentExecutions``.
    """

    attempts: list[int] = field(default_factory=list)
    added: list[float] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=lambda: {"TransactionConflict": 0, "ThrottlingError": 0})
    deferred: int = 0
    environments: int = 0

    def share(self, code: str) -> float:
        """Attempts that were refused for this reason, as a share of all."""
        return self.refused[code] / sum(self.attempts)

    @property
    def deferred_share(self) -> float:
        return self.deferred / len(self.attempts)


class Clock:
    """Stands in for the module ``time`` in the ledger."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


class Environment:
    """An execution environment: the shard that it keeps to, chosen at its start as the ledger does."""

    def __init__(self, shards: int, choices: random.Random) -> None:
        self.shards = shards
        self.choices = choices
        self.shard = choices.randrange(shards)
        self.decisions = 0

    def record(self) -> Recording:
        """The loop of :meth:`LedgerWriter.record`, as far as it depends on what the store answers."""
        for pause in writer._backoffs(math.inf):
            if (yield "attempt", self.shard) is None:
                return True
            self.shard = (self.shard + self.choices.randrange(1, max(self.shards, 2))) % self.shards
            yield "pause", pause
        return False


class Partitions:
    """Write units that the partitions of a table have left; each gains 1,000 a second."""

    def __init__(self, number: int) -> None:
        self._ready = [0.0] * number

    def take(self, partition: int, units: int, now: float) -> bool:
        """Take units of a partition, if it is not too far ahead of its rate for it."""
        ready = max(self._ready[partition], now - _AHEAD_SECONDS)
        if ready > now:
            return False
        self._ready[partition] = ready + units / UNITS_A_PARTITION
        return True


class Store:
    """The two tables, as far as transactions on them get in each other's way."""

    def __init__(self, model: Model, chance: random.Random) -> None:
        self._model = model
        self._chance = chance
        self._log_median = math.log(model.transaction)
        self._taken_until = [0.0] * model.shards
        number = model.partitions or model.shards
        # Where the tables have split, each shard has a partition of its own.
        self._home = [chance.randrange(number) if model.partitions else shard for shard in range(model.shards)]
        self._stats = Partitions(number)
        self._decisions = Partitions(number)

    def attempt(self, shard: int, now: float) -> tuple[str | None, float]:
        """Begin a transaction: the code that refuses it, None where it is applied, and when that is answered."""
        model = self._model
        seconds = self._chance.lognormvariate(self._log_median, model.spread)
        refused = now + model.refusal * seconds
        if not self._stats.take(self._home[shard], model.units, now):
            return "ThrottlingError", refused
        if model.partitions and not self._decisions.take(self._chance.randrange(model.partitions), model.units, now):
            return "ThrottlingError", refused
        if self._taken_until[shard] > now:
            return "TransactionConflict", refused
        self._taken_until[shard] = now + seconds
        return None, now + seconds


@dataclass(slots=True)
class _Decision:
    environment: Any
    recording: Recording
    arrived: float
    attempts: int = 0
    last: float = 0.0
    measured: bool = False


class _Run:
    """One simulation: what happens next, until it has happened to enough decisions."""

    def __init__(self, model: Model, clock: Clock, start: Callable[[], Any]) -> None:
        self._model = model
        self._clock = clock
        self._start = start
        self._chance = random.Random(model.seed)
        self._store = Store(model, self._chance)
        self._free: list[Any] = []
        self._busy = 0
        self._next: list[tuple[float, int, _Decision | Any, str | None]] = []
        self._number = 0
        self._outcome = Outcome()

    def outcome(self, arrivals: Iterable[float] | None) -> Outcome:
        settle = 0
        if arrivals is None:
            if self._model.settle:
                settle = max(_SETTLE_DECISIONS, round(self._model.settle * self._model.rate))
            arrivals = self._at_random(
                settle + max(_MEASURED_DECISIONS, round(writer.RETRY_BUDGET_SECONDS * self._model.rate))
            )
        for number, arrival in enumerate(arrivals):
            self._until(arrival)
            self._arrive(measured=number >= settle)
        self._until(math.inf)
        return self._outcome

    def _at_random(self, number: int) -> Iterator[float]:
        arrival = 0.0
        for _ in range(number):
            arrival += self._chance.expovariate(self._model.rate)
            yield arrival

    def _until(self, end: float) -> None:
        while self._next and self._next[0][0] <= end:
            self._clock.now, _, what, code = heapq.heappop(self._next)
            if isinstance(what, _Decision):
                self._go_on(what, code)
            else:
                self._busy -= 1
                if what.decisions != self._model.lifetime:
                    self._free.append(what)
        if end != math.inf:
            self._clock.now = end

    def _arrive(self, *, measured: bool) -> None:
        free = self._free
        if free:
            if not self._model.last_first:
                chosen = self._chance.randrange(len(free))
                free[chosen], free[-1] = free[-1], free[chosen]
            environment = free.pop()
        else:
            environment = self._start()
        environment.decisions += 1
        self._busy += 1
        if measured:
            self._outcome.environments = max(self._outcome.environments, self._busy)
        decision = _Decision(environment, environment.record(), self._clock.now, measured=measured)
        self._go_on(decision, None)

    def _go_on(self, decision: _Decision, code: str | None) -> None:
        now = self._clock.now
        if code is not None and decision.measured:
            self._outcome.refused[code] += 1
        try:
            step = decision.recording.send(code)
        except StopIteration as end:
            self._end(decision, recorded=end.value)
            return
        if step[0] == "pause":
            self._at(now + step[1], decision)
            return
        decision.attempts += 1
        decision.last = now
        code, answered = self._store.attempt(step[1], now)
        self._at(answered, decision, code)

    def _end(self, decision: _Decision, *, recorded: bool) -> None:
        now = self._clock.now
        if decision.measured:
            self._outcome.attempts.append(decision.attempts)
            self._outcome.added.append((decision.last if recorded else now) - decision.arrived)
            self._outcome.deferred += not recorded
        self._at(now + self._model.handler, decision.environment)

    def _at(self, when: float, what: Any, code: str | None = None) -> None:
        self._number += 1
        heapq.heappush(self._next, (when, self._number, what, code))


def simulate(
    model: Model,
    start: Callable[[Model, Clock, random.Random], Any] | None = None,
    arrivals: Iterable[float] | None = None,
) -> Outcome:
    """What becomes of decisions under a model; the same for the same model, every time.

    Parameters
    ----------
    model
        What is simulated.
    start
        Makes an execution environment, of the model, the clock and the ledger's random choices; by default
        an :class:`Environment`.
    arrivals
        Seconds at which decisions arrive, from the first to the last, all of which are told of; by default at random,
        at the rate of the model.
    """
    clock = Clock()
    choices = random.Random(model.seed + 1)
    with patch.object(writer, "time", clock), patch.object(writer, "random", choices):
        if start is None:
            return _Run(model, clock, lambda: Environment(model.shards, choices)).outcome(arrivals)
        return _Run(model, clock, lambda: start(model, clock, choices)).outcome(arrivals)


def conflicts_at_random(model: Model) -> float:
    """Share of attempts that conflict where each goes to any shard, in closed form: how long a shard is taken.

    Arrivals at random see a shard as it is on average (PASTA), and what is recorded takes it for ``rate * mean /
    shards`` of the time, however often it was tried: Erlang's loss formula with one server. At most 1.
    """
    return min(model.in_flight / model.shards, 1)


def quotas(model: Model, outcome: Outcome) -> dict[str, float]:
    """How much of each default quota the decisions take; 1 is all of it."""
    return {
        "API Gateway requests": model.rate / API_REQUESTS,
        "Lambda requests": model.rate / (CONCURRENCY * REQUESTS_AN_ENVIRONMENT),
        "Lambda concurrency": outcome.environments / CONCURRENCY,
        "table write units": model.rate * model.units / UNITS_A_TABLE,
        "shard write units": model.rate * model.units / (model.shards * UNITS_A_PARTITION),
    }


def nearest_quota(model: Model, outcome: Outcome) -> str:
    """The quota that has least left, and how much of it is taken."""
    name, taken = max(quotas(model, outcome).items(), key=lambda quota: quota[1])
    return f"{name} {_percent(taken)}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _percent(share: float) -> str:
    if share == 0:
        return "0"
    return f"{100 * share:.0f}%" if share >= 0.1 else f"{100 * share:.2g}%"


_FIGURES = ("in conflict", "throttled", "attempts p50/p99/max", "to the outbox", "added p99, ms", "environments")


def _figures(outcome: Outcome) -> list[str]:
    refused = [_percent(outcome.share(code)) for code in outcome.refused]
    attempts = "/".join(str(percentile(percent, outcome.attempts)) for percent in (50, 99, 100))
    added = 1000 * percentile(99, outcome.added)
    late = f"{added:.0f}" if added >= 1 or added == 0 else "< 1"
    return [*refused, attempts, _percent(outcome.deferred_share), late, f"{outcome.environments:,}"]


def settled(rates: Iterable[float], shards: Iterable[int], base: Model, run: Run) -> str:
    """The table of rates and shards, on tables that have split as far as they need to."""
    models = [replace(base, rate=rate, shards=number) for rate, number in itertools.product(rates, shards)]
    rows = [
        [
            f"{model.rate:,g}",
            f"{model.shards:,}",
            *_figures(outcome),
            nearest_quota(model, outcome),
        ]
        for model, outcome in zip(models, run(simulate, models), strict=True)
    ]
    return table(["decisions/s", "shards", *_FIGURES, "nearest quota"], rows)


def new_tables(rates: Iterable[float], base: Model, run: Run) -> str:
    """The table of a start without any warming up: four partitions each."""
    models = [replace(base, rate=rate, partitions=NEW_TABLE_PARTITIONS) for rate in rates]
    rows = [
        [f"{model.rate:,g}", *_figures(outcome)] for model, outcome in zip(models, run(simulate, models), strict=True)
    ]
    return table(["decisions/s", *_FIGURES], rows)


def keeping(loads: Iterable[float], base: Model, run: Run) -> str:
    """The table of what keeping to a shard gains over taking one at random for each decision."""
    kept = [replace(base, rate=load * base.shards / base.mean) for load in loads]
    outcomes = list(run(simulate, [*kept, *(replace(model, lifetime=1) for model in kept)]))
    rows = [
        [
            f"{model.in_flight / model.shards:.1f}",
            f"{model.rate:,.0f}",
            *_figures(one),
            _percent(other.share("TransactionConflict")),
            _percent(conflicts_at_random(model)),
        ]
        for model, one, other in zip(kept, outcomes[: len(kept)], outcomes[len(kept) :], strict=True)
    ]
    return table(["in flight a shard", "decisions/s", *_FIGURES, "in conflict, at random", "the same in theory"], rows)


def main() -> None:
    """The command line."""
    default = Model(1, DEFAULT_SHARDS)
    parser = argparse.ArgumentParser(description="How many counter shards at what rate, by simulation.")
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="decisions a second")
    parser.add_argument("--shards", type=int, nargs="+", default=SHARDS)
    parser.add_argument("--transaction-ms", type=float, default=1000 * default.transaction, help="median")
    parser.add_argument("--handler-ms", type=float, default=1000 * default.handler, help="besides the transaction")
    parser.add_argument("--settle-seconds", type=float, default=default.settle, help="0 tells of a start, too")
    parser.add_argument("--seed", type=int, default=default.seed)
    arguments = parser.parse_args()
    base = replace(
        default,
        transaction=arguments.transaction_ms / 1000,
        handler=arguments.handler_ms / 1000,
        settle=arguments.settle_seconds,
        seed=arguments.seed,
    )
    print(
        f"Assumed: a transaction of {1000 * base.transaction:g} ms (median; {1000 * base.mean:.1f} ms on average), "
        f"{1000 * base.handler:g} ms of the handler besides, items of up to {base.item_kb} KB. "
        f"The ledger's patience is {writer.RETRY_BUDGET_SECONDS:g} s.\n"
    )
    with ProcessPoolExecutor() as pool:
        print(f"Tables that have split:\n\n{settled(arguments.rates, arguments.shards, base, pool.map)}\n")
        print(f"New tables, {base.shards} shards:\n\n{new_tables(START_RATES, base, pool.map)}\n")
        print(f"Near the limit, {base.shards} shards:\n\n{keeping(LOADS, base, pool.map)}")


if __name__ == "__main__":
    main()
