"""Replay a file of transactions through the present scorer and a candidate, and report what differs.

    make backtest DATA=transactions.csv.gz [RULES=rules.json] [MODEL=my.model] [LABEL=is_fraud] [JSON=...] [HTML=...]

The present scorer is the shipped rule set. The candidate is another rule set, or a model with a rule set as its floor;
without one, only the present scorer is reported. Nothing is sent or stored. JSON Lines, CSV and Parquet are streamed; a
JSON array is read into memory. Not deployed.

The history of a transaction is computed from the valid transactions before it in the same file, at the times in their
field ``timestamp``. The profiles are kept in memory, up to 1 KB for each customer. Lists are not read, so neither
``in list`` nor ``not in list`` holds.
"""

import argparse
import gc
import importlib.util
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from time import monotonic

from events import rows
from events.rows import FileError, Row
from functions.offline import backtest_report
from functions.offline.backtest_report import Contender, Document
from functions.offline.labelled import ACCEPTED, Source, columns
from functions.offline.replay import ReplayError, replay
from scoring import scorers
from scoring.errors import ConfigurationError
from scoring.scorer import Scorer
from scoring.scorers import rules_loader

PROGRESS_SECONDS = 2
_PROGRESS_ROWS = 1_000
# Decisions make many objects and hardly any garbage for the collector.
_COLLECTION_OBJECTS = 100_000


class OutputError(Exception):
    """A report cannot be written; the user reads the message."""


def contender(rules: str, model: str | None) -> Contender:
    """Load a scorer.

    Parameters
    ----------
    rules
        File of the rule set.
    model
        File of a model that has it as its floor.

    Raises
    ------
    RuleSetError, ModelError
        The rule set or the model is invalid, or they do not fit together.
    """
    rule_set = rules_loader.from_file(rules)
    if model is None:
        return Contender(rule_set, rules, None, [])
    # Imported here, since rule sets need neither.
    from scoring.scorers.forest import model_file  # noqa: PLC0415
    from scoring.scorers.forest.scorer import ForestScorer  # noqa: PLC0415

    # Contributions change no level, and take longer than all else.
    scorer = ForestScorer(rule_set, model_file.from_file(model), max_explained=0)
    return Contender(scorer, rules, model, [])


def backtest(source: Source, contenders: Sequence[Contender], label: str = "", jobs: int = 1) -> Document:
    """Return the report about the transactions of a file.

    Parameters
    ----------
    source
        The file.
    contenders
        The present scorer and, if there is one, the candidate.
    label
        Field or column that says whether a transaction is a fraud; empty if it is not known.
    jobs
        Number of processes.

    Raises
    ------
    FileError
        The file has no transactions, cannot be read or has another format, or a transaction has no valid label.
    ReplayError
        A process has ended early.
    """
    types = [_types(one.scorer, label) for one in contenders]
    if all(one == types[0] for one in types):
        types = types[:1]
    elif not source.path.is_file():
        # A cell gets the type that the rule set declares.
        raise FileError(
            f"{source.path} must be a regular file: the rule sets declare different fields, so it is read twice"
        )
    transactions = _progress(_labelled(source, types, label, contenders), source)
    tally = replay([one.scorer for one in contenders], label, transactions, jobs)
    if not tally.total:
        raise FileError(f"{source.path} contains no transactions")
    return backtest_report.document(str(source.path), label, contenders, tally)


def _types(scorer: Scorer, label: str) -> dict[str, str]:
    """Return the types of the fields that a scorer declares."""
    types = {field.name: field.type for field in scorer.fields.declared}
    if types.keys() & {label, rows.normal_name(label)}:
        raise FileError(f"{label!r} is a field of version {scorer.version}, so it cannot be the label")
    return types


def _labelled(
    source: Source, types: Sequence[Mapping[str, str]], label: str, contenders: Sequence[Contender]
) -> Iterator[tuple[tuple[Row, ...], bool]]:
    """Yield the rows, each read with all types, and whether it is a fraud."""
    # Not strict: the file may grow meanwhile.
    for found in zip(*[source.rows(one) for one in types], strict=False):
        for at, one in enumerate(contenders):
            if note := found[at % len(found)].note:
                one.notes.append(note)
        yield found, bool(label) and source.is_fraud(found[0], label)


