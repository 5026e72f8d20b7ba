"""The best rules like those of the lab for given transactions."""

from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score

_QUANTILES = np.linspace(0.5, 0.999, 40)
_ROUNDS = 3


class TunedRules:
    """Rules ``amount > a``, ``category == c and amount > b``, and an hour from ``first`` to ``last``.

    Limits are chosen one after the other, several times, for the highest average precision.

    Parameters
    ----------
    amounts, hours, categories
        The transactions, shape (n,).
    labels
        1 for a fraud, else 0.
    is_free
        Whether hours may wrap over midnight, and points are chosen as well. Otherwise, the hours begin at 0, and the
        points are those of the lab.
    """

    def __init__(self, amounts: Any, hours: Any, categories: Any, labels: Any, *, is_free: bool) -> None:
        limits = [float(value) for value in np.quantile(amounts, _QUANTILES)]
        choices: dict[str, list[Any]] = {
            "amount": limits,
            "category": sorted(set(categories)),
            "category_amount": limits,
            "last": list(range(24)),
        }
        if is_free:
            choices["first"] = list(range(24))
            choices |= {f"{name}_points": [0, 1, 2, 3] for name in ("amount", "category", "hour")}
        self._chosen: dict[str, Any] = {name: values[0] for name, values in choices.items()}
        # The lab's
        self._chosen |= {"amount_points": 3, "category_points": 2, "hour_points": 2, "first": 0, "last": 5}
        for _ in range(_ROUNDS):
            for name, values in choices.items():
                tried = [{**self._chosen, name: value} for value in values]
                found = [self._scores(one, amounts, hours, categories) for one in tried]
                self._chosen = tried[int(np.argmax([average_precision_score(labels, scores) for scores in found]))]

    def scores(self, amounts: Any, hours: Any, categories: Any) -> Any:
        """Return the score of each transaction."""
        return self._scores(self._chosen, amounts, hours, categories)

    @staticmethod
    def _scores(chosen: dict[str, Any], amounts: Any, hours: Any, categories: Any) -> Any:
        first, last = chosen["first"], chosen["last"]
        is_in = (hours >= first) & (hours <= last) if first <= last else (hours >= first) | (hours <= last)
        return (
            chosen["amount_points"] * (amounts > chosen["amount"])
            + chosen["category_points"] * ((categories == chosen["category"]) & (amounts > chosen["category_amount"]))
            + chosen["hour_points"] * is_in
        )
