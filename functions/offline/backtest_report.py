"""The report of a backtest: a JSON document, and the same as lines of text.

functions/offline/README.md describes the names in the document.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from functions.offline.replay import AnyScorer
from functions.offline.tally import BINS, INVALID, Counts, ScorerTally, Tally
from scoring.assessment import RISK_LEVELS

SHOWN_CHANGES = 50
SHOWN_NAMES = 10
# From the highest to the lowest
LEVELS = tuple(reversed(RISK_LEVELS))

# Larger amounts are shown with three digits.
_READABLE = 1e15

Document = dict[str, Any]


class Contender(NamedTuple):
    """A scorer, and where it is from.

    Attributes
    ----------
    scorer
        The scorer.
    rules
        Name of the file of its rule set.
    model
        Name of the file of its model; None if it has none.
    notes
        What to tell the user about its transactions, such as columns that are not sent.
    """

    scorer: AnyScorer
    rules: str
    model: str | None
    notes: list[str]


def document(data: str, label: str, contenders: Sequence[Contender], tally: Tally) -> Document:
    """Return the report.

    Parameters
    ----------
    data
        Name of the file.
    label
        Name of the label; empty if it is not known which transactions are frauds.
    contenders
        The present scorer and, if there is one, the candidate.
    tally
        What they decide.
    """
    scorers = [_scorer(one, found, label) for one, found in zip(contenders, tally.scorers, strict=True)]
    report: Document = {
        "data": data,
        "label": label or None,
        "transactions": tally.total,
        "present": scorers[0],
        "candidate": None,
        "shifts": None,
        "changes": None,
    }
    if len(scorers) > 1:
        names = [*LEVELS, INVALID]
        changed = sum(number for (before, after), number in tally.shifts.items() if before != after)
        report["candidate"] = scorers[1]
        report["shifts"] = {one: {other: tally.shifts[one, other] for other in names} for one in names}
        report["changes"] = {"level": changed, "rules": tally.with_other_rules, "listed": tally.changes}
    return report


def _scorer(contender: Contender, tally: ScorerTally, label: str) -> Document:
    scorer = contender.scorer
    levels = {level: tally.levels.get(level, Counts()) for level in LEVELS}
    valid = Counts()
    at_least: dict[str, Document] = {}
    so_far = Counts()
    for counts in levels.values():
        valid.add(counts)
    for level in LEVELS[:-1]:
        so_far.add(levels[level])
        at_least[level] = _counted(so_far, valid, label)
    found: Document = {
        "version": scorer.version,
        "rules": contender.rules,
        "model": contender.model,
        "valid": valid.number,
        "invalid": tally.levels.get(INVALID, Counts()).number,
        "money": valid.money(),
        "notes": [*contender.notes, *_notes(scorer, tally)],
        "errors": [{"line": line, "error": text} for line, text in tally.errors],
        "unknown_fields": {"transactions": tally.with_unknown, "names": dict(_commonest(tally.unknown))},
        "without_timestamp": tally.without_time,
        "unread_lists": list(dict.fromkeys(check.name for check in scorer.lists)),
        "levels": {level: _counted(counts, valid, label) for level, counts in levels.items()},
        "at_least": at_least,
        "by_rule": {one: _counted(tally.rules.get(one, Counts()), valid, label) for one in scorer.labels},
    }
    if label:
        found["frauds"] = valid.numbers[True]
        found["money_frauds"] = valid.money(frauds=True)
    if contender.model is not None:
        found["probabilities"] = [_bin(at, numbers, label) for at, numbers in sorted(tally.probabilities.items())]
    return found


def _counted(counts: Counts, valid: Counts, label: str) -> Document:
    found: Document = {"hits": counts.number, "money": counts.money()}
    if label:
        others, frauds = counts.numbers
        found |= {
            "frauds": frauds,
            "precision": _ratio(frauds, counts.number),
            "recall": _ratio(frauds, valid.numbers[True]),
            "false_positive_rate": _ratio(others, valid.numbers[False]),
            "money_caught": counts.money(frauds=True),
            "money_blocked": counts.money(frauds=False),
        }
    return found


def _bin(at: int, numbers: Sequence[int], label: str) -> Document:
    found: Document = {"from": at / BINS, "to": (at + 1) / BINS}
    return found | ({"frauds": numbers[True], "others": numbers[False]} if label else {"transactions": sum(numbers)})


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _commonest(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return the commonest names first; equally common ones in the order of the alphabet."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _notes(scorer: AnyScorer, tally: ScorerTally) -> Iterator[str]:
    """Yield what the decisions lack that those of the service have."""
    lists = dict.fromkeys(check.name for check in scorer.lists)
    if lists:
        yield f"lists are not read, so no condition on {', '.join(lists)} holds"
    if tally.without_time:
        yield f"{tally.without_time} without a timestamp: decided without history, and in no other's history"


def lines(report: Document) -> Iterator[str]:
    """Yield the report as text."""
    present, candidate, total = report["present"], report["candidate"], report["transactions"]
    versions = present["version"] + (f" -> {candidate['version']}" if candidate else "")
    yield ""
    yield f"{report['data']}: {total} transaction{'' if total == 1 else 's'}, version {versions}"
    if not candidate:
        yield from _scorer_lines(present)
        return
    for name, scorer in (("present", present), ("candidate", candidate)):
        yield ""
        yield f"{name}: version {scorer['version']}"
        yield from _scorer_lines(scorer)
    yield ""
    yield from _shift_lines(report["shifts"])
    yield ""
    yield from _change_lines(report["changes"], total)


def _scorer_lines(scorer: Document) -> Iterator[str]:
    yield from map(printable, scorer["notes"])
    if scorer["invalid"]:
        yield ""
        yield f"{scorer['invalid']} invalid:"
        yield from _shortened([f"line {one['line']}: {one['error']}" for one in scorer["errors"]], scorer["invalid"])
    unknown = scorer["unknown_fields"]
    if unknown["transactions"]:
        yield ""
        names = [f"{name!r} in {count}" for name, count in unknown["names"].items()]
        more = ", ..." if len(names) > SHOWN_NAMES else ""
        yield f"{unknown['transactions']} with unknown fields: {', '.join(names[:SHOWN_NAMES])}{more}"
    valid = scorer["valid"]
    if not valid:
        return
    yield ""
    yield from _aligned(counts("level", scorer))
    yield ""
    if "frauds" not in scorer:
        yield from _aligned(counts("rule", scorer))
        return
    yield (
        f"{scorer['frauds']} of {valid} valid transactions are frauds: "
        f"{money(scorer['money_frauds'])} of {money(scorer['money'])}"
    )
    yield ""
    yield from _aligned(accuracy(scorer, "level"))
    yield ""
    yield from _aligned(accuracy(scorer, "rule"))


def counts(name: str, scorer: Document) -> list[tuple[str, ...]]:
    """Return how often a scorer gives each level, or its rules hit, as the rows of a table under a header."""
    counted = scorer["levels"] if name == "level" else scorer["by_rule"]
    table: list[tuple[str, ...]] = [(name, "count", "percent")]
    for label, one in counted.items():
        hits = one["hits"]
        table.append((label, str(hits), f"{hits / scorer['valid']:.1%}" if hits else "never"))
    return table


def accuracy(scorer: Document, name: str) -> list[tuple[str, ...]]:
    """Return how many frauds the levels or rules of a scorer find, as the rows of a table under a header."""
    counted = scorer["at_least"] if name == "level" else scorer["by_rule"]
    table: list[tuple[str, ...]] = [
        (name, "count", "frauds", "precision", "recall", "false positives", "money caught", "money blocked"),
    ]
    for label, one in counted.items():
        above = " or above" if name == "level" and label != LEVELS[0] else ""
        table.append(
            (
                label + above,
                str(one["hits"]),
                str(one["frauds"]),
                percent(one["precision"]),
                percent(one["recall"]),
                percent(one["false_positive_rate"], digits=3),
                money(one["money_caught"]),
                money(one["money_blocked"]),
            )
        )
    return table


def shift_levels(shifts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Return the levels that any transaction has."""
    return [one for one in shifts if any(shifts[one].values()) or any(row[one] for row in shifts.values())]


