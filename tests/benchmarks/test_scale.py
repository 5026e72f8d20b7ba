"""The simulation of the shards: that it does as the ledger does, and that its figures can be right."""

import math
import random
import subprocess
import sys
import threading
from dataclasses import replace
from queue import SimpleQueue
from typing import Any

import pytest

from scoring.errors import CallFailed, StoreUnavailable
from scoring.ledger import writer
from scoring.settings import Settings
from tests.benchmarks import scale
from tests.benchmarks.scale import Model, Partitions, Recording, simulate
from tests.local import template
from tests.local.template import ROOT
from tests.rule_set import decide


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulations of some hundred decisions."""
    monkeypatch.setattr(scale, "_SETTLE_DECISIONS", 50)
    monkeypatch.setattr(scale, "_MEASURED_DECISIONS", 250)


class RealEnvironment:
    """An execution environment whose ledger is the real one, in a thread that runs only while the simulation waits."""

    def __init__(self, model: Model, clock: Any, _: random.Random) -> None:
        self.decisions = 0
        self._steps: SimpleQueue[Any] = SimpleQueue()
        self._answers: SimpleQueue[Any] = SimpleQueue()
        # All environments have one clock, and only one of them runs.
        clock.time = clock.monotonic
        clock.sleep = lambda seconds: threading.current_thread().pause(seconds)  # type: ignore[attr-defined]
        configuration = Settings("DecisionsTable", "StatsTable", model.shards, 90, "OutboxQueue")
        self._ledger = writer.LedgerWriter(self, configuration)  # type: ignore[arg-type]

    def call(self, _operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        shard = parameters["TransactItems"][1]["Update"]["Key"]["shard"]["N"]
        code = self._ask("attempt", int(shard))
        if code is not None:
            reasons = [{"Code": "None"}, {"Code": code}]
            raise CallFailed("TransactionCanceledException", 400, {"CancellationReasons": reasons})
        return {}

    def record(self) -> Recording:
        decision = decide({"amount": 1}, "k1")

        def work() -> None:
            try:
                self._ledger.record(decision, math.inf)
            except StoreUnavailable:
                self._steps.put(("end", False))
            else:
                self._steps.put(("end", True))

        thread = threading.Thread(target=work, daemon=True)
        thread.pause = lambda seconds: self._ask("pause", seconds)  # type: ignore[attr-defined]
        thread.start()
        while (step := self._steps.get())[0] != "end":
            self._answers.put((yield step))
        thread.join()
        recorded: bool = step[1]
        return recorded

    def _ask(self, *step: Any) -> Any:
        self._steps.put(step)
        return self._answers.get()


@pytest.mark.parametrize(
    "model",
    [
        Model(rate=200, shards=8),
        Model(rate=200, shards=1),
        Model(rate=800, shards=8),
        Model(rate=600, shards=64, partitions=1),
        Model(rate=100, shards=2, lifetime=3, seed=7),
    ],
    ids=str,
)
def test_the_ledger_itself_makes_the_same_attempts_at_the_same_times(few: None, model: Model) -> None:
    outcome = simulate(model)
    assert sum(outcome.refused.values()) > 0
    assert simulate(model, RealEnvironment) == outcome


def test_the_ledger_tries_again_whatever_refuses_an_attempt() -> None:
    assert scale.Outcome().refused.keys() <= writer.RETRYABLE_CODES


@pytest.mark.parametrize(("rate", "shards"), [(100, 8), (300, 8), (600, 64), (3000, 64), (3000, 256)])
def test_conflicts_on_shards_at_random_are_as_many_as_in_theory(rate: float, shards: int) -> None:
    model = Model(rate, shards, lifetime=1)
    conflicts = simulate(model).share("TransactionConflict")
    assert conflicts == pytest.approx(scale.conflicts_at_random(model), rel=0.1)


@pytest.mark.parametrize("spread", [0.01, 0.4, 0.8])
def test_in_theory_only_the_mean_duration_counts(spread: float) -> None:
    model = replace(Model(rate=1000, shards=64, spread=spread, lifetime=1), transaction=0.01 / math.exp(spread**2 / 2))
    assert model.mean == pytest.approx(0.01)
    assert simulate(model).share("TransactionConflict") == pytest.approx(1000 * 0.01 / 64, rel=0.1)


@pytest.mark.parametrize("rate", [500, 1000, 2000])
def test_keeping_to_a_shard_has_fewer_conflicts(rate: float) -> None:
    model = Model(rate, shards=64)
    assert simulate(model).share("TransactionConflict") < scale.conflicts_at_random(model) / 20


@pytest.mark.parametrize(
    "model",
    [
        Model(rate=2000, shards=64),
        Model(rate=1000, shards=64, transaction=0.025),
        Model(rate=2000, shards=128, handler=0.020),
        Model(rate=10_000, shards=256),
    ],
    ids=str,
)
def test_conflicts_are_rare_while_there_are_more_shards_than_environments(model: Model) -> None:
    """The advice of the README; with half the shards, it does not hold."""
    outcome = simulate(model)
    assert outcome.environments < model.shards
    assert outcome.share("TransactionConflict") < 0.01
    crowded = simulate(replace(model, shards=model.shards // 2))
    assert crowded.environments > model.shards // 2
    assert crowded.share("TransactionConflict") > 0.1


def test_one_shard_records_no_more_than_one_transaction_at_a_time() -> None:
    model = Model(rate=300, shards=1, seed=3)
    outcome = simulate(model)
    recorded = model.rate * (1 - outcome.deferred_share)
    # The rate of some thousand arrivals is what it should be within some hundredths.
    assert 0.8 < recorded * model.mean < 1.03


@pytest.mark.parametrize(
    "model",
    [Model(rate=50, shards=1), Model(rate=1000, shards=8), Model(rate=2000, shards=64, partitions=4)],
    ids=str,
)
def test_every_decision_is_recorded_or_left_to_the_outbox(model: Model) -> None:
    outcome = simulate(model)
    assert len(outcome.attempts) == len(outcome.added)
    # All attempts were refused but the last one of each decision that was recorded.
    assert sum(outcome.attempts) - sum(outcome.refused.values()) == len(outcome.attempts) - outcome.deferred
    # Who has waited for longer than the patience is no more than one attempt and one pause above it.
    late = [seconds for seconds in outcome.added if seconds >= writer.RETRY_BUDGET_SECONDS]
    assert len(late) >= outcome.deferred
    assert max(outcome.added) < writer.RETRY_BUDGET_SECONDS + 2 * writer.MAX_BACKOFF_SECONDS


def test_without_rivals_nothing_is_refused() -> None:
    outcome = simulate(Model(rate=1, shards=64))
    assert set(outcome.attempts) == {1}
    assert set(outcome.added) == {0}
    assert outcome.deferred == 0


def test_environments_are_as_many_as_it_takes() -> None:
    """Little's law, with room for how unevenly decisions arrive."""
    model = Model(rate=2000, shards=1000)
    busy = model.rate * (model.mean + model.handler)
    assert busy < simulate(model).environments < 2 * busy


