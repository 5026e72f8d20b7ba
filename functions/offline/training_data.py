"""Read labelled transactions for training, with their histories, in the order of time.

Fields, histories and rows of numbers come from the code of the service, so a model sees the same in training and in
service.
"""

import hashlib
import math
import sys
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from events.rows import FileError, Row
from functions.offline.labelled import Source
from scoring import http_api
from scoring.errors import HttpError
from scoring.history import FEATURES
from scoring.lookups import Known, enriched, observed
from scoring.scorers.forest.inputs import Category, Inputs, Number
from scoring.scorers.rules import RuleSet
from scoring.transaction import Transaction

if TYPE_CHECKING:
    from datetime import datetime

T = TypeVar("T")

# One-hot columns of a string field, for its commonest values
MAX_VALUES = 20
# A string field is left out if its commonest values have a smaller share of the rows: it would say little.
MIN_SHARE = 0.5

_SHOWN_INVALID = 5
_PROGRESS_SECONDS = 2
_NUMBERS = ("number", "integer", "boolean")
_NO_VALUE = -1
# Ids of the built-in fields, which a model would only learn by heart
_IDS = ("tx_id", "customer_id")


class Data:
    """Labelled transactions, column by column, in the order of time.

    Attributes
    ----------
    labels
        1 for a fraud, else 0.
    times
        Seconds since 1970; empty if the transactions have none.
    scores
        The scores that the rule set gives.
    notes
        What to tell the user: rows left out, order.
    sha256
        Of the content of the file.
    """

    def __init__(self, rule_set: RuleSet) -> None:
        types = {field.name: field.type for field in rule_set.fields.declared}
        ids = {*_IDS, *(history.by for history in rule_set.histories)}
        self._numbers = {name: array("d") for name, kind in types.items() if kind in _NUMBERS}
        for history in rule_set.histories:
            self._numbers.update({f"{history.name}.{feature}": array("d") for feature in FEATURES})
        self._texts = {name: array("l") for name, kind in types.items() if kind == "string" and name not in ids}
        self._codes: dict[str, dict[str, int]] = {name: {} for name in self._texts}
        self.labels = array("b")
        self.times = array("d")
        self.scores = array("l")
        self._rule_set = rule_set
        self.notes: list[str] = []
        self.sha256 = ""

    def __len__(self) -> int:
        return len(self.labels)

    def add(self, transaction: Transaction, *, is_fraud: bool) -> None:
        """Add a transaction with its history."""
        facts = transaction.facts
        for name, numbers in self._numbers.items():
            value = facts.get(name)
            numbers.append(math.nan if value is None else float(value))
        for name, codes in self._texts.items():
            value = facts.get(name)
            known = self._codes[name]
            codes.append(_NO_VALUE if value is None else known.setdefault(value, len(known)))
        self.labels.append(is_fraud)
        self.scores.append(self._rule_set.assess(transaction).score)
        if "timestamp" in facts:
            self.times.append(facts["timestamp"].timestamp())

    def features(self, training: range) -> tuple[list[Number | Category], list[str]]:
        """Choose the features of a model by the rows of the training part.

        Returns
        -------
        tuple
            The features, and a line for each field that is left out.
        """
        features: list[Number | Category] = []
        left_out = []
        for name, numbers in self._numbers.items():
            known = [value for value in numbers[training.start : training.stop] if not math.isnan(value)]
            if not known or min(known) == max(known):
                left_out.append(f"{name}: no transaction has it" if not known else f"{name}: always {known[0]:g}")
            else:
                # Below all others, so that a split can tell it apart.
                features.append(Number(name, min(known) - 1))
        for name, codes in self._texts.items():
            counts = Counter(codes[training.start : training.stop])
            counts.pop(_NO_VALUE, None)
            values = list(self._codes[name])
            common = [(values[code], count) for code, count in counts.most_common(MAX_VALUES)]
            share = sum(count for _, count in common) / len(training)
            if share < MIN_SHARE:
                left_out.append(
                    f"{name}: its {len(common)} commonest values are in {share:.0%} of the transactions only"
                )
            elif len(common) > 1:
                features.append(Category(name, tuple(sorted(value for value, _ in common))))
        return features, left_out

    def rows(self, inputs: Inputs, indexes: Iterable[int]) -> Iterator[list[float]]:
        """Yield the row of numbers of each of these transactions."""
        names = {feature.fact for feature in inputs.features}
        numbers = [(name, values) for name, values in self._numbers.items() if name in names]
        texts = [(name, list(self._codes[name]), codes) for name, codes in self._texts.items() if name in names]
        for index in indexes:
            facts: dict[str, Any] = {name: value for name, values in numbers if not math.isnan(value := values[index])}
            facts.update({name: known[code] for name, known, codes in texts if (code := codes[index]) != _NO_VALUE})
            yield inputs.row(facts)