def _shift_lines(shifts: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """Yield how many transactions move from which level to which."""
    levels = shift_levels(shifts)
    rows = [("from / to", *levels)]
    rows += [(one, *[str(shifts[one][other] or "-") for other in levels]) for one in levels]
    yield from _aligned(rows)


def _change_lines(changes: Document, total: int) -> Iterator[str]:
    changed = changes["level"]
    yield f"{changed} of {total} change their level{':' if changed else ''}"
    yield from _shortened([_change(one) for one in changes["listed"][:SHOWN_CHANGES]], changed)
    if changes["rules"]:
        yield f"{changes['rules']} keep their level, but hit other rules"


def _change(change: Document) -> str:
    present, candidate = change["present"], change["candidate"]
    before, after = present.get("rules", ()), candidate.get("rules", ())
    hits = [f"+ {label}" for label in after if label not in before]
    hits += [f"- {label}" for label in before if label not in after]
    tx_id = printable(change["tx_id"])
    return "  ".join([f"line {change['line']}", tx_id, f"{decided(present)} -> {decided(candidate)}", *hits])


def decided(found: Document) -> str:
    """Return a decision as text: its level, and score, probability or error."""
    if "error" in found:
        return f"{INVALID} ({found['error']})"
    probability = found.get("fraud_probability")
    return f"{found['level']} {found['score']}" + ("" if probability is None else f" ({probability:.4f})")


def _shortened(shown: Sequence[str], total: int) -> Iterator[str]:
    yield from (f"  {line}" for line in shown)
    if total > len(shown):
        yield f"  and {total - len(shown)} more"


def _aligned(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Yield the rows of a table; all columns but the first one are numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = [f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True)]
        yield "  ".join([f"{first:{widths[0]}}", *cells])


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share as text; a minus if there is none."""
    return "-" if share is None else f"{share:.{digits}%}"


def money(amount: float) -> str:
    """Return an amount as text."""
    return f"{amount:,.0f}" if amount < _READABLE else f"{amount:.3g}"


def printable(text: str) -> str:
    """Return a text on one line, escaped if it contains characters that are not printable."""
    return text if text.isprintable() else ascii(text)
