"""Replay transactions through scorers with the code of the service, on several processes.

The history of a transaction is computed if a rule or a model reads it, from the valid transactions before it in the
same file, at the times in their field ``timestamp``. Lists are not read, so neither ``in list`` nor ``not in list``
holds.
"""

import itertools
import json
import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, TypeAlias

from events import rows
from events.rows import Row
from functions.offline.tally import INVALID, MAX_CHANGES, Outcome, ScorerTally, Tally
from scoring import http_api
from scoring.assessment import Assessment
from scoring.errors import HttpError, InvalidRequest
from scoring.history import History
from scoring.lookups import Known, enriched, observed
from scoring.scorers.forest.scorer import ForestScorer
from scoring.scorers.rules import Condition, RuleSet
from scoring.transaction import UNKNOWN_TX_ID, Transaction

CHUNK_ROWS = 500

_INVALID: Outcome = (INVALID, ())


class ReplayError(Exception):
    """A process has ended; the user reads the message."""


class Refused(NamedTuple):
    """A row that cannot be sent, and why."""

    problem: str


# Concrete types, since a Scorer does not say which of its histories it reads
AnyScorer: TypeAlias = RuleSet | ForestScorer
# What a row contains: the decoded document, JSON text to decode, or nothing that can be sent.
Content: TypeAlias = "dict[str, Any] | str | Refused"
# Line, label, and the content for each different declaration of fields
Sent: TypeAlias = "tuple[int, bool, tuple[Content, ...]]"


class Reader:
    """Reads transactions and adds their histories, for scorers that declare the same fields and histories.

    Parameters
    ----------
    scorers
        The scorers.
    label
        Name of the field to remove; may be empty.
    """

    def __init__(self, scorers: Sequence[AnyScorer], label: str) -> None:
        self._fields = scorers[0].fields
        self._histories = tuple(dict.fromkeys(itertools.chain(*map(read_histories, scorers))))
        self._labels = {label, rows.normal_name(label)}
        self._known = Known({}, frozenset())
        self.without_time = 0

    def read(self, content: Content) -> Transaction:
        """Return the transaction in the content of a row, with its history.

        Raises
        ------
        HttpError
            The service would refuse the row.
        """
        if isinstance(content, dict):
            try:
                return self._with_history(self._fields.read(content))
            except InvalidRequest:
                # Decoded from text, it can have another problem: JSON has no infinity.
                content = json.dumps(content)
        elif isinstance(content, Refused):
            raise InvalidRequest(content.problem)
        document = http_api.document(content)
        if isinstance(document, dict):
            for label in self._labels:
                document.pop(label, None)
        return self._with_history(self._fields.read(document))

    def _with_history(self, transaction: Transaction) -> Transaction:
        """Add the transaction to its profiles, and return it with its history."""
        if not self._histories:
            return transaction
        values = transaction.values
        histories = [history for history in self._histories if history.by in values]
        if not histories:
            return transaction
        if "timestamp" not in values:
            self.without_time += 1
            return transaction
        found = self._known.observe(observed(histories, transaction, transaction.facts["timestamp"]))
        return enriched(transaction, {one.name: features for one, features in zip(histories, found, strict=True)}, {})


