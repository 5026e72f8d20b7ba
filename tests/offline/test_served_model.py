"""The service computes the same with a model as the library that trained it."""

import itertools
from typing import Any

import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier

from functions.offline import trees
from functions.offline.train import Trained
from scoring.scorers.forest.model import Model, Node
from scoring.scorers.forest.shapley import Explainer

ROWS = 50_000
EXPLAINED = 60


def splits(node: Node) -> list[tuple[int, float]]:
    """Return column and threshold of every split."""
    if not isinstance(node, tuple):
        return []
    column, threshold, left, right = node
    return [(column, threshold), *splits(left), *splits(right)]


def unseen(trained: Trained) -> Any:
    """Return rows that the model was not trained on."""
    rows = np.concatenate([trained.card.validation.rows, trained.card.test.rows])
    assert len(rows) >= ROWS
    return rows[:ROWS]


def at_thresholds(trained: Trained) -> Any:
    """Return rows with a value at each threshold, just above it, and at the neighbouring float32."""
    model = trained.card.model
    found = sorted({split for tree in model.trees for split in splits(tree)})
    some = itertools.cycle(trained.card.test.rows[:: len(trained.card.test.rows) // 500])
    rows = []
    for column, threshold in found:
        single = np.float32(threshold)
        values = [threshold, np.nextafter(threshold, np.inf), np.nextafter(threshold, -np.inf), float(single)]
        values += [float(np.nextafter(single, np.float32(end))) for end in (-np.inf, np.inf)]
        for value in values:
            row = next(some).copy()
            row[column] = value
            rows.append(row)
    assert len(rows) > 1_000
    return np.array(rows)


def served(model: Model, rows: Any) -> Any:
    return np.array([model.probability(row) for row in rows.tolist()])


@pytest.mark.parametrize("rows_of", [unseen, at_thresholds])
def test_probabilities_equal_those_of_scikit_learn(forest: Trained, rows_of: Any) -> None:
    rows = rows_of(forest)
    expected = forest.fitted.library_model.predict_proba(rows)[:, 1]
    assert np.abs(served(forest.card.model, rows) - expected).max() <= 1e-15


@pytest.mark.parametrize("rows_of", [unseen, at_thresholds])
def test_probabilities_equal_those_of_lightgbm(boosted: Trained, rows_of: Any) -> None:
    rows = rows_of(boosted)
    expected = boosted.fitted.library_model.predict(rows)
    assert np.abs(served(boosted.card.model, rows) - expected).max() <= 1e-12


def explained(trained: Trained) -> Any:
    """Return rows with high and low probabilities."""
    test = trained.card.test
    order = np.argsort(test.probabilities)
    return test.rows[np.concatenate([order[-EXPLAINED // 2 :], order[:: len(order) // (EXPLAINED // 2)]])]


@pytest.mark.filterwarnings("ignore")  # of its imports
def test_contributions_equal_those_of_tree_explainer(forest: Trained) -> None:
    import shap  # noqa: PLC0415  warns while it is imported

    model, rows = forest.card.model, explained(forest)
    explainer = Explainer(model)
    found = np.array([explainer.contributions(row) for row in rows.tolist()])
    other = shap.TreeExplainer(forest.fitted.library_model, feature_perturbation="tree_path_dependent")
    assert np.abs(found - other.shap_values(rows, check_additivity=False)[:, :, 1]).max() <= 1e-9
    assert explainer.base == pytest.approx(other.expected_value[1], abs=1e-12)
    assert np.abs(found.sum(axis=1) + explainer.base - served(model, rows)).max() <= 1e-12


def test_contributions_equal_those_of_lightgbm(boosted: Trained) -> None:
    rows = explained(boosted)
    explainer = Explainer(boosted.card.model)
    found = np.array([[*explainer.contributions(row), explainer.base] for row in rows.tolist()])
    assert np.abs(found - boosted.fitted.library_model.predict(rows, pred_contrib=True)).max() <= 1e-9
    log_odds = boosted.fitted.library_model.predict(rows, raw_score=True)
    assert np.abs(found.sum(axis=1) - log_odds).max() <= 1e-12 * max(1, np.abs(log_odds).max())


@pytest.mark.parametrize(
    "threshold",
    [0.0, -0.0, 1.0, -1.0, 0.1, 1e-45, 1e-300, 16_777_217.0, 3.5e38, 1e300, 2.5, 1 + 2**-24, 1 + 3 * 2**-24],
)
def test_threshold_in_doubles(threshold: float) -> None:
    found = trees.in_doubles(threshold)

    def goes_left(value: float) -> bool:
        with np.errstate(over="ignore"):
            return bool(np.float64(np.float32(value)) <= threshold)

    assert goes_left(found)
    assert not goes_left(np.nextafter(found, np.inf))


def test_class_order_does_not_matter() -> None:
    rows, labels = [[0.0], [0.0], [1.0], [1.0]], [1, 1, 0, 1]
    root, covers = trees.of_scikit_learn(DecisionTreeClassifier(max_depth=1).fit(rows, labels))
    assert isinstance(root, tuple)
    assert (root[0], root[2:]) == (0, (1.0, 0.5))
    assert covers == [2.0, 2.0]
