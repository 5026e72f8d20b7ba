"""Contributions: how much each column of a row adds to the output of a model.

They are Shapley values (Shapley, "A value for n-person games", 1953). As in TreeSHAP (Lundberg et al., "From local
explanations to global understanding with explainable AI for trees", Nature Machine Intelligence 2, 2020), a column that
is left out sends the row down both sides of a split, in the proportion of the training rows that went there.

A tree is the sum of its leaves. For a column on the path to a leaf, let ``z`` be the proportion of training rows that
pass all its splits, and ``s`` be 1 if the row passes them, else 0. If each column is present with probability ``u``,
the leaf adds its value times the product of ``z + u (s - z)`` over the columns. The Shapley value of a column is the
integral, over ``u`` from 0 to 1, of the derivative of this multilinear extension with respect to the column (Owen,
"Multilinear extensions of games", Management Science 18, 1972): ``s - z`` times the product of the other factors. That
is a polynomial, so Gauss-Legendre quadrature integrates it exactly. Each node gets its products from its parent.
"""

import math
from collections.abc import Iterator, Sequence
from operator import add, mul, truediv
from typing import Any, TypeAlias

from scoring.scorers.forest.model import MEAN, Model, Node

# A split with, before each child, the proportion of the split's training rows that went there; a leaf is its value.
_Weighted: TypeAlias = "float | tuple[int, float, float, _Weighted, float, _Weighted]"
# For a column whose splits the row passes: its `z`, its factor at each quadrature point, and `s - z` divided by these.
_Passed: TypeAlias = tuple[float, list[float], list[float]]
_NEWTON_STEPS = 10


