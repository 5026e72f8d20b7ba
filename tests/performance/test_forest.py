"""A forest adds little to a start, to a decision and to an alert."""

import pytest

from tests.performance import forest
from tests.performance.forest import Added

MAX_LOAD_SECONDS = 0.030
MAX_MEMORY_BYTES = 12_000_000
MAX_DECISION_SECONDS = 0.00025
# Of the shipped model: reasons take longer in proportion to the nodes.
MAX_ALERT_SECONDS = 0.100


@pytest.fixture(scope="module")
def added() -> dict[str, Added]:
    found = forest.measure()
    print(forest.report(found))
    return found


@pytest.mark.parametrize("model", ["shipped model", "large model"])
def test_start_and_decision(added: dict[str, Added], model: str) -> None:
    one = added[model]
    assert 0 < one.load <= MAX_LOAD_SECONDS
    assert 0 < one.memory <= MAX_MEMORY_BYTES
    assert 0 < one.decision <= MAX_DECISION_SECONDS


def test_alert(added: dict[str, Added]) -> None:
    one = added["shipped model"]
    assert 0 < one.alert <= one.first_alert <= MAX_ALERT_SECONDS


def test_large_model_is_large(added: dict[str, Added]) -> None:
    assert added["large model"].nodes > 34_000
