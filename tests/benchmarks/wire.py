"""The simulation of the shards next to the real thing: ``POST /score`` in processes, and conflicts on the wire.

    .venv/bin/python -m tests.benchmarks.wire

The function is the one that is deployed, its execution environments are processes, and the decisions and counts are
written, over HTTP, to the emulator. That knows no conflicts between transactions, so a proxy in front of it has them:
it reads the shard in each transaction, lets the transaction take as long as one of :class:`.scale.Model` does, and
refuses meanwhile every other one on that shard, as DynamoDB would. So the handler, the ledger with its pauses, its
patience and its moving on, the connection and the reading of a refusal are the real ones; what remains assumed is
DynamoDB itself.

Transactions take some 40 ms here, and shards are few, so that the speed of this machine matters little. Then the same
is simulated: with the arrivals as they were, to the moment, and with the seconds that transactions and handlers did
take. So a machine that is busy with something else gives other figures, but the same ones to both. Of the environments
that are free, the one that was busy last takes the next decision, in both (``last_first``). Since the shards that
environments start on, their pauses and the durations are random, the simulation is repeated with many seeds, which
gives a mean and a standard deviation; the real thing is one more such draw.

Exits with 1 where a figure is further off than :data:`DEVIATIONS` of these and the margin for what the simulation
leaves out (:data:`FIGURES`), a request failed, or ``/stats`` moved by anything but what was accepted. A run in which
a transaction came late by itself is made again: an emulator that holds thousands of items makes pauses.
"""

import argparse
import json
import math
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from tests.benchmarks import load, scale
from tests.benchmarks.load import Result, Sample, Target
from tests.benchmarks.scale import Model, Outcome
from tests.faults import proxy
from tests.faults.proxy import Fault, Proxy
from tests.local import account, emulator, environments, event_source
from tests.local.processes import command

# Transactions in flight a shard: with the lesser, some 10% of attempts conflict, with the other one some 35%; if no
# environment kept to a shard, it were these shares themselves.
LOADS = (0.3, 0.5)
DECISIONS = 250
SHARDS = 4
TRANSACTION = 0.040
# Seconds besides the transaction; only for the rate, since the real ones are measured.
HANDLER = 0.010
# Environments that are there before the clock starts, and at most: enough that neither is a factor.
WARM = 16
LIMIT = 32
SEEDS = 30
# Standard deviations of the simulation between its seeds: one run in some ten thousand is beyond them.
DEVIATIONS = 4
# Later than this, in seconds, and it was the emulator or the machine that stalled: no measurement of the shards.
STALL = 0.1
TRIES = 3


class Figure(NamedTuple):
    """What is compared, and the margin for what the simulation leaves out: the way of a call to the proxy and back."""

    name: str
    of: Callable[[Outcome], float]
    margin: float


FIGURES = (
    Figure("attempts in conflict, %", lambda outcome: 100 * outcome.share("TransactionConflict"), 2),
    Figure("attempts a decision", lambda outcome: fmean(outcome.attempts), 0.04),
    Figure("to the outbox, %", lambda outcome: 100 * outcome.deferred_share, 1),
    Figure("environments at once", lambda outcome: outcome.environments, 3),
)


@dataclass(frozen=True)
class Service:
    """The functions with the proxy before the store.

    Attributes
    ----------
    target
        To be scored by.
    store
        The proxy.
    outbox
        Has the messages of the outbox delivered meanwhile.
    """

    target: Target
    store: Proxy
    outbox: Callable[[], Any]


class Attempt(NamedTuple):
    """A transaction.

    Attributes
    ----------
    seconds
        That it took.
    late
        Seconds of these that it should not have taken.
    """

    decision_id: str
    refused: bool
    seconds: float
    late: float


