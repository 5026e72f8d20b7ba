"""Check the instructions of a start and of a decision against their budgets."""

import platform
import sys

import pytest

from tests.performance import implementations, instructions
from tests.performance.implementations import OURS, REFERENCE
from tests.performance.instructions import HEALTH, START, WARM

# Shares of plain boto3's instructions on x86_64, by Python version; versions differ by a tenth. If a change is worth
# its cost, saves much, or updates boto3, enter the output of `python -m tests.performance.instructions --python ...`.
BUDGETS = {
    (3, 11): {START: 0.195, WARM: 0.155, HEALTH: 0.124},
    (3, 12): {START: 0.189, WARM: 0.167, HEALTH: 0.125},
    (3, 13): {START: 0.192, WARM: 0.174, HEALTH: 0.126},
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
    for name, share in instructions.shares(figures).items():
        assert share <= 1.1 * budgets[name], f"{name} takes {share:.3f} of plain boto3's, not {budgets[name]}"
        assert share >= 0.85 * budgets[name], f"{name} takes only {share:.3f}: lower the budget of {budgets[name]}"


def test_report() -> None:
    figures = {OURS: {START: 2e8, WARM: 1.5e6, HEALTH: 1e8}, REFERENCE: {START: 1e9, WARM: 6e6}}
    assert instructions.shares(figures) == {START: 0.2, WARM: 0.25, HEALTH: 0.1}
    assert instructions.report(figures).splitlines()[2:] == [
        f"| {START} | 200.00 | 1000.00 | 0.200 |",
        f"| {WARM} | 1.50 | 6.00 | 0.250 |",
        f"| {HEALTH} | 100.00 | 1000.00 | 0.100 |",
    ]