def test_the_same_seed_gives_the_same_figures(few: None) -> None:
    model = Model(rate=300, shards=8)
    assert simulate(model) == simulate(model)
    assert simulate(model) != simulate(replace(model, seed=2))


def test_arrivals_may_be_given() -> None:
    apart = simulate(Model(rate=10, shards=1), arrivals=range(20))
    assert (apart.attempts, apart.environments) == ([1] * 20, 1)
    together = simulate(Model(rate=10, shards=1), arrivals=[1.0] * 5)
    assert together.environments == len(together.attempts) == 5
    assert together.refused["TransactionConflict"] >= 4


def test_who_was_busy_last_meets_others_less() -> None:
    """The few that are at work are then mostly the same."""
    model = Model(rate=30, shards=4, transaction=0.040)
    assert simulate(replace(model, last_first=True)).share("TransactionConflict") < 0.7 * simulate(model).share(
        "TransactionConflict"
    )


def test_a_partition_gives_no_more_than_its_units() -> None:
    partitions = Partitions(2)
    taken = sum(partitions.take(0, 2, millisecond / 1000) for millisecond in range(10_000))
    assert taken == pytest.approx(10 * scale.UNITS_A_PARTITION / 2, rel=0.02)
    assert partitions.take(1, 2, 10)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (Model(rate=10_000, shards=256), "API Gateway requests"),
        (Model(rate=100, shards=1), "shard write units"),
        (Model(rate=10, shards=64, handler=20), "Lambda concurrency"),
        (Model(rate=5_000, shards=1000, item_kb=5), "table write units"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_nearest_quota(few: None, model: Model, name: str) -> None:
    assert scale.nearest_quota(model, simulate(model)).startswith(name)


def test_the_quotas_are_full_where_they_should_be() -> None:
    full = scale.quotas(Model(rate=10_000, shards=20, item_kb=2), scale.Outcome(environments=1000))
    assert full == {
        "API Gateway requests": 1,
        "Lambda requests": 1,
        "Lambda concurrency": 1,
        "table write units": 1,
        "shard write units": 2,
    }


def test_the_default_is_that_of_the_template() -> None:
    assert template.load()["Parameters"]["StatsShards"]["Default"] == scale.DEFAULT_SHARDS


def test_the_command_prints_its_tables() -> None:
    command = [sys.executable, "-m", "tests.benchmarks.scale", "--rates", "10", "100", "--shards", "8", "64"]
    result = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=180)
    assert (result.returncode, result.stderr) == (0, "")
    rows = [line.strip("| ").split(" | ") for line in result.stdout.splitlines() if line.startswith("| ")]
    lengths = [len(row) for row in rows]
    first, second, third = 2 + 4, 2 + len(scale.START_RATES), 2 + len(scale.LOADS)
    assert len(rows) == first + second + third
    assert len(set(lengths[:first])) == len(set(lengths[first : first + second])) == len(set(lengths[-third:])) == 1
    assert [row[:2] for row in rows[2:first]] == [["10", "8"], ["10", "64"], ["100", "8"], ["100", "64"]]