class Transactions:
    """A rule for the proxy: transactions take their time, and exclude each other from a shard."""

    def __init__(self, model: Model) -> None:
        self._model = model
        # Not the numbers that the arrivals are drawn from
        self._chance = random.Random(model.seed + 1_000)
        self._lock = threading.Lock()
        self._taken: set[str] = set()
        self.attempts: list[Attempt] = []

    @contextmanager
    def __call__(self, operation: str, body: bytes) -> Iterator[Fault | None]:
        if operation != "TransactWriteItems":
            yield None
            return
        start = time.monotonic()
        put, update = json.loads(body)["TransactItems"]
        shard = update["Update"]["Key"]["shard"]["N"]
        with self._lock:
            refused = shard in self._taken
            seconds = self._chance.lognormvariate(math.log(self._model.transaction), self._model.spread)
            seconds *= self._model.refusal if refused else 1
            self._taken.add(shard)
        try:
            yield Fault.CONFLICT if refused else None
            time.sleep(max(0, start + seconds - time.monotonic()))
        finally:
            with self._lock:
                if not refused:
                    self._taken.remove(shard)
                decision_id = put["Put"]["Item"]["decision_id"]["S"]
                took = time.monotonic() - start
                self.attempts.append(Attempt(decision_id, refused, took, took - seconds))


@dataclass(frozen=True)
class Comparison:
    """One operating point.

    Attributes
    ----------
    model
        With rate and durations as they were.
    result
        Of the client.
    late
        Seconds that a transaction took longer than it should have, at most.
    real
        What came of it on the wire.
    simulated
        The same in the simulation, by seed.
    """

    model: Model
    result: Result
    late: float
    real: Outcome
    simulated: list[Outcome]

    def problems(self) -> list[str]:
        """Why simulation and reality do not agree, or the run is not valid; empty where all is well."""
        found = [f"{number} x {kind}" for kind, number in self.result.errors.items()]
        if wrong := self.result.miscounted():
            found.append(f"/stats moved wrongly: {wrong}")
        for figure in FIGURES:
            real, mean, deviation = self.compared(figure)
            if abs(real - mean) > DEVIATIONS * deviation + figure.margin:
                found.append(f"{figure.name}: {real:.3g}, simulated {mean:.3g} with a deviation of {deviation:.2g}")
        return found

    def compared(self, figure: Figure) -> tuple[float, float, float]:
        """On the wire, and mean and standard deviation of the simulation."""
        simulated = [figure.of(outcome) for outcome in self.simulated]
        return figure.of(self.real), fmean(simulated), stdev(simulated)


@contextmanager
def started(log: Path, shards: int = SHARDS) -> Iterator[Service]:
    """The service with so many shards, its functions logging to a file."""
    with log.open("wb") as output, emulator.running() as endpoint, proxy.running() as store:
        store.lead_to(endpoint)
        variables = emulator.variables(store.endpoint, endpoint) | {"STATS_SHARDS": str(shards)}
        with environments.running(variables, LIMIT, output.fileno()) as functions:
            sqs = emulator.client("sqs", endpoint)
            yield Service(load.invoked(functions), store, lambda: event_source.running(sqs, functions.invoke))


def compare(service: Service, model: Model, decisions: int = DECISIONS) -> Comparison:
    """Have decisions made at the rate of a model, and simulate the same; once more where something stalled."""
    for _ in range(TRIES):
        compared = _compare(service, model, decisions)
        if compared.late < STALL:
            break
    return compared


def _compare(service: Service, model: Model, decisions: int) -> Comparison:
    before = load.stats(service.target)
    warm_up = load.offer(service.target, load.transactions(WARM), 100 * WARM)
    rule = Transactions(model)
    service.store.follow(rule)
    samples = load.offer(service.target, load.transactions(decisions), model.rate, seed=model.seed)
    service.store.clear()
    # Only now, so that nothing but requests has met on the shards.
    with service.outbox():
        moved = load.counted(service.target, before, warm_up + samples)
    result = Result(model.rate, warm_up, samples, moved)
    as_it_was = measured(model, samples, rule.attempts)
    arrivals = sorted(sample.sent for sample in samples)
    simulated = [scale.simulate(replace(as_it_was, seed=seed), arrivals=arrivals) for seed in range(SEEDS)]
    late = max(attempt.late for attempt in rule.attempts)
    return Comparison(as_it_was, result, late, outcome(result, rule.attempts), simulated)