def _progress(
    transactions: Iterator[tuple[tuple[Row, ...], bool]], source: Source
) -> Iterator[tuple[tuple[Row, ...], bool]]:
    """Yield transactions, and say on standard error how fast, and how much of the file is done."""
    start = shown = monotonic()
    for number, one in enumerate(transactions, start=1):
        yield one
        if number % _PROGRESS_ROWS == 0 and (now := monotonic()) - shown > PROGRESS_SECONDS:
            shown = now
            share = source.share()
            done = "" if share is None else f", {share:.0%}"
            print(f"{number:,} rows ({number / (now - start):,.0f}/s){done}", file=sys.stderr)


def _check_output(path: Path | None) -> None:
    """Raise OutputError if a file cannot be written: a backtest can take minutes."""
    if path is None:
        return
    if path.is_dir():
        raise OutputError(f"{path} cannot be written: Is a directory")
    if not path.parent.is_dir():
        raise OutputError(f"{path} cannot be written: {path.parent} is not a directory")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise OutputError(f"{path} cannot be written: Permission denied")


def _write(report: Document, json_file: Path | None, html_file: Path | None) -> None:
    for path in (json_file, html_file):
        try:
            if path and path is json_file:
                path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
            elif path:
                # Imported here, since matplotlib takes a second.
                from functions.offline import backtest_page  # noqa: PLC0415

                backtest_page.write(path, report)
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error


def _run(options: argparse.Namespace) -> None:
    for path in (options.json, options.html):
        _check_output(path)
    if options.html and not importlib.util.find_spec("matplotlib"):
        raise ModuleNotFoundError(name="matplotlib")
    contenders = [contender(options.present, None)]
    if options.rules or options.model:
        contenders.append(contender(options.rules or options.present, options.model))
    start = monotonic()
    report = backtest(Source(options.data, options.columns), contenders, options.label, options.jobs)
    seconds = monotonic() - start
    for line in backtest_report.lines(report):
        print(line)
    sys.stdout.flush()
    _write(report, options.json, options.html)
    if seconds > PROGRESS_SECONDS:
        total = report["transactions"]
        print(f"{total:,} rows in {seconds:,.1f} seconds ({total / seconds:,.0f}/s)", file=sys.stderr)


def _jobs(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 64):
        raise argparse.ArgumentTypeError(f"{text!r} must be a number from 1 to 64")
    return int(text)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="backtest", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, metavar="DATA", help=ACCEPTED)
    parser.add_argument("--rules", metavar="FILE", help="rule set of the candidate")
    parser.add_argument("--model", metavar="FILE", help="model of the candidate, with its rule set as a floor")
    parser.add_argument(
        "--present", default=scorers.RULES_FILE, metavar="FILE", help="rule set to compare with (the shipped one)"
    )
    parser.add_argument(
        "--label",
        default="",
        metavar="FIELD",
        help="field or column that is 1 or true for a fraud, 0 or false for others",
    )
    parser.add_argument(
        "--columns", type=columns, default={}, metavar="COLUMN=FIELD", help="for Parquet: fields for other names"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report as JSON")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the report as a page with plots")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument(
        "--jobs", type=_jobs, default=cores, metavar="N", help=f"processes (default: {cores}, the cores)"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    options = _options(arguments)
    if sys.stdout is None:
        sys.exit("error: the output cannot be written: standard output is closed")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # The encoding of the terminal may lack characters of an id.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        _run(options)
    except (ConfigurationError, FileError, OutputError, ReplayError) as error:
        sys.exit(f"error: {error}")
    except ModuleNotFoundError as error:
        sys.exit(f"error: this Python has no {error.name}: use `make backtest`")
    except KeyboardInterrupt:
        sys.exit("error: interrupted")
    except OSError as error:
        # Python flushes again on exit, which would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        # The reader, `head` for example, may stop early.
        if not isinstance(error, BrokenPipeError):
            sys.exit(f"error: the output cannot be written: {error.strerror}")


if __name__ == "__main__":
    gc.set_threshold(_COLLECTION_OBJECTS)
    main()
