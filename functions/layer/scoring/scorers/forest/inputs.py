"""Inputs of a model: the facts of a transaction as numbers."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Number(NamedTuple):
    """A fact that is a number or a boolean: one column.

    Attributes
    ----------
    fact
        Name of the fact, such as ``amount`` or ``customer.count_1h``.
    missing
        Stands for a missing fact.
    """

    fact: str
    missing: float


class Category(NamedTuple):
    """A fact that is a string: one column per value, which is 1 if the fact has this value, else 0.

    For a missing fact and for other values, all columns are 0.

    Attributes
    ----------
    fact
        Name of the fact, such as ``category``.
    values
        The values that the model knows.
    """

    fact: str
    values: tuple[str, ...]


class Inputs:
    """Turns facts into a row of numbers.

    Parameters
    ----------
    features
        The facts that a row contains, in order.
    """

    def __init__(self, features: Sequence[Number | Category]) -> None:
        self.features = tuple(features)
        self._numbers: list[tuple[str, int]] = []
        self._categories: list[tuple[str, dict[str, int]]] = []
        self._without: list[float] = []
        names: list[str] = []
        owners: list[int] = []
        for index, feature in enumerate(self.features):
            column = len(names)
            if isinstance(feature, Number):
                self._numbers.append((feature.fact, column))
                self._without.append(feature.missing)
                names.append(feature.fact)
            else:
                self._categories.append((feature.fact, {value: column + at for at, value in enumerate(feature.values)}))
                self._without += [0.0] * len(feature.values)
                names += [f"{feature.fact}={value}" for value in feature.values]
            owners += [index] * (len(names) - column)
        self.names = tuple(names)
        """Name of each column, such as ``amount`` or ``category=travel``."""
        self.owners = tuple(owners)
        """For each column, the index of its feature."""

    def row(self, facts: Mapping[str, Any]) -> list[float]:
        """Return the numbers of a transaction, one for each column.

        Parameters
        ----------
        facts
            :attr:`Transaction.facts <scoring.transaction.Transaction.facts>`, with history.
        """
        row = self._without.copy()
        for fact, column in self._numbers:
            value = facts.get(fact)
            if value is not None:
                row[column] = float(value)
        for fact, columns in self._categories:
            known = columns.get(facts.get(fact, ""))
            if known is not None:
                row[known] = 1.0
        return row

    def unseen(self, facts: Mapping[str, Any]) -> list[str]:
        """Return the names of the facts whose value the model does not know."""
        return [fact for fact, columns in self._categories if fact in facts and facts[fact] not in columns]
