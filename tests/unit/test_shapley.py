"""Contributions equal Shapley values by definition, computed exactly for every subset of columns."""

import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import combinations

import pytest
from hypothesis import given

from scoring.scorers.forest.model import LOGISTIC, MEAN, Model, Node
from scoring.scorers.forest.shapley import Explainer, _quadrature
from tests.forests import SMALL, Tree, model, numbers, output, random_models, random_rows

COLUMNS = 4


def expected(model: Model, row: list[float], known: frozenset[int]) -> Fraction:
    """Return the expected output of a model if only some columns of a row are known, by the covers of the leaves."""
    covers = iter(model.covers)
    total = sum([_expected(tree, row, known, covers)[0] for tree in model.trees], Fraction(0))
    return total / len(model.trees) if model.link == MEAN else total


def _expected(
    node: Node, row: list[float], known: frozenset[int], covers: Iterator[float]
) -> tuple[Fraction, Fraction]:
    """Return the expected value of a subtree, and its cover."""
    if not isinstance(node, tuple):
        return Fraction(node), Fraction(next(covers))
    column, threshold, left_node, right_node = node
    left, left_cover = _expected(left_node, row, known, covers)
    right, right_cover = _expected(right_node, row, known, covers)
    cover = left_cover + right_cover
    if column in known:
        return left if row[column] <= threshold else right, cover
    return (left * left_cover + right * right_cover) / cover, cover


def by_definition(model: Model, row: list[float]) -> list[Fraction]:
    """Return the Shapley value of each column: its mean effect over all orders in which columns become known."""
    columns = range(len(row))
    values = {
        frozenset(known): expected(model, row, frozenset(known))
        for size in range(len(row) + 1)
        for known in combinations(columns, size)
    }
    return [
        sum(
            [
                (values[known | {column}] - value) / (len(row) * math.comb(len(row) - 1, len(known)))
                for known, value in values.items()
                if column not in known
            ],
            Fraction(0),
        )
        for column in columns
    ]


def check(explained: Model, row: list[float]) -> None:
    """Check the contributions against the definition, and that they add up."""
    explainer = Explainer(explained)
    contributions = explainer.contributions(row)
    assert explainer.base == pytest.approx(float(expected(explained, row, frozenset())), abs=1e-12)
    assert contributions == pytest.approx([float(value) for value in by_definition(explained, row)], abs=1e-12)
    assert sum(contributions) + explainer.base == pytest.approx(output(explained, row), abs=1e-12)


@given(random_models(COLUMNS), random_rows(COLUMNS))
def test_contributions_equal_the_definition(explained: Model, row: list[float]) -> None:
    check(explained, row)


PASSED_TWICE: Tree = (0, 2.0, (0, 1.0, (0.1, 3.0), (0.9, 4.0)), (0.5, 5.0))
FAILED_TWICE: Tree = (0, 0.0, (0, -1.0, (0.1, 3.0), (1, 0.0, (0.3, 1.0), (0.8, 2.0))), (0.5, 5.0))
# The same column below both sides of another one, which must not take the state of the one for that of the other
NESTED: Tree = (0, 0.5, (1, 0.0, (0.1, 1.0), (0.7, 2.0)), (1, 2.0, (0.2, 3.0), (0.9, 4.0)))
BOTH_SIDES: Tree = (1, 0.0, NESTED, (0, 1.0, (0.4, 2.0), NESTED))
REPEATED_ON_BOTH_SIDES: Tree = (0, 2.0, BOTH_SIDES, NESTED)


@pytest.mark.parametrize("link", [MEAN, LOGISTIC])
@pytest.mark.parametrize("row", [[0.5, -1.0], [0.5, 1.0], [3.0, -1.0], [3.0, 1.0], [-2.0, -1.0], [1.0, 0.0]])
@pytest.mark.parametrize(
    "trees",
    [
        [(0.3, 7.0)],
        [(0.0, 7.0)],
        [(0, 0.5, (0.2, 1.0), (0.8, 3.0))],
        [(0, 0.5, (0.2, 1.0), (0.2, 3.0))],
        [(0, 0.5, (0.0, 1.0), (0.0, 3.0)), (1, 0.5, (0.0, 1.0), (0.4, 3.0))],
        [PASSED_TWICE],
        [FAILED_TWICE],
        [BOTH_SIDES],
        [REPEATED_ON_BOTH_SIDES],
        [(0.3, 7.0), PASSED_TWICE, FAILED_TWICE, BOTH_SIDES],
    ],
)
def test_columns_that_repeat_and_trees_without_effect(trees: list[Tree], row: list[float], link: str) -> None:
    check(model(*trees, features=numbers(2), link=link), row)


def test_known_values() -> None:
    """Of four training rows, three are on the right: the base is 0.65, and the column contributes the rest."""
    explainer = Explainer(model((0, 0.5, (0.2, 1.0), (0.8, 3.0))))
    assert explainer.base == pytest.approx(0.65)
    assert explainer.contributions([0.0]) == pytest.approx([-0.45])
    assert explainer.contributions([1.0]) == pytest.approx([0.15])


