"""Simulate how transactions conflict on the counter shards.

Decisions arrive at random (a Poisson process). Each takes an idle execution environment, or starts a new one, and is
recorded by the real ledger, which runs on a simulated clock against a simulated DynamoDB.

The model, with its sources in the AWS documentation as of November 2026:

- A transaction on an item that another transaction is writing fails at once with ``TransactionConflict``; nothing
  queues (*Amazon DynamoDB Transactions: How it works*). The simulation locks the item for as long as the caller waits.
  DynamoDB locks it from prepare to commit only (*Distributed Transactions at Scale in Amazon DynamoDB*, USENIX ATC
  2023), so it has fewer conflicts.
- An environment handles one request at a time (*Lambda execution environment lifecycle*). AWS does not document which
  idle environment gets the next request; the simulation picks one at random. Picking the most recently used one
  (``last_first``) gives fewer conflicts.

Write throttling is not modelled: a shard takes 500 transactions of two write units a second (*Best practices for
designing and using partition keys effectively*), but fewer than 100 transactions of 10 ms fit into a second.

The durations of :class:`Model` are assumptions. ``test_wire.py`` compares the simulation with the real function.
"""

import contextlib
import heapq
import io
import itertools
import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest.mock import patch

from greenlet import getcurrent, greenlet  # type: ignore[import-untyped]

from scoring.errors import CallFailed, StoreUnavailable
from scoring.ledger import writer
from scoring.settings import Settings
from tests.rule_set import decide

# Environments start on random shards. They move apart before the measurement starts.
SETTLE_SECONDS = 2.0
MIN_SETTLE_DECISIONS, MAX_SETTLE_DECISIONS = 1_000, 100_000
MEASURED_SECONDS = 0.1
MIN_MEASURED_DECISIONS = 4_000


@dataclass(frozen=True)
class Model:
    """Parameters of a simulation.

    Attributes
    ----------
    rate
        Decisions per second.
    shards
        Number of counter shards.
    transaction
        Median duration of a transaction in seconds; durations are lognormal.
    spread
        Standard deviation of the logarithm of the duration; with 0.4, 1% take 2.5 times the median.
    refusal
        Share of its duration after which a conflicting transaction fails: the first of two phases.
    handler
        Seconds that an environment is busy in addition to the transaction.
    last_first
        Whether the most recently used idle environment gets the next decision, as in :mod:`tests.local.environments`.
    seed
        Seed of all random numbers.
    """

    rate: float
    shards: int
    transaction: float = 0.010
    spread: float = 0.4
    refusal: float = 0.5
    handler: float = 0.005
    last_first: bool = False
    seed: int = 1

    @property
    def mean(self) -> float:
        """Mean duration of a transaction in seconds."""
        return self.transaction * math.exp(self.spread**2 / 2)

    @property
    def in_flight(self) -> float:
        """Mean number of concurrent transactions, by Little's law."""
        return self.rate * self.mean


@dataclass
class Outcome:
    """Totals over the measured decisions.

    Attributes
    ----------
    attempts
        Transactions, including conflicting ones.
    conflicts
        Transactions that failed with a conflict.
    deferred
        Decisions that exhausted the retry budget and would go to the outbox.
    seconds
        Time spent in the ledger.
    environments
        Peak number of busy environments.
    """

    decisions: int = 0
    attempts: int = 0
    conflicts: int = 0
    deferred: int = 0
    seconds: float = 0
    environments: int = 0

    @property
    def conflict_share(self) -> float:
        """Conflicts as a share of all attempts."""
        return self.conflicts / self.attempts

    @property
    def deferred_share(self) -> float:
        """Deferred decisions as a share of all decisions."""
        return self.deferred / self.decisions


class Clock:
    """A simulated clock; tasks are greenlets that run until they sleep. Replaces the module ``time`` in the ledger."""

    def __init__(self) -> None:
        self.now = 0.0
        self._scheduled: list[tuple[float, int, Any]] = []
        self._number = itertools.count()

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self._schedule(self.now + seconds, getcurrent())
        getcurrent().parent.switch()

    def run(self, task: Callable[[], None]) -> None:
        """Run a task and all tasks that it starts to their end."""
        self.start(task)
        while self._scheduled:
            self.now, _, current = heapq.heappop(self._scheduled)
            current.switch()

    def start(self, task: Callable[[], None]) -> None:
        """Start another task, which runs when the current one sleeps or ends."""
        root = getcurrent()
        while root.parent:
            root = root.parent
        self._schedule(self.now, greenlet(task, root))

    def _schedule(self, when: float, task: Any) -> None:
        heapq.heappush(self._scheduled, (when, next(self._number), task))


