"""The simulation of the shards next to real processes, real HTTP and the emulator, with conflicts in between."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.benchmarks import load, wire
from tests.benchmarks.scale import Model, Outcome, simulate
from tests.benchmarks.wire import Comparison, Service, Transactions
from tests.faults.proxy import Fault

MODEL = wire.point(0.3, seed=1)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with wire.started(tmp_path / "functions.log") as service:
        yield service


@pytest.mark.parametrize("in_flight", wire.LOADS)
def test_the_wire_and_the_simulation_agree(service: Service, in_flight: float) -> None:
    compared = wire.compare(service, wire.point(in_flight, seed=1))
    print(wire.report([compared]))
    assert compared.problems() == []
    assert compared.result.accepted["total"] == wire.WARM + wire.DECISIONS
    assert compared.real.refused["TransactionConflict"] > 0


def transaction(decision_id: str, shard: int) -> bytes:
    put, update = f'{{"decision_id": {{"S": "{decision_id}"}}}}', f'{{"shard": {{"N": "{shard}"}}}}'
    return f'{{"TransactItems": [{{"Put": {{"Item": {put}}}}}, {{"Update": {{"Key": {update}}}}}]}}'.encode()


def test_a_transaction_excludes_others_from_its_shard_until_it_ends() -> None:
    rule = Transactions(replace(MODEL, transaction=0.02, spread=0))
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


def compared(real: Outcome, simulated: Model) -> Comparison:
    by_seed = [simulate(replace(simulated, seed=seed)) for seed in range(5)]
    return Comparison(MODEL, load.Result(1, [], [], load.Counts()), 0, real, by_seed)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, None),
        ({"lifetime": 1}, "attempts in conflict"),
        ({"shards": 400}, "attempts a decision"),
        ({"handler": 0.4}, "environments at once"),
        ({"rate": 4 * MODEL.rate}, "to the outbox"),
    ],
)
def test_what_does_not_agree_is_told(change: dict[str, float], problem: str | None) -> None:
    # Against one that was made otherwise
    found = compared(simulate(replace(MODEL, **change)), MODEL).problems()  # type: ignore[arg-type]
    assert bool(found) == bool(problem)
    assert problem is None or any(problem in one for one in found)


def test_wrong_counts_are_told() -> None:
    right = compared(simulate(MODEL), MODEL)
    wrong = replace(right, result=replace(right.result, moved=load.Counts(total=1)))
    assert wrong.problems() == ["/stats moved wrongly: total by 1, accepted 0"]
