"""The model card: a page, and lines for the terminal, that say what a model is and how good it is."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from sklearn import metrics

from functions.offline import page
from functions.offline.measures import Part, measures
from functions.offline.training_data import Data
from scoring.assessment import RISK_LEVELS
from scoring.scorers.forest.inputs import Number
from scoring.scorers.forest.model import LOGISTIC, Model
from scoring.scorers.forest.shapley import Explainer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Frauds of the test part whose contributions are averaged
EXPLAINED = 60
_BINS = 10
_MODEL, _RULES, _GREY = "#1f5fa8", "#c8553d", "#888888"


class Card(NamedTuple):
    """Content of the page.

    Attributes
    ----------
    model
        The model.
    size
        Of its file, in bytes.
    data
        What it was trained, validated and tested on.
    training
        The part of the data that it was trained on.
    validation, test
        The later parts, which the model has not seen.
    """

    model: Model
    size: int
    data: Data
    training: range
    validation: Part
    test: Part


def lines(card: Card) -> Iterator[str]:
    """Yield the report for the terminal."""
    model, about = card.model, card.model.about
    nodes = 2 * len(model.covers) - len(model.trees)
    yield f"{model.version}: {len(model.trees)} trees, {nodes:,} nodes, {card.size:,} bytes"
    for name in ("training", "validation", "test"):
        part = about["data"][name]
        dates = f", {part['from']} to {part['to']}" if "from" in part else ""
        yield f"{name}: {part['rows']:,} rows, {part['frauds']:,} frauds{dates}"
    yield f"features: {', '.join(feature.fact for feature in model.inputs.features)}"
    for reason in about["left_out"]:
        yield f"left out: {reason}"
    yield from (f"{name.replace('_', ' ')}: {value:.4f}" for name, value in about["test"].items())
    precision = about["test_without_history"]["average_precision"]
    yield f"average precision if the history is missing: {precision:.4f}"
    yield f"average precision of the rules: {_rules_precision(card):.4f}"
    for row in _levels(card):
        yield "  ".join(f"{cell:>10}" for cell in row)


def write(path: Path, card: Card) -> None:
    """Write the page."""
    model, about = card.model, card.model.about
    page.write(
        path,
        f"Model {model.version}",
        [
            ("", page.paragraph(_INTRODUCTION)),
            (
                "Precision and recall",
                page.plot(_precision_recall(card), "Precision by recall, of the model and the rules"),
            ),
            ("Levels on the test part", page.table(_levels(card)[0], _levels(card)[1:])),
            ("Measures", page.table(["measure", "validation", "test", "test without history"], _measures(about))),
            ("Probabilities", page.plot(_scores(card), "Histogram of the probabilities of frauds and others")),
            ("Calibration", page.plot(_calibration(card), "Proportion of frauds by mean probability")),
            ("Recall by month", page.plot(_months(card), "Recall at HIGH or above, by month")),
            ("What drives the probability of frauds", page.plot(_importance(card), "Mean absolute contributions")),
            ("Features", page.table(["feature", "columns", "if missing"], _features(model))),
            ("Left out", page.table(["field"], [[reason] for reason in about["left_out"]])),
            ("Data", page.table(["part", "rows", "frauds", "from", "to"], _parts(about["data"]))),
            ("Training", page.table(["setting", "value"], _settings(card))),
        ],
    )


_INTRODUCTION = (
    "The model was trained on the oldest transactions of the data. The thresholds of its levels were chosen on the "
    "validation part, and all results are from the test part, the newest transactions. They say how well the model "
    "does on this data. It knows nothing that the data does not contain: larger amounts, other categories, new "
    "patterns of fraud. The rules stay in force as a floor."
)


def _levels(card: Card) -> list[list[str]]:
    """Return a table of the levels, with a header."""
    labels, probabilities = card.test.labels, card.test.probabilities
    rows = [["level", "from", "flagged", "frauds", "precision", "recall", "false pos."]]
    for rank, minimum in card.model.levels:
        flagged = probabilities >= minimum
        hits = int(labels[flagged].sum())
        precision = f"{hits / flagged.sum():.1%}" if flagged.any() else "-"
        wrong = (int(flagged.sum()) - hits) / int((labels == 0).sum())
        found = [f"{minimum:.4f}", f"{flagged.sum():,}", f"{hits:,}", precision]
        rows.append([RISK_LEVELS[rank], *found, f"{hits / labels.sum():.1%}", f"{wrong:.3%}"])
    return rows


def _measures(about: Any) -> list[list[str]]:
    return [
        [
            name.replace("_", " "),
            *(f"{about[part][name]:.4f}" for part in ("validation", "test", "test_without_history")),
        ]
        for name in about["test"]
    ]


def _features(model: Model) -> list[list[Any]]:
    return [
        [feature.fact, 1, f"{feature.missing:g}"]
        if isinstance(feature, Number)
        else [feature.fact, f"{len(feature.values)}: {', '.join(feature.values)}", "all 0"]
        for feature in model.inputs.features
    ]


def _parts(data: Any) -> list[list[str]]:
    found = []
    for name in ("training", "validation", "test"):
        part = data[name]
        found.append([name, f"{part['rows']:,}", f"{part['frauds']:,}", part.get("from", "-"), part.get("to", "-")])
    return found


def _settings(card: Card) -> list[list[Any]]:
    about = card.model.about
    return [
        *(list(item) for item in about["trained_with"].items()),
        ["rule set", about["rule_set"]],
        ["size in bytes", f"{card.size:,}"],
        ["SHA-256 of the data", about["data"]["sha256"]],
    ]


def _rules_precision(card: Card) -> float:
    return measures(card.test._replace(probabilities=_rule_scores(card)))["average_precision"]


def _rule_scores(card: Card) -> Any:
    part = card.test.indexes
    return np.array(card.data.scores[part.start : part.stop], dtype=np.float64)


def _axes(title: str, x: str, y: str) -> "tuple[Figure, Any]":
    from matplotlib.figure import Figure  # noqa: PLC0415  a second to import, for pages only

    figure = Figure(figsize=(7, 4))
    axes = figure.subplots()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _precision_recall(card: Card) -> "Figure":
    figure, axes = _axes("Test part", "recall", "precision")
    for name, scores, color in (
        ("model", card.test.probabilities, _MODEL),
        (f"rules {card.model.about['rule_set']}", _rule_scores(card), _RULES),
    ):
        precision, recall, _ = metrics.precision_recall_curve(card.test.labels, scores)
        average = metrics.average_precision_score(card.test.labels, scores)
        axes.step(recall, precision, where="post", color=color, label=f"{name}: average precision {average:.3f}")
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(loc="lower left")
    return figure


def _scores(card: Card) -> "Figure":
    figure, axes = _axes("Test part", "probability", "transactions")
    bins = np.linspace(0, 1, 41)
    for name, label, color in (("others", 0, _GREY), ("frauds", 1, _RULES)):
        axes.hist(card.test.probabilities[card.test.labels == label], bins, color=color, alpha=0.7, label=name)
    for rank, minimum in card.model.levels:
        axes.axvline(minimum, color=_MODEL, linewidth=1)
        axes.text(minimum, axes.get_ylim()[1], RISK_LEVELS[rank], rotation=90, va="top", ha="right", fontsize=8)
    axes.set_yscale("log")
    axes.legend()
    return figure


def _calibration(card: Card) -> "Figure":
    """Compare probabilities with frequencies, in bins with equally many frauds."""
    figure, axes = _axes("Test part: on the line, the probability is right", "mean probability", "proportion of frauds")
    labels, probabilities = card.test.labels, card.test.probabilities
    edges = np.unique(np.quantile(probabilities[labels == 1], np.linspace(0, 1, _BINS + 1)))
    bins = np.digitize(probabilities, edges[1:-1])
    means = [(probabilities[bins == one].mean(), labels[bins == one].mean()) for one in np.unique(bins)]
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=1)
    axes.plot(*zip(*means, strict=True), marker="o", color=_MODEL)
    return figure


def _months(card: Card) -> "Figure":
    figure, axes = _axes("Validation and test part, HIGH or above", "month", "recall")
    found, caught = Counter[str](), Counter[str]()
    for part in (card.validation, card.test):
        for index, label, probability in zip(part.indexes, part.labels, part.probabilities, strict=True):
            if label and card.data.times:
                month = datetime.fromtimestamp(card.data.times[index], UTC).strftime("%Y-%m")
                found[month] += 1
                caught[month] += bool(probability >= card.model.fraud_threshold)
    months = sorted(found)
    bars = axes.bar(months, [caught[month] / found[month] for month in months], color=_MODEL)
    axes.bar_label(bars, [f"{caught[month]} of {found[month]}" for month in months], fontsize=8)
    axes.set_ylim(0, 1.1)
    return figure


def _importance(card: Card) -> "Figure":
    """Show the mean absolute contribution of each feature to the probabilities of some frauds."""
    unit = "log-odds" if card.model.link == LOGISTIC else "probability"
    figure, axes = _axes("Frauds of the test part", f"mean absolute contribution to the {unit}", "")
    frauds = np.flatnonzero(card.test.labels == 1)
    chosen = frauds[:: max(1, len(frauds) // EXPLAINED)][:EXPLAINED]
    inputs, explainer = card.model.inputs, Explainer(card.model)
    totals = np.zeros(len(inputs.features))
    for row in card.test.rows[chosen].tolist():
        sums = np.zeros(len(inputs.features))
        np.add.at(sums, list(inputs.owners), explainer.contributions(row))
        totals += np.abs(sums)
    order = np.argsort(totals)
    axes.barh([inputs.features[at].fact for at in order], totals[order] / len(chosen), color=_MODEL)
    return figure