class Store:
    """The counter table, with one transaction at a time per shard."""

    def __init__(self, model: Model, clock: Clock) -> None:
        self._model = model
        self._clock = clock
        self._random = random.Random(model.seed + 1)
        self._locked_until = [0.0] * model.shards

    def transact(self, shard: int) -> bool:
        """Run a transaction; return False if it conflicts with another one."""
        seconds = self._random.lognormvariate(math.log(self._model.transaction), self._model.spread)
        if self._locked_until[shard] > self._clock.now:
            self._clock.sleep(self._model.refusal * seconds)
            return False
        self._locked_until[shard] = self._clock.now + seconds
        self._clock.sleep(seconds)
        return True


class Environment:
    """An execution environment: a ledger, and the DynamoDB client that it uses."""

    def __init__(self, store: Store, shards: int) -> None:
        self.store = store
        self.shards = shards
        self.attempts = self.conflicts = 0
        client: Any = self
        tables = "DecisionsTable", "StatsTable", "ProfilesTable", "ListsTable"
        self._ledger = writer.LedgerWriter(client, Settings(*tables, shards, 90, 90, "OutboxQueue"))

    def call(self, _operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """Run the ledger's transaction on its shard."""
        self.attempts += 1
        if self.store.transact(int(parameters["TransactItems"][1]["Update"]["Key"]["shard"]["N"])):
            return {}
        self.conflicts += 1
        reasons = [{"Code": "None"}, {"Code": "TransactionConflict"}]
        raise CallFailed("TransactionCanceledException", 400, {"CancellationReasons": reasons})

    def record(self) -> bool:
        """Record a decision; return False if the ledger gives up."""
        self.attempts = self.conflicts = 0
        (recorded,) = self._ledger.record([DECISION], math.inf)
        return not isinstance(recorded, StoreUnavailable)


DECISION = decide({"amount": 1}, "decision-1")


def simulate(model: Model, arrivals: Iterable[float] | None = None) -> Outcome:
    """Simulate decisions; the same model always gives the same outcome.

    Parameters
    ----------
    model
        The parameters.
    arrivals
        Times in seconds at which decisions arrive, all of them measured; by default a Poisson process at the rate of
        the model, measured once it has settled.
    """
    clock, outcome, chance = Clock(), Outcome(), random.Random(model.seed)
    store = Store(model, clock)
    idle: list[Environment] = []
    settle = 0
    if arrivals is None:
        settle = min(max(MIN_SETTLE_DECISIONS, round(SETTLE_SECONDS * model.rate)), MAX_SETTLE_DECISIONS)
        number = settle + max(MIN_MEASURED_DECISIONS, round(MEASURED_SECONDS * model.rate))
        arrivals = itertools.accumulate(chance.expovariate(model.rate) for _ in range(number))
    busy = 0

    def decide_once(*, measured: bool) -> None:
        nonlocal busy
        if idle and not model.last_first:
            chosen = chance.randrange(len(idle))
            idle[chosen], idle[-1] = idle[-1], idle[chosen]
        environment = idle.pop() if idle else Environment(store, model.shards)
        busy += 1
        if measured:
            outcome.environments = max(outcome.environments, busy)
        start = clock.now
        recorded = environment.record()
        if measured:
            outcome.decisions += 1
            outcome.attempts += environment.attempts
            outcome.conflicts += environment.conflicts
            outcome.deferred += not recorded
            outcome.seconds += clock.now - start
        clock.sleep(model.handler)
        busy -= 1
        idle.append(environment)

    def arrive() -> None:
        for number, arrival in enumerate(arrivals):
            clock.sleep(arrival - clock.now)
            measured = number >= settle
            clock.start(partial(decide_once, measured=measured))

    with (
        patch.multiple(writer, time=clock, random=random.Random(model.seed + 2)),
        contextlib.redirect_stdout(io.StringIO()),  # the ledger logs each deferred decision
    ):
        clock.run(arrive)
    return outcome
