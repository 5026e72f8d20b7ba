"""A model: trees, and what their sum or mean says about a transaction."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from scoring.scorers.forest.inputs import Inputs

# What the values of the leaves are: probabilities, whose mean counts, or log-odds, whose sum counts.
MEAN, LOGISTIC = "mean", "logistic"

# A leaf is a number. A split is a column, a threshold, the node for values up to it, and the node for all others.
Node: TypeAlias = "float | tuple[int, float, Node, Node]"


class Model(NamedTuple):
    """A model as :mod:`scoring.scorers.forest.model_file` reads it.

    Attributes
    ----------
    version
        Stored with each decision, beside the version of the rule set.
    inputs
        Turns facts into rows.
    link
        :data:`MEAN` or :data:`LOGISTIC`.
    trees
        Root of each tree.
    covers
        Weight of the training rows in each leaf, in the order of the leaves, from the first tree to the last.
    levels
        ``(index of the risk level, minimum probability)``, highest level first, without LOW.
    fraud_threshold
        From this probability on, a transaction is reported as a fraud: that of the level HIGH.
    about
        What training says about the model, for people.
    """

    version: str
    inputs: Inputs
    link: str
    trees: list[Node]
    covers: tuple[float, ...]
    levels: tuple[tuple[int, float], ...]
    fraud_threshold: float
    about: Mapping[str, Any]

    def probability(self, row: list[float]) -> float:
        """Return the probability of fraud for a row of :meth:`Inputs.row`."""
        total = 0.0
        node: Any
        for node in self.trees:
            while node.__class__ is tuple:
                column, threshold, left, right = node
                node = left if row[column] <= threshold else right  # noqa: PLW2901  descends the tree
            total += node
        return logistic(total) if self.link == LOGISTIC else total / len(self.trees)

    def level(self, probability: float) -> int:
        """Return the level for a probability, as an index of :data:`scoring.assessment.RISK_LEVELS`."""
        for level, minimum in self.levels:
            if probability >= minimum:
                return level
        return 0


def logistic(log_odds: float) -> float:
    """Return the probability for log-odds, without overflow."""
    if log_odds < 0:
        odds = math.exp(log_odds)
        return odds / (1 + odds)
    return 1 / (1 + math.exp(-log_odds))
