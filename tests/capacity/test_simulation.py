"""Test the simulation of the counter shards against theory and against its own limits."""

import math
from dataclasses import replace
from statistics import fmean

import pytest

from tests.capacity import simulation
from tests.capacity.simulation import Clock, Environment, Model, Outcome, simulate


@pytest.fixture
def few_decisions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "MIN_SETTLE_DECISIONS", 50)
    monkeypatch.setattr(simulation, "MIN_MEASURED_DECISIONS", 250)


@pytest.fixture
def random_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every decision pick a random shard, instead of keeping to one."""

    class NewLedger(Environment):
        def record(self) -> bool:
            self.__init__(self.store, self.shards)  # type: ignore[misc]
            return super().record()

    monkeypatch.setattr(simulation, "Environment", NewLedger)


def test_clock_runs_tasks_in_order_of_their_wake_up_times() -> None:
    clock, log = Clock(), []

    def task(name: str, seconds: float) -> None:
        for _ in range(2):
            clock.sleep(seconds)
            log.append((name, clock.now))

    def start() -> None:
        clock.start(lambda: task("slow", 3))
        clock.start(lambda: task("fast", 1))

    clock.run(start)
    assert log == [("fast", 1), ("fast", 2), ("slow", 3), ("slow", 6)]


@pytest.mark.parametrize(("rate", "shards"), [(100, 8), (300, 8), (600, 64), (3000, 64)])
def test_conflicts_on_random_shards_match_theory(random_shards: None, rate: float, shards: int) -> None:
    """Erlang's loss formula with one server: random arrivals find a shard locked for its share of locked time."""
    model = Model(rate, shards)
    conflicts = fmean(simulate(replace(model, seed=seed)).conflict_share for seed in (1, 2, 3))
    assert conflicts == pytest.approx(model.in_flight / shards, rel=0.1)


@pytest.mark.parametrize("spread", [0.01, 0.8])
def test_only_the_mean_duration_matters_in_theory(random_shards: None, spread: float) -> None:
    model = Model(1000, 64, transaction=0.01 / math.exp(spread**2 / 2), spread=spread)
    assert model.mean == pytest.approx(0.01)
    assert simulate(model).conflict_share == pytest.approx(1000 * 0.01 / 64, rel=0.1)


@pytest.mark.parametrize("rate", [500, 1000, 2000])
def test_keeping_to_a_shard_reduces_conflicts(rate: float) -> None:
    model = Model(rate, shards=64)
    assert simulate(model).conflict_share < model.in_flight / model.shards / 20


@pytest.mark.parametrize(
    "model",
    [Model(2000, 64), Model(1000, 64, transaction=0.025), Model(2000, 128, handler=0.020)],
    ids=str,
)
def test_conflicts_are_rare_with_more_shards_than_environments(model: Model) -> None:
    outcome = simulate(model)
    assert outcome.environments < model.shards
    assert outcome.conflict_share < 0.01
    crowded = simulate(replace(model, shards=model.shards // 2))
    assert crowded.environments > model.shards // 2
    assert crowded.conflict_share > 0.1


def test_one_shard_records_one_transaction_at_a_time() -> None:
    model = Model(300, shards=1, seed=3)
    recorded = model.rate * (1 - simulate(model).deferred_share)
    # The rate of some thousand random arrivals is off by some percent.
    assert 0.8 < recorded * model.mean < 1.03


@pytest.mark.parametrize("model", [Model(50, shards=1), Model(1000, shards=8)], ids=str)
def test_every_decision_is_recorded_or_deferred(model: Model) -> None:
    outcome = simulate(model)
    assert outcome.conflicts > 0
    assert outcome.attempts - outcome.conflicts == outcome.decisions - outcome.deferred


def test_single_decisions_do_not_conflict() -> None:
    outcome = simulate(Model(1, shards=64))
    assert (outcome.attempts, outcome.conflicts, outcome.deferred) == (outcome.decisions, 0, 0)
    assert outcome.seconds / outcome.decisions == pytest.approx(Model(1, 64).mean, rel=0.05)


def test_number_of_environments_follows_littles_law() -> None:
    model = Model(2000, shards=1000)
    busy = model.rate * (model.mean + model.handler)
    assert busy < simulate(model).environments < 2 * busy


def test_same_seed_gives_same_outcome(few_decisions: None) -> None:
    model = Model(300, shards=8)
    assert simulate(model) == simulate(model) != simulate(replace(model, seed=2))


def test_given_arrivals_are_all_measured() -> None:
    apart = simulate(Model(10, shards=1), arrivals=range(20))
    assert (apart.decisions, apart.attempts, apart.environments) == (20, 20, 1)
    together = simulate(Model(10, shards=1), arrivals=[1.0] * 5)
    assert (together.decisions, together.environments) == (5, 5)
    assert together.conflicts >= 4


def test_most_recently_used_environments_conflict_less() -> None:
    model = Model(30, shards=4, transaction=0.040)
    assert simulate(replace(model, last_first=True)).conflict_share < 0.7 * simulate(model).conflict_share


def test_shares() -> None:
    outcome = Outcome(decisions=10, attempts=20, conflicts=11, deferred=1)
    assert (outcome.conflict_share, outcome.deferred_share) == (0.55, 0.1)
