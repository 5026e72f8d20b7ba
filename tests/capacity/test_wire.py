"""Compare the simulation with the real function: execution environments in processes, and conflicts on the wire.

    .venv/bin/python -m pytest tests/capacity/test_wire.py -s    # prints the comparison

The emulator has no conflicts between transactions, so a proxy in front of it makes them: it lets each transaction take
as long as one of the simulation, and refuses all others on the same shard until it ends. The handler, the ledger with
its retries, the connection and the parsing of a refusal are real; only DynamoDB is assumed.

The simulation then runs with the same arrivals and the measured durations, with many seeds. Starting shards, back-offs
and durations are random, so the real run counts as one more draw. Few shards and slow transactions make conflicts
frequent and the speed of the machine unimportant.
"""

import json
import math
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

import pytest

from tests import rule_set
from tests.capacity.simulation import Model, Outcome, simulate
from tests.faults import proxy
from tests.faults.proxy import Fault
from tests.local import emulator, environments, event_sources, template
from tests.performance import load
from tests.performance.load import Result

DECISIONS = 250
SHARDS = 4
# Environments that start before the clock does, and the maximum: enough that neither affects the result.
WARM, MAX_ENVIRONMENTS = 16, 32
SEEDS = range(30)
# Standard deviations between seeds; one run in ten thousand deviates further.
DEVIATIONS = 4
# If a transaction is this late, the machine or the emulator stalled, and the run is repeated.
STALL_SECONDS = 0.1
TRIES = 3


class Figure(NamedTuple):
    """A compared figure, with a margin for the time of a call to the proxy and back, which is not simulated."""

    name: str
    value: Callable[[Outcome], float]
    margin: float


FIGURES = (
    Figure("conflicts, % of attempts", lambda outcome: 100 * outcome.conflict_share, 2),
    Figure("attempts per decision", lambda outcome: outcome.attempts / outcome.decisions, 0.04),
    Figure("to the outbox, %", lambda outcome: 100 * outcome.deferred_share, 1),
    Figure("environments", lambda outcome: outcome.environments, 3),
)


class Attempt(NamedTuple):
    """A transaction; ``late`` is the part of ``seconds`` that exceeds its intended duration."""

    decision_id: str
    refused: bool
    seconds: float
    late: float


