"""Train a model on labelled transactions.

    make train DATA=transactions.csv.gz OUT=my.model [MODEL=forest|lightgbm] [RULES=rules.json] [COLUMNS="ts=timestamp"]

The model learns from the oldest 75 percent of the transactions. The next 12.5 percent choose the thresholds of the risk
levels, and the newest 12.5 percent measure the result. Beside the model, a page shows how good it is. The same data
gives the same file, byte for byte, with the same versions of the libraries. Not deployed.
"""

import argparse
import hashlib
import math
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from events.rows import FileError
from functions.offline import labelled, model_card, training_data, trees
from functions.offline.measures import Part, measures
from functions.offline.training_data import Data
from scoring import scorers
from scoring.assessment import RISK_LEVELS
from scoring.errors import ConfigurationError
from scoring.scorers import rules_loader
from scoring.scorers.forest import model_file
from scoring.scorers.forest.inputs import Inputs, Number
from scoring.scorers.forest.model import LOGISTIC, MEAN, Model, Node
from scoring.scorers.forest.scorer import ForestScorer

SEED = 1
# Shares of the transactions that a model is trained on and validated on; the rest measures it.
TRAINING, VALIDATION = 0.75, 0.125
# More transactions that are no frauds teach a model little; the others stand for those left out.
MAX_OTHERS = 160_000
# Part of the transactions that a model also learns from without their history. Otherwise, a missing history looks
# suspicious: of the payments in tests/data that are no frauds, 22% then reach HIGH, instead of 0.7%.
WITHOUT_HISTORY = 0.1
# Shares of the transactions that are no frauds, and may reach a level
BUDGETS = {"MEDIUM": 0.02, "HIGH": 0.005, "CRITICAL": 0.0005}
MIN_FRAUDS = 10

_FOREST = {"criterion": "entropy", "max_features": 0.5, "min_samples_leaf": 5}
_LIGHTGBM = {"learning_rate": 0.05, "num_leaves": 31, "min_child_samples": 20}
_SAMPLING = {"max_others": MAX_OTHERS, "without_history": WITHOUT_HISTORY}
_TOLERANCE = 1e-12


class Fitted(NamedTuple):
    """A model that a library has trained, as the layer's trees.

    Attributes
    ----------
    link
        Of :class:`~scoring.scorers.forest.model.Model`.
    trees, covers
        Roots of the trees, and covers of all leaves.
    library_model
        The library's own model.
    probabilities
        Returns the library's own probabilities for a matrix of rows.
    trainer
        Library, version and parameters, for people.
    """

    link: str
    trees: list[Node]
    covers: list[float]
    library_model: Any
    probabilities: Callable[[Any], Any]
    trainer: dict[str, Any]


class Trained(NamedTuple):
    """The result of a training: the file of the model, what the page about it shows, and what the library learned."""

    content: bytes
    card: model_card.Card
    fitted: Fitted


class Size(NamedTuple):
    """Maximum size of a model: the number of trees, and the depth of a tree of scikit-learn."""

    trees: int
    depth: int


SIZES = {"forest": Size(40, 11), "lightgbm": Size(300, 0)}


def fit_forest(rows: Any, labels: Any, weights: Any, size: Size) -> Fitted:
    """Train a random forest of scikit-learn."""
    import sklearn  # noqa: PLC0415  each trainer needs its own library only
    from sklearn.ensemble import RandomForestClassifier  # noqa: PLC0415

    forest = RandomForestClassifier(
        size.trees, max_depth=size.depth, random_state=SEED, n_jobs=os.cpu_count(), **_FOREST
    ).fit(rows, labels, sample_weight=weights)
    # The order in which threads add probabilities would change their last digits.
    forest.set_params(n_jobs=1)
    found = [trees.of_scikit_learn(estimator) for estimator in forest.estimators_]
    return Fitted(
        MEAN,
        [root for root, _ in found],
        [cover for _, covers in found for cover in covers],
        forest,
        lambda given: forest.predict_proba(given)[:, 1],
        {"library": f"scikit-learn {sklearn.__version__}", **size._asdict(), **_FOREST, "seed": SEED, **_SAMPLING},
    )


