import time
from types import SimpleNamespace

import pytest

from scoring import deadlines


def test_deadline_is_just_before_lambda_stops_the_function(context: SimpleNamespace) -> None:
    remaining = context.get_remaining_time_in_millis() / 1000
    assert remaining - 0.5 < deadlines.of(context) - time.monotonic() < remaining - 0.1


@pytest.mark.parametrize(("seconds", "allowed"), [(1.0, True), (2.0, True), (2.1, False)])
def test_allows(monkeypatch: pytest.MonkeyPatch, seconds: float, allowed: bool) -> None:  # noqa: FBT001
    monkeypatch.setattr("scoring.deadlines.time.monotonic", lambda: 100.0)
    assert deadlines.allows(102.0, seconds) is allowed
