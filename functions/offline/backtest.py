"""Score files of transactions with a rule set, and compare it with another one.

    python -m functions.offline.backtest [--rules FILE] [--against FILE] [--label FIELD] DATA...

Run it in the root of the checkout, as ``make rules`` does. DATA are files that events/replay.py can send. Nothing is
sent or stored. JSON Lines and CSV are streamed; a JSON array is read into memory. Not deployed.

The history of a transaction is computed from the valid transactions before it in the same file, at the times in their
field ``timestamp``. The profiles are kept in memory, up to 1 KB for each customer. Lists are not read, so neither
``in list`` nor ``not in list`` holds. With ``--label``, a field or column says which transactions are frauds, and the
summary how many of them each level and rule finds.
"""

import argparse
import io
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from events import rows
from events.rows import FileError, Row
from scoring import http_api, scorers
from scoring.assessment import RISK_LEVELS, Assessment
from scoring.errors import HttpError, RuleSetError
from scoring.lookups import Known, enriched, observed
from scoring.scorer import Scorer
from scoring.scorers import rules_loader
from scoring.strict_json import SHOWN_LENGTH
from scoring.transaction import UNKNOWN_TX_ID, Transaction

SHOWN_INVALID = 5
SHOWN_NAMES = 10
SHOWN_CHANGES = 50
# Names of unknown fields to count; more would let a file fill the memory.
MAX_NAMES = 1_000
# From the highest to the lowest
LEVELS = tuple(reversed(RISK_LEVELS))
INVALID = "invalid"
# Texts of the labels, in JSON and CSV
FRAUD = {"0": False, "1": True, "false": False, "true": True}


class Outcome(NamedTuple):
    """What a rule set decides about a transaction.

    Attributes
    ----------
    assessment
        None if the transaction is invalid.
    tx_id
        Of a valid transaction.
    unknown
        Names of the fields that are not declared.
    error
        Why the transaction is invalid.
    """

    assessment: Assessment | None = None
    tx_id: str = ""
    unknown: tuple[str, ...] = ()
    error: str = ""

    @property
    def level(self) -> str:
        """The risk level, or "invalid"."""
        return self.assessment.risk_level if self.assessment else INVALID

    @property
    def rules(self) -> tuple[str, ...]:
        """Labels of the rules that hit."""
        return self.assessment.triggered_rules if self.assessment else ()

    def __str__(self) -> str:
        return f"{self.level} {self.assessment.score}" if self.assessment else f"{self.level} ({self.error})"


class Run:
    """A rule set that decides about the rows of a file, each by the history of the rows before.

    Parameters
    ----------
    rule_set
        The rule set.
    label
        Field that says whether a transaction is a fraud, which is removed; may be empty.
    """

    def __init__(self, rule_set: Scorer, label: str = "") -> None:
        self._rule_set = rule_set
        self._label = label
        self._known = Known({}, frozenset())
        self._without_time = 0
        self.types = {field.name: field.type for field in rule_set.fields.declared}
        if self.types.keys() & {label, rows.normal_name(label)}:
            raise FileError(f"{label!r} is a field of version {rule_set.version}, so it cannot be the label")

    def decide(self, row: Row) -> Outcome:
        """Decide about the next row."""
        if row.problem:
            return Outcome(error=row.problem)
        request = {"headers": {"content-type": "application/json"}, "body": row.body}
        try:
            document = http_api.json_body(request)
            if isinstance(document, dict):
                document.pop(self._label, None)
            transaction = self._rule_set.fields.read(document)
        except HttpError as error:
            return Outcome(error=str(error))
        tx_id = transaction.values.get("tx_id", UNKNOWN_TX_ID)
        return Outcome(self._rule_set.assess(self._with_history(transaction)), tx_id, transaction.unknown)

    def _with_history(self, transaction: Transaction) -> Transaction:
        """Add the transaction to its profiles, and return it with its history."""
        histories = [history for history in self._rule_set.histories if history.by in transaction.values]
        if not histories:
            return transaction
        if "timestamp" not in transaction.values:
            self._without_time += 1
            return transaction
        found = self._known.observe(observed(histories, transaction, transaction.facts["timestamp"]))
        return enriched(transaction, {one.name: features for one, features in zip(histories, found, strict=True)}, {})

    def notes(self) -> Iterator[str]:
        """Yield what the decisions lack that those of the service have."""
        lists = dict.fromkeys(check.name for check in self._rule_set.lists)
        if lists:
            yield f"lists are not read, so no condition on {', '.join(lists)} holds"
        if self._without_time:
            yield f"{self._without_time} without a timestamp: decided without history, and in no other's history"


