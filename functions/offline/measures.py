"""Measure how well probabilities tell frauds from other transactions."""

from typing import Any, NamedTuple

import numpy as np
from sklearn import metrics

# Shares of the transactions that are no frauds
FALSE_POSITIVE_RATES = (0.005, 0.001)


class Part(NamedTuple):
    """A part of the data, and what a model says about it.

    Attributes
    ----------
    indexes
        Positions in the data.
    labels
        1 for a fraud, else 0, shape (n,).
    probabilities
        Shape (n,).
    rows
        Inputs of the model, shape (n, columns).
    """

    indexes: range
    labels: Any
    probabilities: Any
    rows: Any


def measures(part: Part) -> dict[str, float]:
    """Return average precision, ROC AUC, recall at given rates of false positives, and calibration.

    ``mean_to_base_rate`` is the mean probability divided by the proportion of frauds.
    """
    labels, probabilities = part.labels, part.probabilities
    found = {
        "average_precision": float(metrics.average_precision_score(labels, probabilities)),
        "roc_auc": float(metrics.roc_auc_score(labels, probabilities)),
    }
    for rate in FALSE_POSITIVE_RATES:
        found[f"recall_at_{rate:.1%}_false_positives"] = recall_at(labels, probabilities, rate)
    found["mean_to_base_rate"] = float(probabilities.mean() / labels.mean())
    return found


def recall_at(labels: Any, scores: Any, rate: float) -> float:
    """Return the highest recall with at most this rate of false positives."""
    false_positives, recall, _ = metrics.roc_curve(labels, scores, drop_intermediate=False)
    return float(recall[np.flatnonzero(false_positives <= rate)[-1]])