def fit_lightgbm(rows: Any, labels: Any, weights: Any, size: Size) -> Fitted:
    """Train boosted trees of LightGBM."""
    import lightgbm  # noqa: PLC0415  as above

    settings = {"objective": "binary", "seed": SEED, "deterministic": True, "force_row_wise": True, **_LIGHTGBM}
    data = lightgbm.Dataset(rows, labels, weight=weights, free_raw_data=False)
    quiet = {"verbosity": -1, "num_threads": os.cpu_count(), "use_missing": False}
    booster = lightgbm.train({**settings, **quiet}, data, size.trees)
    found = [trees.of_lightgbm(one["tree_structure"]) for one in booster.dump_model()["tree_info"]]
    return Fitted(
        LOGISTIC,
        [root for root, _ in found],
        [cover for _, covers in found for cover in covers],
        booster,
        booster.predict,
        {"library": f"LightGBM {lightgbm.__version__}", "trees": size.trees, **settings, **_SAMPLING},
    )


TRAINERS = {"forest": fit_forest, "lightgbm": fit_lightgbm}


class Split(NamedTuple):
    """The parts of the data, in the order of time."""

    training: range
    validation: range
    test: range


def split(data: Data) -> Split:
    """Split data by time.

    Raises
    ------
    FileError
        A part has too few frauds or other transactions.
    """
    first, second = int(len(data) * TRAINING), int(len(data) * (TRAINING + VALIDATION))
    parts = Split(range(first), range(first, second), range(second, len(data)))
    for name, part in parts._asdict().items():
        frauds = sum(data.labels[part.start : part.stop])
        others = len(part) - frauds
        if frauds < MIN_FRAUDS or others < MIN_FRAUDS:
            raise FileError(
                f"the {name} part has {frauds} frauds and {others} other transactions; "
                f"{MIN_FRAUDS} of each are needed at least"
            )
    return parts


def sample(data: Data, training: range) -> tuple[Any, Any]:
    """Return the indexes of the rows to train on, in order, and their weights, which restore the true proportion."""
    labels = np.frombuffer(data.labels, dtype=np.int8)[training.start : training.stop]
    frauds, others = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    kept = others
    if len(others) > MAX_OTHERS:
        kept = np.random.default_rng(SEED).choice(others, MAX_OTHERS, replace=False)
    indexes = np.sort(np.concatenate([frauds, kept]))
    return indexes, np.where(labels[indexes] == 1, 1.0, len(others) / len(kept))


def without_history(rows: Any, inputs: Inputs) -> Any:
    """Return rows whose history is missing, shape (n, columns)."""
    found = rows.copy()
    for column, owner in enumerate(inputs.owners):
        feature = inputs.features[owner]
        if isinstance(feature, Number) and "." in feature.fact:
            found[:, column] = feature.missing
    return found


def with_copies(rows: Any, labels: Any, weights: Any, inputs: Inputs) -> tuple[Any, Any, Any]:
    """Add copies without history, of all frauds and of a part of the others, to rows, labels and weights."""
    copied = without_history(rows, inputs)
    if np.array_equal(copied, rows):
        return rows, labels, weights
    chosen = (np.random.default_rng(SEED).random(len(rows)) < WITHOUT_HISTORY) | (labels == 1)
    # All frauds, since there are few, with the weight of a part of them
    of_copies = np.where(labels == 1, weights * WITHOUT_HISTORY, weights)
    return (
        np.concatenate([rows, copied[chosen]]),
        np.concatenate([labels, labels[chosen]]),
        np.concatenate([weights, of_copies[chosen]]),
    )


def thresholds(probabilities: Any, labels: Any) -> dict[str, float]:
    """Choose the lowest probability for each level with which its false positives stay within the budget.

    Raises
    ------
    FileError
        The probabilities are too few, or too equal, to tell the levels apart.
    """
    others = np.sort(probabilities[labels == 0])[::-1]
    found = {
        level: math.nextafter(float(others[int(len(others) * budget)]), math.inf) for level, budget in BUDGETS.items()
    }
    medium, high, critical = (found[level] for level in RISK_LEVELS[1:])
    if not 0 < medium < high < critical <= 1:
        raise FileError(
            f"the validation part cannot tell the levels apart: MEDIUM would begin at {medium:g}, HIGH at {high:g}, "
            f"CRITICAL at {critical:g}"
        )
    return found