class Summary:
    """Counts the levels and hits of a rule set.

    Parameters
    ----------
    labels
        Labels of its rules.
    is_labelled
        Whether it is known which transactions are frauds.
    """

    def __init__(self, labels: Iterable[str], *, is_labelled: bool = False) -> None:
        self._labels = labels
        self._is_labelled = is_labelled
        self._frauds = 0
        self._frauds_by_level: Counter[str] = Counter()
        self._frauds_by_rule: Counter[str] = Counter()
        self._levels: Counter[str] = Counter()
        self._hits: Counter[str] = Counter()
        self._errors: list[str] = []
        self._with_unknown = 0
        self._unknown: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """Number of transactions."""
        return self._levels.total()

    @property
    def _valid(self) -> int:
        return self.total - self._levels[INVALID]

    def add(self, line: int, outcome: Outcome, *, is_fraud: bool = False) -> None:
        """Count one transaction."""
        self._levels[outcome.level] += 1
        self._hits.update(outcome.rules)
        if is_fraud and outcome.assessment:
            self._frauds += 1
            self._frauds_by_level[outcome.level] += 1
            self._frauds_by_rule.update(outcome.rules)
        if outcome.error and len(self._errors) < SHOWN_INVALID:
            self._errors.append(f"line {line}: {outcome.error}")
        if outcome.unknown:
            self._with_unknown += 1
            # Each name once, in order
            names = dict.fromkeys(name[:SHOWN_LENGTH] for name in outcome.unknown)
            is_full = len(self._unknown) >= MAX_NAMES
            self._unknown.update([name for name in names if not is_full or name in self._unknown])

    def lines(self) -> Iterator[str]:
        """Yield the summary. Percentages are of the valid transactions."""
        invalid = self._levels[INVALID]
        if invalid:
            yield ""
            yield f"{invalid} invalid:"
            yield from _shortened(self._errors, invalid)
        if self._unknown:
            yield ""
            names = [f"{name!r} in {count}" for name, count in self._unknown.most_common(SHOWN_NAMES)]
            more = ", ..." if len(self._unknown) > SHOWN_NAMES else ""
            yield f"{self._with_unknown} with unknown fields: {', '.join(names)}{more}"
        if self._valid:
            yield ""
            yield from _table("level", [(level, self._levels[level]) for level in LEVELS], self._valid)
            yield ""
            if self._is_labelled:
                yield from self.accuracy()
            else:
                yield from _table("rule", [(label, self._hits[label]) for label in self._labels], self._valid)

    def accuracy(self) -> Iterator[str]:
        """Yield how many frauds the levels and rules find, of the valid transactions."""
        yield f"{self._frauds} of {self._valid} valid transactions are frauds"
        levels, count, frauds = list[tuple[str, int, int]](), 0, 0
        for level in LEVELS[:-1]:
            count += self._levels[level]
            frauds += self._frauds_by_level[level]
            levels.append((f"{level} or above" if levels else level, count, frauds))
        rules = [(label, self._hits[label], self._frauds_by_rule[label]) for label in self._labels]
        for name, counts in (("level", levels), ("rule", rules)):
            yield ""
            yield from _accuracy_table(name, counts, self._valid, self._frauds)


class Changes:
    """Collects the transactions that two rule sets decide differently."""

    def __init__(self) -> None:
        self._levels: Counter[tuple[str, str]] = Counter()
        self._changed = 0
        self._shown: list[str] = []

    def add(self, line: int, before: Outcome, after: Outcome) -> None:
        """Count one transaction."""
        self._levels[before.level, after.level] += 1
        old, new = (outcome.assessment and outcome.assessment._replace(reasons=()) for outcome in (before, after))
        if old == new:
            return
        self._changed += 1
        if len(self._shown) < SHOWN_CHANGES:
            tx_id = _printable(before.tx_id or after.tx_id)
            hits = [f"+ {label}" for label in after.rules if label not in before.rules]
            hits += [f"- {label}" for label in before.rules if label not in after.rules]
            self._shown.append("  ".join([f"line {line}", tx_id, f"{before} -> {after}", *hits]))

    def lines(self) -> Iterator[str]:
        """Yield the changes, and how many transactions moved from which level to which."""
        yield f"{self._changed} of {self._levels.total()} decided differently{':' if self._changed else ''}"
        yield from _shortened(self._shown, self._changed)
        if self._changed:
            yield ""
            levels = [level for level in (*LEVELS, INVALID) if any(level in pair for pair in self._levels)]
            width = max(map(len, (*levels, *map(str, self._levels.values()))))
            yield "  ".join(["from / to", *(f"{level:>{width}}" for level in levels)])
            for before in levels:
                cells = (str(self._levels.get((before, after), "-")) for after in levels)
                yield "  ".join([f"{before:9}", *(f"{cell:>{width}}" for cell in cells)])


def outcomes(path: Path, runs: Sequence[Run]) -> Iterator[tuple[Row, list[Outcome]]]:
    """Yield the rows of a file, with what each rule set decides about them.

    Raises
    ------
    FileError
        The file cannot be read or has another format.
    """
    if all(run.types == runs[0].types for run in runs):
        for row in rows.read(path, lambda: runs[0].types):
            yield row, [run.decide(row) for run in runs]
        return
    # A CSV cell gets the type that the rule set declares, so each rule set reads the file itself.
    if not path.is_file():
        raise FileError(f"{path} must be a regular file: the rule sets declare different fields, so it is read twice")
    # Not strict: the file may grow meanwhile.
    for read in zip(*(_read(path, run) for run in runs), strict=False):
        yield read[0], [run.decide(row) for run, row in zip(runs, read, strict=True)]