class LockShards:
    """A rule for the proxy: transactions take time, and exclude each other from a shard."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._random = random.Random(model.seed + 1_000)
        self._lock = threading.Lock()
        self._locked: set[str] = set()
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
            refused = shard in self._locked
            seconds = self._random.lognormvariate(math.log(self._model.transaction), self._model.spread)
            seconds *= self._model.refusal if refused else 1
            self._locked.add(shard)
        try:
            yield Fault.CONFLICT if refused else None
            time.sleep(max(0, start + seconds - time.monotonic()))
        finally:
            with self._lock:
                if not refused:
                    self._locked.remove(shard)
                decision_id = put["Put"]["Item"]["decision_id"]["S"]
                took = time.monotonic() - start
                self.attempts.append(Attempt(decision_id, refused, took, took - seconds))


@dataclass(frozen=True)
class Run:
    """A run on the wire: what the client measured, and the transactions that the proxy saw."""

    result: Result
    attempts: list[Attempt]

    def outcome(self) -> Outcome:
        """Return the run in the terms of the simulation."""
        return Outcome(
            decisions=len({attempt.decision_id for attempt in self.attempts}),
            attempts=len(self.attempts),
            conflicts=sum(attempt.refused for attempt in self.attempts),
            deferred=load.deferred(self.result.samples),
            environments=self.result.in_flight,
        )

    def measured(self, model: Model) -> Model:
        """Return the model with the measured durations."""
        applied = {attempt.decision_id: attempt.seconds for attempt in self.attempts if not attempt.refused}
        refused = {attempt.decision_id: attempt.seconds for attempt in self.attempts if attempt.refused}
        mean = fmean(applied.values())
        return replace(
            model,
            transaction=mean / math.exp(model.spread**2 / 2),
            refusal=fmean(attempt.seconds for attempt in self.attempts if attempt.refused) / mean,
            handler=fmean(
                sample.responded - sample.sent - applied[sample.decision["decision_id"]]
                for sample in self.result.samples
                if sample.decision and sample.decision["decision_id"] in applied.keys() - refused.keys()
            ),
        )


def run_on_the_wire(log: Path, model: Model) -> Run:
    """Make decisions at the rate of the model; repeat the run if something stalled."""
    layer = template.copy_layer(log.with_name("layer"), rule_set.DOCUMENT)
    for _ in range(TRIES):
        with (
            log.open("wb") as output,
            emulator.running() as endpoint,
            proxy.running() as store,
            environments.running(
                emulator.variables(store.endpoint, endpoint) | {"STATS_SHARDS": str(model.shards)},
                MAX_ENVIRONMENTS,
                output.fileno(),
                layer=layer,
            ) as functions,
        ):
            store.forward_to(endpoint)
            target = load.invoked(functions)
            before = load.stats(target)
            warm_up = load.offer(target, load.keyed_transactions(WARM), 100 * WARM)
            rule = LockShards(model)
            store.follow(rule)
            samples = load.offer(target, load.keyed_transactions(DECISIONS), model.rate, seed=model.seed)
            store.clear()
            # Started only now, so that only requests met on the shards.
            with event_sources.running(endpoint, functions.invoke):
                changed = load.counted(target, before, warm_up + samples)
        if max(attempt.late for attempt in rule.attempts) < STALL_SECONDS:
            break
    return Run(Result(model.rate, warm_up, samples, changed), rule.attempts)


def differences(real: Outcome, simulated: Sequence[Outcome]) -> list[str]:
    """Print each figure of both, and return those that differ."""
    found = []
    for figure in FIGURES:
        values = [figure.value(outcome) for outcome in simulated]
        mean, deviation = fmean(values), stdev(values)
        text = f"{figure.name}: {figure.value(real):.3g}, simulated {mean:.3g} ± {deviation:.2g}"
        print(text)
        if abs(figure.value(real) - mean) > DEVIATIONS * deviation + figure.margin:
            found.append(text)
    return found


def model_with(in_flight: float) -> Model:
    """Return a model with this mean number of concurrent transactions per shard."""
    model = Model(1, SHARDS, transaction=0.040, last_first=True)
    return replace(model, rate=in_flight * SHARDS / model.mean)


@pytest.mark.parametrize("in_flight", [0.3, 0.5])
def test_simulation_agrees_with_the_wire(tmp_path: Path, in_flight: float) -> None:
    model = model_with(in_flight)
    run = run_on_the_wire(tmp_path / "functions.log", model)
    assert not run.result.errors
    assert run.result.changed == run.result.accepted
    assert run.result.accepted["total"] == WARM + DECISIONS
    arrivals = sorted(sample.sent for sample in run.result.samples)
    measured = run.measured(model)
    simulated = [simulate(replace(measured, seed=seed), arrivals) for seed in SEEDS]
    assert differences(run.outcome(), simulated) == []


def transaction(decision_id: str, shard: int) -> bytes:
    put, update = {"Item": {"decision_id": {"S": decision_id}}}, {"Key": {"shard": {"N": str(shard)}}}
    return json.dumps({"TransactItems": [{"Put": put}, {"Update": update}]}).encode()


def test_transaction_locks_its_shard_until_it_ends() -> None:
    rule = LockShards(Model(1, SHARDS, transaction=0.02, spread=0))
    with rule("TransactWriteItems", transaction("first", 1)) as first:
        with rule("TransactWriteItems", transaction("second", 1)) as second, rule("GetItem", b"{}") as read:
            pass
        with rule("TransactWriteItems", transaction("third", 2)) as third:
            pass
    with rule("TransactWriteItems", transaction("fourth", 1)) as fourth:
        pass
    assert [first, second, read, third, fourth] == [None, Fault.CONFLICT, None, None, None]
    assert [(one.decision_id, one.refused) for one in rule.attempts] == [
        ("second", True),
        ("third", False),
        ("first", False),
        ("fourth", False),
    ]
    second_seconds, third_seconds, *_ = (one.seconds for one in rule.attempts)
    assert second_seconds >= 0.01
    assert third_seconds >= 0.02


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, None),
        ({"shards": 2}, "conflicts"),
        ({"shards": 400}, "attempts per decision"),
        ({"handler": 0.4}, "environments"),
        ({"rate": 120}, "to the outbox"),
    ],
)
def test_differing_models_are_noticed(change: dict[str, float], problem: str | None) -> None:
    model = model_with(0.3)
    simulated = [simulate(replace(model, seed=seed)) for seed in range(5)]
    found = differences(simulate(replace(model, **change)), simulated)  # type: ignore[arg-type]
    assert bool(found) == bool(problem)
    assert problem is None or any(problem in text for text in found)
