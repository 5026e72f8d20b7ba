"""Turn the trees of scikit-learn and LightGBM into those of the layer."""

import math
from typing import Any

import numpy as np

from scoring.scorers.forest.model import Node


def of_scikit_learn(estimator: Any) -> tuple[Node, list[float]]:
    """Return the root of a fitted decision tree, whose leaves are probabilities, and the covers of its leaves.

    Parameters
    ----------
    estimator
        A ``DecisionTreeClassifier`` with the classes 0 and 1.
    """
    tree = estimator.tree_
    frauds = list(estimator.classes_).index(1)
    lefts, rights = tree.children_left.tolist(), tree.children_right.tolist()
    columns, thresholds = tree.feature.tolist(), tree.threshold.tolist()
    # The distribution of the classes, which sums to 1
    values = tree.value[:, 0, :].tolist()
    weights = tree.weighted_n_node_samples.tolist()
    covers: list[float] = []

    def node(index: int) -> Node:
        if lefts[index] == rights[index]:
            covers.append(weights[index])
            found: float = values[index][frauds]
            return found
        left = node(lefts[index])
        return columns[index], in_doubles(thresholds[index]), left, node(rights[index])

    return node(0), covers


def in_doubles(threshold: float) -> float:
    """Return the largest double that scikit-learn takes for at most this threshold.

    scikit-learn rounds a value to a float32 before it compares. So the result is the middle between two neighbouring
    float32, or the double just below it: a value in the middle is rounded to the one whose last bit is 0.
    """
    with np.errstate(over="ignore"):
        below = np.float32(threshold)
        if float(below) > threshold:
            below = np.nextafter(below, np.float32(-np.inf))
        above = np.nextafter(below, np.float32(np.inf))
    # Exact: the middle of two float32 is a double. Above the largest float32, rounding continues in steps as below it.
    step = (
        float(above) - float(below) if np.isfinite(above) else float(below) - float(np.nextafter(below, np.float32(0)))
    )
    middle = float(below) + step / 2
    is_even = not int(below.view(np.uint32)) & 1
    return middle if is_even else math.nextafter(middle, -math.inf)


def of_lightgbm(structure: dict[str, Any]) -> tuple[Node, list[float]]:
    """Return the root of a tree in the dump of a booster, whose leaves are log-odds, and the covers of its leaves.

    Covers are numbers of rows without weights, as in LightGBM's own contributions.
    """
    covers: list[float] = []

    def node(part: dict[str, Any]) -> Node:
        if "leaf_value" in part:
            # The only leaf of a tree without a split has no count.
            covers.append(float(part.get("leaf_count") or 1))
            return float(part["leaf_value"])
        if part["decision_type"] != "<=" or part["missing_type"] != "None":
            raise ValueError("A split of LightGBM is not a comparison of numbers")
        left = node(part["left_child"])
        return part["split_feature"], float(part["threshold"]), left, node(part["right_child"])

    return node(structure), covers
