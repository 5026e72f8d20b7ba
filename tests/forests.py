"""Models for tests: of nested tuples, random ones, and a small one that fits the tests' and the shipped rule set.

A tree is written as the layer keeps it, but with covers: a leaf is ``(value, cover)``, a split ``(column, threshold,
left, right)``.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any, TypeAlias

from hypothesis import strategies as st

from scoring.assessment import RISK_LEVELS
from scoring.decision import assess
from scoring.lookups import enriched
from scoring.scorers.forest import model_file
from scoring.scorers.forest.inputs import Category, Inputs, Number
from scoring.scorers.forest.model import LOGISTIC, MEAN, Model, Node
from scoring.scorers.forest.scorer import ForestScorer

Tree: TypeAlias = "tuple[float, float] | tuple[int, float, Tree, Tree]"

VERSION = "2.0-tests"
# Numbers that thresholds and rows have in common, so that ties are frequent.
GRID = (-1.0, 0.0, 0.5, 1.0, 2.0)


def numbers(count: int) -> list[Number]:
    """Return features of one column each: x0, x1 and so on; a missing one is 0."""
    return [Number(f"x{index}", 0.0) for index in range(count)]


def model(
    *trees: Tree,
    features: Sequence[Number | Category] | None = None,
    link: str = MEAN,
    levels: tuple[float, float, float] = (0.1, 0.35, 0.7),
    version: str = VERSION,
    about: Mapping[str, Any] | None = None,
) -> Model:
    """Return a model.

    Parameters
    ----------
    trees
        At least one.
    features
        By default as many of :func:`numbers` as the trees need.
    levels
        Thresholds of MEDIUM, HIGH and CRITICAL.
    """
    if features is None:
        features = numbers(1 + max([column for tree in trees for column in _columns(tree)], default=0))
    return Model(
        version,
        Inputs(features),
        link,
        [_node(tree) for tree in trees],
        tuple([cover for tree in trees for cover in _covers(tree)]),
        tuple([(rank, levels[rank - 1]) for rank in range(len(RISK_LEVELS) - 1, 0, -1)]),
        levels[1],
        about or {},
    )


def write(path: Path, written: Model | None = None) -> Path:
    """Write a model, by default :data:`SMALL`, to a file, and return its path."""
    path.write_bytes(model_file.encode(written or SMALL))
    return path


def decide_again(scorer: ForestScorer, transaction: Any, decision: Mapping[str, Any]) -> dict[str, Any]:
    """Return the response of a model to a transaction with the id, time and history of a decision."""
    history = {"history": decision["history"]} if "history" in decision else {}
    read = enriched(scorer.fields.read(transaction), decision.get("history", {}), {})
    time = datetime.fromisoformat(decision["evaluated_at"])
    return {**assess(read, decision["decision_id"], scorer, time), **history}


def output(walked: Model, row: Sequence[float]) -> float:
    """Return the mean or sum of the leaves that a row reaches: the probability or the log-odds."""
    leaves: list[float] = []
    for node in walked.trees:
        while isinstance(node, tuple):
            column, threshold, left, right = node
            node = left if row[column] <= threshold else right  # noqa: PLW2901  descends the tree
        leaves.append(node)
    return math.fsum(leaves) / (len(leaves) if walked.link == MEAN else 1)


def random_tree(random: Random, columns: int, splits: int, link: str = MEAN) -> Tree:
    """Return a tree of this many splits; a third of its leaves are 0, and columns repeat on paths."""
    if not splits:
        lowest = -3.0 if link == LOGISTIC else 0.0
        return random.choice([0.0, random.uniform(lowest, 1), random.uniform(lowest, 1)]), random.randint(1, 1000) / 4
    left = random.randrange(splits)
    return (
        random.randrange(columns),
        random.choice(GRID),
        random_tree(random, columns, left, link),
        random_tree(random, columns, splits - 1 - left, link),
    )


@st.composite
def random_models(draw: st.DrawFn, columns: int = 4, max_splits: int = 10) -> Model:
    """Draw a model with :func:`numbers`, of either link, with one to three trees; some are a single leaf."""
    link = draw(st.sampled_from([MEAN, LOGISTIC]))
    splits = draw(st.lists(st.integers(0, max_splits), min_size=1, max_size=3))
    random = Random(draw(st.integers(0, 2**32)))
    return model(*[random_tree(random, columns, one, link) for one in splits], features=numbers(columns), link=link)


def random_rows(columns: int) -> st.SearchStrategy[list[float]]:
    """Return a strategy of rows, whose numbers often equal a threshold."""
    return st.lists(st.sampled_from(GRID) | st.floats(-3, 3), min_size=columns, max_size=columns)


def _node(tree: Tree) -> Node:
    if len(tree) == 2:
        return tree[0]
    column, threshold, left, right = tree
    return column, threshold, _node(left), _node(right)


def _columns(tree: Tree) -> Iterator[int]:
    if len(tree) == 4:
        yield tree[0]
        yield from _columns(tree[2])
        yield from _columns(tree[3])


def _covers(tree: Tree) -> Iterator[float]:
    if len(tree) == 2:
        yield tree[1]
    else:
        yield from _covers(tree[2])
        yield from _covers(tree[3])


_AMOUNT, _HOUR, _COUNT, _ELECTRONICS = 0, 1, 2, 3
SMALL = model(
    (_AMOUNT, 1000.0, (0.05, 90.0), (_COUNT, 3.0, (0.5, 8.0), (0.95, 2.0))),
    (_HOUR, 5.0, (0.4, 10.0), (0.1, 90.0)),
    (_ELECTRONICS, 0.5, (0.0, 80.0), (_AMOUNT, 500.0, (0.15, 15.0), (0.9, 5.0))),
    features=[
        Number("amount", 0.0),
        Number("hour", 12.0),
        Number("customer.count_1h", 0.0),
        Category("category", ("electronics", "grocery")),
    ],
    about={"trained": "by hand"},
)
"""Its probability is at least 0.05: an amount up to 1000, at noon, in any category but electronics."""