class Explainer:
    """Computes contributions.

    Creating one takes a quarter of a millisecond per thousand nodes, so create it when it is first needed.

    Attributes
    ----------
    base
        Mean output of the model over the training rows, by their weights: what contributions add to.
    """

    def __init__(self, model: Model) -> None:
        self._columns = len(model.inputs.names)
        covers = iter(model.covers)
        weighted = [_weighted(tree, covers, frozenset()) for tree in model.trees]
        self._trees = [tree for tree, _, _, _ in weighted]
        scale = 1 / len(model.trees) if model.link == MEAN else 1.0
        self.base = sum([mean for _, _, mean, _ in weighted]) * scale
        # A path with m columns gives polynomials of degree m - 1; n points are exact up to degree 2n - 1.
        points = _quadrature(max(1, (max(columns for _, _, _, columns in weighted) + 1) // 2))
        self._points = [point for point, _ in points]
        self._absent = [1 - point for point, _ in points]
        self._failed = [-1 / (1 - point) for point, _ in points]
        self._start = [weight * scale for _, weight in points]

    def contributions(self, row: Sequence[float]) -> list[float]:
        """Return the contribution of each column of a row.

        Their sum and :attr:`base` add up to the probability or, with the link ``logistic``, to the log-odds.
        """
        found = [0.0] * self._columns
        for tree in self._trees:
            if isinstance(tree, tuple):
                self._visit(tree, self._start, {}, row, found)
        return found

    def _visit(
        self,
        node: Any,
        products: list[float],
        path: dict[int, _Passed | None],
        row: Sequence[float],
        found: list[float],
    ) -> list[float]:
        """Add the contributions of the leaves below a split; return the sums of their values times their products.

        Parameters
        ----------
        node
            A split of the tree.
        products
            Weight of each quadrature point, times the factors of the columns on the path.
        path
            The columns on the path; None for one that the row fails.
        row, found
            The row, and the contributions so far.
        """
        column, threshold, left_share, left, right_share, right = node
        if row[column] <= threshold:
            passed, passed_share, failed, failed_share = left, left_share, right, right_share
        else:
            passed, passed_share, failed, failed_share = right, right_share, left, left_share
        before = path.get(column)
        if before:
            share, factors, slopes_before = before
            passed_share *= share
            failed_share *= share
            products = list(map(truediv, products, factors))
        elif column in path:
            return self._visit_failed(node, products, path, row, found)
        rest = 1 - passed_share
        points = self._points
        # The products of leaves at the point u are constant + slope * u, without those of the path above.
        constant = slope = 0.0
        sums = None
        if passed.__class__ is tuple:
            factors = [passed_share + rest * point for point in points]
            slopes = [rest / factor for factor in factors]
            path[column] = passed_share, factors, slopes
            sums = self._visit(passed, list(map(mul, products, factors)), path, row, found)
            found[column] += sum(map(mul, sums, slopes))
        else:
            constant, slope = passed * passed_share, passed * rest
        if failed.__class__ is tuple:
            path[column] = None
            below = [product * absent * failed_share for product, absent in zip(products, self._absent, strict=True)]
            failed_sums = self._visit(failed, below, path, row, found)
            found[column] += sum(map(mul, failed_sums, self._failed))
            sums = list(map(add, sums, failed_sums)) if sums else failed_sums
        elif failed:
            constant += failed * failed_share
            slope -= failed * failed_share
        if constant or slope:
            found[column] += slope * sum(products)
            leaves = [product * (constant + slope * point) for product, point in zip(products, points, strict=True)]
            sums = list(map(add, sums, leaves)) if sums else leaves
        sums = sums or [0.0] * len(points)
        if before:
            found[column] -= sum(map(mul, sums, slopes_before))
            path[column] = before
        else:
            path.pop(column, None)
        return sums

    def _visit_failed(
        self,
        node: Any,
        products: list[float],
        path: dict[int, _Passed | None],
        row: Sequence[float],
        found: list[float],
    ) -> list[float]:
        """Do the same for a split by a column that the row fails already: both children only get their proportions."""
        value, sums = 0.0, [0.0] * len(products)
        for share, child in (node[2:4], node[4:6]):
            if child.__class__ is tuple:
                below = self._visit(child, [product * share for product in products], path, row, found)
                sums = list(map(add, sums, below))
            else:
                value += share * child
        return [one + value * product for one, product in zip(sums, products, strict=True)] if value else sums


def _weighted(node: Node, covers: Iterator[float], path: frozenset[int]) -> tuple[_Weighted, float, float, int]:
    """Return a subtree with proportions, its cover, its mean value, and the largest number of columns on a path.

    ``path`` has the columns of the splits above it, which count.
    """
    if not isinstance(node, tuple):
        cover = next(covers)
        return node, cover, node, len(path)
    column, threshold, left_node, right_node = node
    if column not in path:
        path |= {column}
    left, left_cover, left_mean, left_columns = _weighted(left_node, covers, path)
    right, right_cover, right_mean, right_columns = _weighted(right_node, covers, path)
    cover = left_cover + right_cover
    left_share, right_share = left_cover / cover, right_cover / cover
    return (
        (column, threshold, left_share, left, right_share, right),
        cover,
        left_share * left_mean + right_share * right_mean,
        max(left_columns, right_columns),
    )


def _quadrature(points: int) -> list[tuple[float, float]]:
    """Return the points and weights of Gauss-Legendre quadrature on the interval from 0 to 1.

    The points are the roots of a Legendre polynomial, found by Newton's method from Tricomi's approximation.
    """
    found = []
    for index in range(1, points + 1):
        x = math.cos(math.pi * (index - 0.25) / (points + 0.5))
        slope = 1.0
        for _ in range(_NEWTON_STEPS):
            lower, value = 1.0, x
            for degree in range(2, points + 1):
                lower, value = value, ((2 * degree - 1) * x * value - (degree - 1) * lower) / degree
            slope = points * (x * value - lower) / (x * x - 1)
            x -= value / slope
        found.append(((1 - x) / 2, 1 / ((1 - x * x) * slope * slope)))
    return found
