"""Score files of transactions with a rule set, and compare it with another one.

    python -m functions.offline.backtest [--rules FILE] [--against FILE] DATA...

Run it in the root of the checkout, as ``make rules`` does. DATA are files that events/replay.py can send. Nothing is
sent or stored. JSON Lines and CSV are streamed; a JSON array is read into memory. Not deployed.
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
from scoring.scorer import Scorer
from scoring.scorers import rules_loader
from scoring.strict_json import SHOWN_LENGTH
from scoring.transaction import UNKNOWN_TX_ID

SHOWN_INVALID = 5
SHOWN_NAMES = 10
SHOWN_CHANGES = 50
# Names of unknown fields to count; more would let a file fill the memory.
MAX_NAMES = 1_000
# From the highest to the lowest
LEVELS = tuple(reversed(RISK_LEVELS))
INVALID = "invalid"


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


class Summary:
    """Counts the levels and hits of a rule set.

    Parameters
    ----------
    labels
        Labels of its rules.
    """

    def __init__(self, labels: Iterable[str]) -> None:
        self._labels = labels
        self._levels: Counter[str] = Counter()
        self._hits: Counter[str] = Counter()
        self._errors: list[str] = []
        self._with_unknown = 0
        self._unknown: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """Number of transactions."""
        return self._levels.total()

    def add(self, line: int, outcome: Outcome) -> None:
        """Count one transaction."""
        self._levels[outcome.level] += 1
        self._hits.update(outcome.rules)
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
        if invalid < self.total:
            for name, counted, counter in (("level", LEVELS, self._levels), ("rule", self._labels, self._hits)):
                yield ""
                yield from _table(name, [(cell, counter[cell]) for cell in counted], self.total - invalid)


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


def outcomes(path: Path, rule_sets: Sequence[Scorer]) -> Iterator[tuple[Row, list[Outcome]]]:
    """Yield the rows of a file, with what each rule set decides about them.

    Raises
    ------
    FileError
        The file cannot be read or has another format.
    """
    declared = [_types(rule_set) for rule_set in rule_sets]
    if all(types == declared[0] for types in declared):
        for row in _read(path, rule_sets[0]):
            yield row, [_outcome(row, rule_set) for rule_set in rule_sets]
        return
    # A CSV cell gets the type that the rule set declares, so each rule set reads the file itself.
    if not path.is_file():
        raise FileError(f"{path} must be a regular file: the rule sets declare different fields, so it is read twice")
    # Not strict: the file may grow meanwhile.
    for read in zip(*(_read(path, rule_set) for rule_set in rule_sets), strict=False):
        yield read[0], [_outcome(row, rule_set) for row, rule_set in zip(read, rule_sets, strict=True)]


def _read(path: Path, rule_set: Scorer) -> Iterator[Row]:
    return rows.read(path, lambda: _types(rule_set))


def _types(rule_set: Scorer) -> dict[str, str]:
    return {field.name: field.type for field in rule_set.fields.declared}


def _outcome(row: Row, rule_set: Scorer) -> Outcome:
    if row.problem:
        return Outcome(error=row.problem)
    request = {"headers": {"content-type": "application/json"}, "body": row.body}
    try:
        transaction = rule_set.fields.read(http_api.json_body(request))
    except HttpError as error:
        return Outcome(error=str(error))
    tx_id = transaction.values.get("tx_id", UNKNOWN_TX_ID)
    return Outcome(rule_set.assess(transaction), tx_id, transaction.unknown)


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


def _printable(text: str) -> str:
    """Return a text on one line, escaped if it contains characters that are not printable."""
    return text if text.isprintable() else ascii(text)


def backtest(path: Path, rule_set: Scorer, present: Scorer | None = None) -> Iterator[str]:
    """Yield what the rule set decides about the transactions of a file, and what differs from the present one.

    Raises
    ------
    FileError
        The file has no transactions, cannot be read or has another format.
    """
    summary, changes, notes = Summary(rule_set.labels), Changes(), list[str]()
    for row, found in outcomes(path, [rule_set, present] if present else [rule_set]):
        if row.note:
            notes.append(_printable(row.note))
        summary.add(row.line, found[0])
        if present:
            changes.add(row.line, found[1], found[0])
    if not summary.total:
        raise FileError(f"{path} contains no transactions")
    yield ""
    yield f"{path}: {summary.total} transaction{'' if summary.total == 1 else 's'}, version {rule_set.version}"
    yield from notes
    yield from summary.lines()
    if present:
        yield ""
        yield f"{path}: version {present.version} -> {rule_set.version}"
        yield from changes.lines()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="backtest", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="+", type=Path, metavar="DATA", help=rows.ACCEPTED)
    parser.add_argument("--rules", default=scorers.RULES_FILE, metavar="FILE", help="default: the shipped rule set")
    parser.add_argument("--against", metavar="FILE", help="rule set to compare it with")
    options = parser.parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # The encoding of the terminal may lack characters of an id.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        rule_set = rules_loader.from_file(options.rules)
        present = rules_loader.from_file(options.against) if options.against else None
        for path in options.data:
            for line in backtest(path, rule_set, present):
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