def measured(model: Model, samples: Sequence[Sample], attempts: Sequence[Attempt]) -> Model:
    """The model with the rate and the seconds as they were."""
    applied = {attempt.decision_id: attempt.seconds for attempt in attempts if not attempt.refused}
    troubled = {attempt.decision_id for attempt in attempts if attempt.refused}
    handler = fmean(
        sample.answered - sample.sent - applied[sample.answer["decision_id"]]
        for sample in samples
        if sample.answer and sample.answer["decision_id"] in applied.keys() - troubled
    )
    refused = [attempt.seconds for attempt in attempts if attempt.refused]
    mean = fmean(applied.values())
    return replace(
        model,
        rate=len(samples) / max(sample.sent for sample in samples),
        transaction=mean / math.exp(model.spread**2 / 2),
        refusal=fmean(refused) / mean if refused else model.refusal,
        handler=handler,
    )


def outcome(result: Result, attempts: Sequence[Attempt]) -> Outcome:
    """What happened on the wire, in the terms of the simulation."""
    by_decision = dict.fromkeys((attempt.decision_id for attempt in attempts), 0)
    for attempt in attempts:
        by_decision[attempt.decision_id] += 1
    found = Outcome(list(by_decision.values()), deferred=load.deferred(result.samples), environments=result.in_flight)
    found.refused["TransactionConflict"] = sum(attempt.refused for attempt in attempts)
    return found


def report(comparisons: Sequence[Comparison]) -> str:
    """What a person reads."""
    rows = [
        [
            f"{one.model.in_flight / one.model.shards:.2f}",
            f"{one.model.rate:.0f}",
            *map(_both, map(one.compared, FIGURES)),
        ]
        for one in comparisons
    ]
    header = ["in flight a shard", "decisions/s", *(figure.name for figure in FIGURES)]
    notes = [
        f"Of {len(one.real.attempts)} decisions: transactions took {1000 * one.model.mean:.1f} ms, refused ones "
        f"{one.model.refusal:.2f} of that, and the rest of an invocation {1000 * one.model.handler:.1f} ms on average; "
        f"the latest one came {1000 * one.late:.0f} ms late."
        for one in comparisons
    ]
    return "\n\n".join([scale.table(header, rows), *notes])


def _both(compared: tuple[float, float, float]) -> str:
    real, mean, deviation = compared
    return f"{real:.3g} / {mean:.3g} ± {deviation:.2g}"


def point(in_flight: float, seed: int, shards: int = SHARDS) -> Model:
    """The model with so many transactions in flight a shard."""
    model = Model(1, shards, TRANSACTION, handler=HANDLER, last_first=True, seed=seed)
    return replace(model, rate=in_flight * shards / model.mean)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Conflicts on the wire, and in the simulation.")
    parser.add_argument("--loads", type=float, nargs="+", default=LOADS, help="transactions in flight a shard")
    parser.add_argument("--decisions", type=int, default=DECISIONS)
    parser.add_argument("--shards", type=int, default=SHARDS)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    account.replace()
    with command(), tempfile.NamedTemporaryFile(prefix="wire-", suffix=".log") as log:
        found = []
        for in_flight in arguments.loads:
            # Each on an emulator of its own: one that holds many items makes pauses.
            with started(Path(log.name), arguments.shards) as service:
                model = point(in_flight, arguments.seed, arguments.shards)
                found.append(compare(service, model, arguments.decisions))
        print(f"On the wire / simulated ± deviation between seeds:\n\n{report(found)}")
        problems = [problem for one in found for problem in one.problems()]
        print("".join(f"\nFAILED     {problem}" for problem in problems))
        return int(bool(problems))
    return 1  # interrupted


if __name__ == "__main__":
    sys.exit(main())