class _Labelled(NamedTuple):
    """A valid transaction and its label."""

    transaction: Transaction
    is_fraud: bool


class _NotInOrderError(Exception):
    """A transaction is earlier than the one before it."""


class _Source:
    """The valid transactions of a file, in the order of the file; ``problems`` says why others are invalid."""

    def __init__(self, path: Path, rule_set: RuleSet, label: str, columns: Mapping[str, str]) -> None:
        self._source = Source(path, columns)
        self._rule_set = rule_set
        self._label = label
        self.problems: list[str] = []

    def __iter__(self) -> Iterator[_Labelled]:
        self.problems = []
        types = {field.name: field.type for field in self._rule_set.fields.declared}
        for row in _progress(self._source.rows(types)):
            transaction = _transaction(row, self._rule_set, self._label)
            if isinstance(transaction, str):
                self.problems.append(f"line {row.line}: {transaction}")
            else:
                yield _Labelled(transaction, self._source.is_fraud(row, self._label))


def read(path: Path, rule_set: RuleSet, label: str, columns: Mapping[str, str]) -> Data:
    """Read a file. Invalid rows are left out, and noted.

    Parameters
    ----------
    path
        JSON Lines, a JSON array, CSV or Parquet, with the fields of the rule set.
    rule_set
        Declares the fields and histories.
    label
        Field or column that is 1 or true for a fraud, and 0 or false for others.
    columns
        For Parquet, the field for each column that has another name.

    Raises
    ------
    FileError
        The file cannot be read, has no transaction, or one without a valid label; or only some transactions have a
        timestamp.
    """
    if label in {field.name for field in rule_set.fields.declared}:
        raise FileError(f"{label!r} is a field of rule set {rule_set.version!r}, so it cannot be the label")
    source = _Source(path, rule_set, label, columns)
    data = Data(rule_set)
    try:
        _add(data, source, rule_set)
    except _NotInOrderError:
        data = Data(rule_set)
        _add(data, sorted(source, key=_time), rule_set)
        data.notes.append("the file is not in the order of time, and was sorted")
    if not data:
        raise FileError(f"{path} contains no valid transaction{': ' + source.problems[0] if source.problems else ''}")
    data.sha256 = _sha256(path)
    if not data.times:
        data.notes.append("no timestamps: the order is that of the file, and there is no history")
    elif len(data.times) < len(data):
        raise FileError(f"{path}: only {len(data.times)} of {len(data)} transactions have a 'timestamp'; all need one")
    if source.problems:
        shown = "; ".join(source.problems[:_SHOWN_INVALID]) + ("; ..." if len(source.problems) > _SHOWN_INVALID else "")
        data.notes.append(f"{len(source.problems)} invalid rows left out: {shown}")
    return data


def _transaction(row: Row, rule_set: RuleSet, label: str) -> Transaction | str:
    """Return the transaction in a row, or why the service would refuse it."""
    if row.problem:
        return row.problem
    try:
        document = http_api.document(row.body)
        if isinstance(document, dict):
            document.pop(label, None)
        return rule_set.fields.read(document)
    except HttpError as error:
        return str(error)


def _time(labelled: _Labelled) -> float:
    time: datetime | None = labelled.transaction.facts.get("timestamp")
    return time.timestamp() if time else -math.inf


def _add(data: Data, found: Iterable[_Labelled], rule_set: RuleSet) -> None:
    """Add transactions with the histories that the service would have given them.

    Raises
    ------
    _NotInOrderError
        They are not in the order of time.
    """
    known = Known({}, frozenset())
    latest = -math.inf
    for one in found:
        transaction, time = one.transaction, _time(one)
        if time < latest:
            raise _NotInOrderError
        latest = time
        histories = [history for history in rule_set.histories if history.by in transaction.values]
        if "timestamp" in transaction.facts and histories:
            features = known.observe(observed(histories, transaction, transaction.facts["timestamp"]))
            by_name = {history.name: of_one for history, of_one in zip(histories, features, strict=True)}
            transaction = enriched(transaction, by_name, {})
        data.add(transaction, is_fraud=one.is_fraud)


def _progress(items: Iterable[T]) -> Iterator[T]:
    """Yield items, and say on standard error how many there were."""
    start = shown = monotonic()
    for number, item in enumerate(items, start=1):
        yield item
        if number % 1_000 == 0 and monotonic() - shown > _PROGRESS_SECONDS:
            shown = monotonic()
            print(f"{number:,} rows read, {number / (shown - start):,.0f} per second", file=sys.stderr)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
