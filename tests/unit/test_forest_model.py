"""Models: which leaf a row reaches, what the leaves say together, and which level that is."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.scorers.forest.model import LOGISTIC, MEAN, logistic
from tests.forests import SMALL, Tree, model

STAIRS: Tree = (0, 1.0, (0.2, 1.0), (1, -0.5, (0.4, 1.0), (0.9, 1.0)))
EPSILON = 2.0**-52


@pytest.mark.parametrize(
    ("row", "leaf"),
    [
        ([0, 0], 0.2),
        ([1, 0], 0.2),
        ([1 + EPSILON, 0], 0.9),
        ([2, -0.5], 0.4),
        ([2, -0.5 + EPSILON / 4], 0.9),
        ([-1e308, 1e308], 0.2),
        ([1e308, -1e308], 0.4),
    ],
)
def test_value_up_to_the_threshold_goes_left(row: list[float], leaf: float) -> None:
    assert model(STAIRS).probability(row) == leaf


@pytest.mark.parametrize(
    ("leaves", "link", "probability"),
    [
        ([0.25], MEAN, 0.25),
        ([0.0, 1.0, 0.5], MEAN, 0.5),
        ([1.0] * 1_000, MEAN, 1.0),
        ([0.0], LOGISTIC, 0.5),
        ([math.log(3)], LOGISTIC, 0.75),
        ([-math.log(3)], LOGISTIC, 0.25),
        ([math.log(3), -math.log(9)], LOGISTIC, 0.25),
        ([1e6] * 1_000, LOGISTIC, 1.0),
        ([-1e6] * 1_000, LOGISTIC, 0.0),
    ],
)
def test_link(leaves: list[float], link: str, probability: float) -> None:
    found = model(*[(leaf, 1.0) for leaf in leaves], link=link).probability([0.0])
    assert found == pytest.approx(probability, abs=1e-15)
    assert 0 <= found <= 1


@given(st.floats(allow_nan=False))
def test_logistic_never_overflows(log_odds: float) -> None:
    found = logistic(log_odds)
    assert 0 <= found <= 1
    assert found + logistic(-log_odds) == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize(
    ("probability", "level"),
    [
        (0.0, 0),
        (math.nextafter(0.1, 0), 0),
        (0.1, 1),
        (math.nextafter(0.35, 0), 1),
        (0.35, 2),
        (math.nextafter(0.7, 0), 2),
        (0.7, 3),
        (1.0, 3),
    ],
)
def test_level(probability: float, level: int) -> None:
    assert SMALL.level(probability) == level