class Replay:
    """Decides the transactions of a file, or those of some values of the field that history is kept by.

    Parameters
    ----------
    scorers
        One scorer, or the present one and a candidate.
    label
        Name of the field that says whether a transaction is a fraud; empty if that is not known.
    """

    def __init__(self, scorers: Sequence[AnyScorer], label: str) -> None:
        self.tally = Tally(len(scorers))
        self._label = label
        self._readers: list[tuple[int, Reader, list[tuple[AnyScorer, ScorerTally]]]] = []
        tallies = iter(self.tally.scorers)
        for at, group in enumerate(_groups(scorers)):
            self._readers.append((at, Reader(group, label), [(scorer, next(tallies)) for scorer in group]))

    def add(self, sent: Sequence[Sent]) -> None:
        """Decide the next transactions."""
        # Scorers that declare the same types of fields have the same content. All rows are read first: a model
        # of some megabytes then stays in the processor's cache while it decides them.
        read = [
            [_read(reader, contents[at % len(contents)]) for at, reader, _ in self._readers] for *_, contents in sent
        ]
        for (line, is_fraud, _), transactions in zip(sent, read, strict=True):
            self._decide(line, transactions, is_fraud=is_fraud)
        self.tally.fold()

    def _decide(self, line: int, transactions: Sequence[Transaction | HttpError], *, is_fraud: bool) -> None:
        """Decide one transaction, which each reader has read or refused."""
        tally = self.tally
        transaction = None
        found: list[Assessment | str] = []
        outcomes: list[Outcome] = []
        for one, (_, _, scorers) in zip(transactions, self._readers, strict=True):
            if isinstance(one, HttpError):
                for _, of_scorer in scorers:
                    of_scorer.add_error(line, str(one))
                    found.append(str(one))
                    outcomes.append(_INVALID)
                continue
            transaction = one
            for scorer, of_scorer in scorers:
                assessment = scorer.assess(transaction)
                found.append(assessment)
                outcomes.append((assessment.risk_level, assessment.triggered_rules))
                if transaction.unknown:
                    of_scorer.add_unknown(transaction.unknown)
                if assessment.details:
                    of_scorer.add_probability(assessment.details["fraud_probability"], is_fraud=is_fraud)
        amount = transaction.values["amount"] if transaction else 0
        tally.add(tuple(outcomes), amount, is_fraud=is_fraud)
        if outcomes[0][0] != outcomes[-1][0] and len(tally.changes) < MAX_CHANGES:
            tx_id = transaction.values.get("tx_id", UNKNOWN_TX_ID) if transaction else UNKNOWN_TX_ID
            change = {"line": line, "tx_id": tx_id, "amount": amount}
            if self._label:
                change["fraud"] = is_fraud
            tally.changes.append(change | {"present": _shown(found[0]), "candidate": _shown(found[1])})

    def finish(self) -> Tally:
        """Return the tally."""
        for _, reader, scorers in self._readers:
            for _, of_scorer in scorers:
                of_scorer.without_time = reader.without_time
        return self.tally


def _read(reader: Reader, content: Content) -> Transaction | HttpError:
    """Return the transaction in a row, or the error of one that the service would refuse."""
    try:
        return reader.read(content)
    except HttpError as error:
        return error


def read_histories(scorer: AnyScorer) -> list[History]:
    """Return the histories that the enabled rules or the model read, in the order of their declaration."""
    if isinstance(scorer, ForestScorer):
        rules = scorer.rules
        names = {feature.fact for feature in scorer.model.inputs.features}
    else:
        rules, names = scorer, set()
    for rule in rules.rules:
        names.update(_names(rule.conditions))
    return [one for one in rules.histories if any(name.startswith(f"{one.name}.") for name in names)]


def _names(conditions: Iterable[Condition]) -> Iterator[str]:
    """Yield the names of the fields that conditions read, also in groups."""
    for condition in conditions:
        yield from condition.fields
        yield from _names(condition.parts)


def _groups(scorers: Sequence[AnyScorer]) -> list[list[AnyScorer]]:
    """Return scorers that declare the same fields and histories together."""
    declared = [
        repr((one.fields.declared, one.fields.defaults, one.fields.refuse_unknown, one.histories)) for one in scorers
    ]
    return [list(scorers)] if len(set(declared)) == 1 else [[one] for one in scorers]


def _shown(found: Assessment | str) -> dict[str, Any]:
    if isinstance(found, str):
        return {"level": INVALID, "error": found}
    shown = {"level": found.risk_level, "score": found.score, "rules": list(found.triggered_rules)}
    probability = found.details.get("fraud_probability")
    return shown if probability is None else {**shown, "fraud_probability": probability}


def content(row: Row) -> Content:
    """Return what a row contains."""
    if row.problem:
        return Refused(row.problem)
    return row.document or row.body


def sent(rows_of: tuple[Row, ...], *, is_fraud: bool) -> Sent:
    """Return what a :class:`Replay` needs of a row, which is read once for each different declaration of types."""
    return rows_of[0].line, is_fraud, tuple([content(row) for row in rows_of])