def train(data: Data, rule_set_version: str, kind: str, size: Size) -> Trained:
    """Train a model.

    Parameters
    ----------
    data
        Labelled transactions.
    rule_set_version
        Version of the rule set that declared their fields.
    kind
        Key of :data:`TRAINERS`.
    size
        Size of the model.

    Raises
    ------
    FileError
        The data is not sufficient.
    """
    parts = split(data)
    features, left_out = data.features(parts.training)
    if not features:
        raise FileError("no field of the transactions can be a feature")
    inputs = Inputs(features)
    labels = np.frombuffer(data.labels, dtype=np.int8)

    def matrix(indexes: Sequence[int] | Any) -> Any:
        return np.fromiter(data.rows(inputs, indexes), dtype=(np.float64, len(inputs.names)), count=len(indexes))

    indexes, weights = sample(data, parts.training)
    _say(f"training on {len(indexes):,} of {len(parts.training):,} rows with {len(inputs.names)} columns")
    fitted = TRAINERS[kind](*with_copies(matrix(indexes), labels[indexes], weights, inputs), size)
    _say("measuring")
    validation, test = (
        Part(part, labels[part.start : part.stop], fitted.probabilities(rows), rows)
        for part in (parts.validation, parts.test)
        for rows in [matrix(part)]
    )
    gaps = without_history(test.rows, inputs)
    levels = thresholds(validation.probabilities, validation.labels)
    about = {
        "trained_with": fitted.trainer,
        "rule_set": rule_set_version,
        "data": {
            "sha256": data.sha256,
            **{name: _extent(data, part) for name, part in parts._asdict().items()},
        },
        "left_out": left_out,
        "test": measures(test),
        "test_without_history": measures(test._replace(probabilities=fitted.probabilities(gaps))),
        "validation": measures(validation),
    }
    model = Model(
        _version(kind, data, fitted),
        inputs,
        fitted.link,
        fitted.trees,
        tuple(fitted.covers),
        tuple([(rank, levels[RISK_LEVELS[rank]]) for rank in range(len(RISK_LEVELS) - 1, 0, -1)]),
        levels["HIGH"],
        about,
    )
    content = model_file.encode(model)
    _verify(content, validation)
    return Trained(content, model_card.Card(model, len(content), data, parts.training, validation, test), fitted)


def _extent(data: Data, part: range) -> dict[str, Any]:
    found: dict[str, Any] = {"rows": len(part), "frauds": sum(data.labels[part.start : part.stop])}
    if data.times:
        first, last = data.times[part.start], data.times[part.stop - 1]
        found |= {"from": _date(first), "to": _date(last)}
    return found


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def _version(kind: str, data: Data, fitted: Fitted) -> str:
    """Return a name that says what and when, from the newest transaction, and changes with the trees."""
    digest = hashlib.sha256(repr((fitted.trees, fitted.covers, data.sha256)).encode()).hexdigest()[:8]
    date = _date(data.times[-1]).replace("-", "") if data.times else "undated"
    return f"{kind}-{date}-{digest}"


def _verify(content: bytes, part: Part) -> None:
    """Check that the service computes the library's probabilities; raise AssertionError if not."""
    model = model_file.from_bytes(content)
    for row, expected in zip(part.rows.tolist(), part.probabilities, strict=True):
        served = model.probability(row)
        if abs(served - expected) > _TOLERANCE:
            raise AssertionError(f"the service computes {served} for {row}, the library {expected}")


def write(path: Path, content: bytes) -> None:
    """Write a file at once, so that nothing reads half of it.

    Raises
    ------
    OSError
        It cannot be written.
    """
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        file.write(content)
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _size(kind: str, number: int | None, depth: int | None) -> Size:
    default = SIZES[kind]
    return Size(number or default.trees, depth or default.depth)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, metavar="DATA", help=labelled.ACCEPTED)
    parser.add_argument("out", type=Path, metavar="OUT", help="model file to write; the page gets the suffix .html")
    parser.add_argument("--model", choices=TRAINERS, default="forest", help="default: forest")
    parser.add_argument("--rules", default=scorers.RULES_FILE, metavar="FILE", help="default: the shipped rule set")
    parser.add_argument("--label", default="is_fraud", metavar="FIELD", help="default: is_fraud")
    parser.add_argument("--columns", type=labelled.columns, default={}, metavar="COLUMN=FIELD", help="for Parquet only")
    parser.add_argument("--trees", type=int, help="default: 40, for lightgbm 300")
    parser.add_argument("--depth", type=int, help="of a tree of the forest; default: 11")
    options = parser.parse_args(arguments)
    try:
        rule_set = rules_loader.from_file(options.rules)
        data = training_data.read(options.data, rule_set, options.label, options.columns)
        for note in data.notes:
            _say(note)
        size = _size(options.model, options.trees, options.depth)
        content, card, _ = train(data, rule_set.version, options.model, size)
        ForestScorer(rule_set, card.model)
        write(options.out, content)
        model_card.write(options.out.with_suffix(".html"), card)
        for line in model_card.lines(card):
            print(line)
        print(f"wrote {options.out} and {options.out.with_suffix('.html')}")
    except (ConfigurationError, FileError) as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename or options.out} cannot be written: {error.strerror}")
    except KeyboardInterrupt:
        sys.exit("error: interrupted")


if __name__ == "__main__":
    main()