def test_two_columns_of_an_and_share_equally() -> None:
    """The output is 1 if both columns are 1: Shapley's example of players who need each other."""
    both = model((0, 0.5, (0.0, 2.0), (1, 0.5, (0.0, 1.0), (1.0, 1.0))))
    assert Explainer(both).contributions([1.0, 1.0]) == pytest.approx([0.375, 0.375])


@pytest.mark.parametrize("covers", [(5e-324, 5e-324), (5e-324, 1e-323), (5e-324, 1e15), (1e15, 5e-324), (1e15, 1e15)])
@pytest.mark.parametrize("row", [[0.0, 0.0], [1.0, 0.0]])
def test_smallest_and_largest_covers(covers: tuple[float, float], row: list[float]) -> None:
    left, right = covers
    check(model((0.3, left), (0, 0.5, (0.1, left), (0, 0.0, (0.2, left), (1, 0.5, (0.4, left), (0.9, right))))), row)


@pytest.mark.parametrize("depth", [1, 2, 3, 31, 32, 63, 64])
@pytest.mark.parametrize("link", [MEAN, LOGISTIC])
def test_deep_tree_of_different_columns(depth: int, link: str) -> None:
    """The longest path decides how many points are needed: 32 for 64 columns."""
    tree: Tree = (1.0, 1.0)
    for column in reversed(range(depth)):
        tree = (column, 0.5, (column / depth, 1.0), tree)
    explained = model(tree, link=link)
    explainer = Explainer(explained)
    for row in ([1.0] * depth, [0.0] * depth, [1.0] * (depth - 1) + [0.0]):
        total = sum(explainer.contributions(row)) + explainer.base
        assert total == pytest.approx(output(explained, row), abs=1e-12)


def test_deep_tree_equals_the_closed_form() -> None:
    """All of 40 columns must be 1 for an output of 1, and each splits its rows in halves: all contribute the same."""
    tree: Tree = (1.0, 1.0)
    for column in range(40):
        tree = (column, 0.5, (0.0, 2.0**column), tree)
    explainer = Explainer(model(tree))
    assert explainer.base == pytest.approx(2**-40)
    assert explainer.contributions([1.0] * 40) == pytest.approx([(1 - 2**-40) / 40] * 40, abs=1e-12)


def test_explainer_keeps_no_state() -> None:
    explainer = Explainer(SMALL)
    rows = [[20.0, 12.0, 1.0, 0.0, 0.0], [2000.0, 3.0, 5.0, 1.0, 0.0]]
    first = [explainer.contributions(row) for row in rows]
    assert [explainer.contributions(row) for row in reversed(rows)] == first[::-1]


GAUSS = {
    1: [(0.0, 2.0)],
    2: [(1 / math.sqrt(3), 1.0)],
    3: [(0.0, 8 / 9), (math.sqrt(3 / 5), 5 / 9)],
    4: [
        (math.sqrt(3 / 7 - 2 / 7 * math.sqrt(6 / 5)), (18 + math.sqrt(30)) / 36),
        (math.sqrt(3 / 7 + 2 / 7 * math.sqrt(6 / 5)), (18 - math.sqrt(30)) / 36),
    ],
    5: [
        (0.0, 128 / 225),
        (math.sqrt(5 - 2 * math.sqrt(10 / 7)) / 3, (322 + 13 * math.sqrt(70)) / 900),
        (math.sqrt(5 + 2 * math.sqrt(10 / 7)) / 3, (322 - 13 * math.sqrt(70)) / 900),
    ],
}
"""Points that are not negative, and their weights, on the interval from -1 to 1 (Abramowitz and Stegun, table 25.4)."""


@pytest.mark.parametrize("points", GAUSS)
def test_quadrature_has_the_known_points(points: int) -> None:
    known = sorted({((1 + sign * x) / 2, weight / 2) for x, weight in GAUSS[points] for sign in (-1, 1)})
    found = sorted(_quadrature(points))
    assert [point for point, _ in found] == pytest.approx([point for point, _ in known], abs=1e-15)
    assert [weight for _, weight in found] == pytest.approx([weight for _, weight in known], abs=1e-15)


@pytest.mark.parametrize("points", range(1, 33))
def test_quadrature_is_exact_up_to_degree_2n_minus_1(points: int) -> None:
    found = _quadrature(points)
    assert len({point for point, _ in found}) == points
    assert all(0 < point < 1 for point, _ in found)
    for degree in range(2 * points):
        integral = math.fsum([weight * point**degree for point, weight in found])
        assert integral == pytest.approx(1 / (degree + 1), abs=1e-14)
    # One degree more is not integrated exactly.
    above = sum([Fraction(weight) * Fraction(point) ** (2 * points) for point, weight in found], Fraction(0))
    if points <= 10:
        assert abs(above - Fraction(1, 2 * points + 1)) > 1e-13