def router(scorers: Sequence[AnyScorer], first: Row, jobs: int) -> tuple[int, Callable[[Row], int]]:
    """Return a number of parts that can be decided independently, and a function that returns the part of a row.

    Rows that share a profile are in one part. If profiles are kept by several fields, there is only one.

    Parameters
    ----------
    scorers
        The scorers.
    first
        The first row of the file.
    jobs
        Maximum number of parts.
    """
    by = {history.by for one in scorers for history in read_histories(one) if first.can_have(history.by)}
    types = {field.type for one in scorers for field in one.fields.declared if field.name in by}
    if not by:
        return jobs, lambda row: row.line // CHUNK_ROWS % jobs
    if len(by) > 1 or len(types) > 1:
        return 1, lambda _: 0
    [name] = by

    def part(row: Row) -> int:
        value = row.sent(name)
        # Any other value is invalid. Some fields ignore case.
        return hash(str(value).casefold()) % jobs if isinstance(value, str | int) else row.line % jobs

    return jobs, part


def replay(
    scorers: Sequence[AnyScorer], label: str, transactions: Iterator[tuple[tuple[Row, ...], bool]], jobs: int
) -> Tally:
    """Decide the transactions of a file.

    Parameters
    ----------
    scorers, label
        As for :class:`Replay`.
    transactions
        The rows, each as :func:`sent` takes it, and whether it is a fraud.
    jobs
        Number of processes that decide; with 1, this one does.

    Raises
    ------
    ReplayError
        A process has ended early.
    """
    first = next(transactions, None)
    if first is None:
        return Tally(len(scorers))
    parts, part = router(scorers, first[0][0], jobs)
    with _deciders(scorers, label, parts if jobs > 1 else 0) as deciders:
        chunks: list[list[Sent]] = [[] for _ in deciders]
        for found, is_fraud in itertools.chain([first], transactions):
            index = part(found[0])
            chunk = chunks[index]
            chunk.append(sent(found, is_fraud=is_fraud))
            if len(chunk) == CHUNK_ROWS:
                deciders[index].add(chunk)
                chunks[index] = []
        for decider, chunk in zip(deciders, chunks, strict=True):
            if chunk:
                decider.add(chunk)
        tally, *others = [decider.finish() for decider in deciders]
    for other in others:
        tally.merge(other)
    return tally


class _Process:
    """A :class:`Replay` in a process of its own."""

    def __init__(self, scorers: Sequence[AnyScorer], label: str) -> None:
        # Scorers cannot be sent to a process that does not inherit them.
        context = multiprocessing.get_context("fork")
        self._connection, end = context.Pipe()
        self._process = context.Process(target=_decide, args=(end, self._connection, scorers, label), daemon=True)
        self._process.start()
        end.close()

    def add(self, chunk: Sequence[Sent]) -> None:
        try:
            self._connection.send(chunk)
        except OSError as error:
            raise self._ended() from error

    def finish(self) -> Tally:
        self.add([])
        try:
            tally: Tally = self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._ended() from error
        return tally

    def stop(self) -> None:
        self._process.kill()
        self._process.join()
        self._connection.close()

    def _ended(self) -> ReplayError:
        self._process.join()
        return ReplayError(f"a process that decides has ended with exit code {self._process.exitcode}")


@contextmanager
def _deciders(scorers: Sequence[AnyScorer], label: str, processes: int) -> Iterator[Sequence[_Process | Replay]]:
    """Start processes that decide; without any, return what decides in this one."""
    if not processes:
        yield [Replay(scorers, label)]
        return
    started: list[_Process] = []
    try:
        for _ in range(processes):
            started.append(_Process(scorers, label))  # noqa: PERF401  those that have started are stopped
        yield started
    finally:
        for process in started:
            process.stop()


def _decide(connection: Connection, others_end: Connection, scorers: Sequence[AnyScorer], label: str) -> None:
    """Decide the chunks that arrive, and send the tally after an empty one."""
    # Ctrl-C is for the process that started this one. If that one is killed, the connection ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    others_end.close()
    replay = Replay(scorers, label)
    try:
        while chunk := connection.recv():
            replay.add(chunk)
        connection.send(replay.finish())
    except (EOFError, OSError):
        return