def _read(path: Path, run: Run) -> Iterator[Row]:
    return rows.read(path, lambda: run.types)


def _is_fraud(path: Path, row: Row, label: str) -> bool:
    """Return the label of a row. A malformed row is invalid, so it needs none.

    Raises
    ------
    FileError
        The row has no label, or another one than 0, 1, true and false.
    """
    if row.problem or not row.fields:
        return False
    name = label if label in row.fields else rows.normal_name(label)
    if name not in row.fields:
        raise FileError(f"{path} line {row.line} has no label {label!r}")
    found = FRAUD.get(str(row.fields[name]).strip().lower())
    if found is None:
        shown = str(row.fields[name])[: rows.SHOWN_CHARACTERS]
        raise FileError(f"{path} line {row.line}: the label {label!r} must be 0, 1, true or false, not {shown!r}")
    return found


def _shortened(shown: Sequence[str], total: int) -> Iterator[str]:
    yield from (f"  {line}" for line in shown)
    if total > len(shown):
        yield f"  and {total - len(shown)} more"


def _table(name: str, counts: list[tuple[str, int]], total: int) -> Iterator[str]:
    labels = max(map(len, (name, *(label for label, _ in counts))))
    numbers = max(len("count"), len(str(total)))
    yield f"{name:{labels}}  {'count':>{numbers}}  percent"
    for label, count in counts:
        yield f"{label:{labels}}  {count:>{numbers}}  {f'{count / total:.1%}' if count else 'never':>7}"


def _accuracy_table(name: str, counts: list[tuple[str, int, int]], total: int, frauds: int) -> Iterator[str]:
    labels = max(map(len, (name, *(label for label, _, _ in counts))))
    numbers = max(len("frauds"), len(str(total)))
    yield f"{name:{labels}}  {'count':>{numbers}}  {'frauds':>{numbers}}  precision  recall"
    for label, count, found in counts:
        precision = f"{found / count:.1%}" if count else "-"
        recall = f"{found / frauds:.1%}" if frauds else "-"
        yield f"{label:{labels}}  {count:>{numbers}}  {found:>{numbers}}  {precision:>9}  {recall:>6}"


def _printable(text: str) -> str:
    """Return a text on one line, escaped if it contains characters that are not printable."""
    return text if text.isprintable() else ascii(text)


def backtest(path: Path, rule_set: Scorer, present: Scorer | None = None, label: str = "") -> Iterator[str]:
    """Yield what the rule set decides about the transactions of a file, and what differs from the present one.

    Parameters
    ----------
    path
        The file.
    rule_set
        The rule set.
    present
        Another one to compare it with.
    label
        Field or column that says whether a transaction is a fraud; empty if it is not known.

    Raises
    ------
    FileError
        The file has no transactions, cannot be read or has another format, or a transaction has no valid label.
    """
    rule_sets = [rule_set, present] if present else [rule_set]
    runs = [Run(one, label) for one in rule_sets]
    summaries = [Summary(one.labels, is_labelled=bool(label)) for one in rule_sets]
    changes, notes = Changes(), list[str]()
    for row, found in outcomes(path, runs):
        is_fraud = bool(label) and _is_fraud(path, row, label)
        if row.note:
            notes.append(_printable(row.note))
        for summary, outcome in zip(summaries, found, strict=True):
            summary.add(row.line, outcome, is_fraud=is_fraud)
        if present:
            changes.add(row.line, found[1], found[0])
    if not summaries[0].total:
        raise FileError(f"{path} contains no transactions")
    yield ""
    total = summaries[0].total
    yield f"{path}: {total} transaction{'' if total == 1 else 's'}, version {rule_set.version}"
    yield from notes
    yield from runs[0].notes()
    yield from summaries[0].lines()
    if present:
        yield ""
        yield f"{path}: version {present.version} -> {rule_set.version}"
        yield from [note for note in runs[1].notes() if note not in runs[0].notes()]
        yield from changes.lines()
        if label:
            yield ""
            yield f"version {present.version}:"
            yield from summaries[1].accuracy()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="backtest", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="+", type=Path, metavar="DATA", help=rows.ACCEPTED)
    parser.add_argument("--rules", default=scorers.RULES_FILE, metavar="FILE", help="default: the shipped rule set")
    parser.add_argument("--against", metavar="FILE", help="rule set to compare it with")
    parser.add_argument(
        "--label",
        default="",
        metavar="FIELD",
        help="field or column that is 1 or true for a fraud, 0 or false for others",
    )
    options = parser.parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # The encoding of the terminal may lack characters of an id.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        rule_set = rules_loader.from_file(options.rules)
        present = rules_loader.from_file(options.against) if options.against else None
        for path in options.data:
            for line in backtest(path, rule_set, present, options.label):
                print(line)
        sys.stdout.flush()
    except (RuleSetError, FileError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("error: interrupted")
    except OSError as error:
        # Python flushes again on exit, which would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        # The reader, `head` for example, may stop early.
        if not isinstance(error, BrokenPipeError):
            sys.exit(f"error: the output cannot be written: {error.strerror}")


if __name__ == "__main__":
    main()
