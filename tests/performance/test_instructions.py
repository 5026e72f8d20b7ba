"""Check the instructions of a start and of a decision against their budgets."""

import platform
import sys

import pytest

from tests.performance import implementations, instructions
from tests.performance.implementations import OURS, REFERENCE
from tests.performance.instructions import HEALTH, START, START_FOREST, START_HISTORY, WARM, WARM_FOREST, WARM_HISTORY

# A start and a decision with one history, as multiples of those without; `make bench` limits their times.
MAX_WITH_HISTORY = {(START_HISTORY, START): 1.15, (WARM_HISTORY, WARM): 2.0}
# Shares of plain boto3's instructions on x86_64, by Python version; versions differ by a tenth. If a change is worth
# its cost, saves much, or updates boto3, enter the output of `python -m tests.performance.instructions --python ...`.
BUDGETS = {
    (3, 11): {START: 0.195, WARM: 0.155, HEALTH: 0.124, START_HISTORY: 0.207, WARM_HISTORY: 0.296},
    (3, 12): {START: 0.189, WARM: 0.167, HEALTH: 0.125, START_HISTORY: 0.201, WARM_HISTORY: 0.319},
    (3, 13): {START: 0.192, WARM: 0.174, HEALTH: 0.126, START_HISTORY: 0.205, WARM_HISTORY: 0.333},
}


def test_instructions_stay_within_budget() -> None:
    """Fail at a tenth above the budget, and also far below it, so that savings lower the budget."""
    if not instructions.is_available():
        pytest.skip(instructions.MISSING)
    if sys.version_info[:2] not in BUDGETS or platform.machine() != "x86_64":
        pytest.skip(f"no budget for Python {platform.python_version()} on {platform.machine()}")
    figures = instructions.measure(implementations.interpreter(None))
    print(instructions.report(figures))
    budgets = BUDGETS[sys.version_info[:2]]
    shares = instructions.shares(figures)
    for (history, plain), limit in MAX_WITH_HISTORY.items():
        assert shares[history] <= limit * shares[plain], f"{history} takes {shares[history] / shares[plain]:.2f} times"
    for name, budget in budgets.items():
        share = shares[name]
        assert share <= 1.1 * budget, f"{name} takes {share:.3f} of plain boto3's, not {budget}"
        assert share >= 0.85 * budget, f"{name} takes only {share:.3f}: lower the budget of {budget}"


def test_report() -> None:
    history = {START_HISTORY: 3e8, WARM_HISTORY: 3e6}
    forest = {START_FOREST: 4e8, WARM_FOREST: 4.5e6}
    figures = {OURS: {START: 2e8, WARM: 1.5e6, HEALTH: 1e8} | history | forest, REFERENCE: {START: 1e9, WARM: 6e6}}
    shares = {START: 0.2, WARM: 0.25, HEALTH: 0.1, START_HISTORY: 0.3, WARM_HISTORY: 0.5}
    shares |= {START_FOREST: 0.4, WARM_FOREST: 0.75}
    assert instructions.shares(figures) == shares
    assert instructions.report(figures).splitlines()[2:] == [
        f"| {START} | 200.00 | 1000.00 | 0.200 |",
        f"| {WARM} | 1.50 | 6.00 | 0.250 |",
        f"| {HEALTH} | 100.00 | 1000.00 | 0.100 |",
        f"| {START_HISTORY} | 300.00 | 1000.00 | 0.300 |",
        f"| {WARM_HISTORY} | 3.00 | 6.00 | 0.500 |",
        f"| {START_FOREST} | 400.00 | 1000.00 | 0.400 |",
        f"| {WARM_FOREST} | 4.50 | 6.00 | 0.750 |",
    ]
