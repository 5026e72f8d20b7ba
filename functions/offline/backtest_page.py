"""The report of a backtest as a page with plots."""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from functions.offline import backtest_report, page
from functions.offline.backtest_report import LEVELS, SHOWN_CHANGES, Document, accuracy
from functions.offline.tally import BINS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PRESENT, _CANDIDATE, _GREY = "#c8553d", "#1f5fa8", "#888888"
_WIDTH = 0.38
# A histogram joins the ranges of the report.
_JOINED = 25


def write(path: Path, report: Document) -> None:
    """Write the page."""
    title = f"Backtest of {_versions(report)}"
    page.write(path, title, _sections(report))


def _sections(report: Document) -> Iterator[tuple[str, str]]:
    scorers = _scorers(report)
    is_labelled = report["label"] is not None
    yield "", _introduction(report)
    if is_labelled:
        yield "Precision and recall", page.plot(_levels(scorers), "Precision and recall of each level")
        yield "Money", page.plot(_money(scorers), "Money caught and blocked at each level")
    else:
        yield "Levels", page.plot(_counts(scorers), "Number of transactions of each level")
    if report["shifts"]:
        yield "Level shifts", page.plot(_shifts(report), "Number of transactions by present and new level")
    for name, scorer in scorers:
        if scorer["model"] is not None:
            yield "Probabilities", page.plot(_probabilities(scorer), "Histogram of the probabilities of the model")
            if is_labelled:
                yield "Thresholds", page.plot(_precision_recall(scorers), "Precision by recall")
        yield f"{name.capitalize()}: version {scorer['version']}", _tables(scorer)
    if report["changes"]:
        yield "Transactions that change their level", _changes(report["changes"])


def _introduction(report: Document) -> str:
    label = f", labelled by {report['label']}" if report["label"] else ", without labels"
    lines = [f"{report['data']}: {report['transactions']:,} transactions{label}."]
    for name, scorer in _scorers(report):
        lines += [f"{name}: {note}." for note in scorer["notes"]]
        if scorer["invalid"]:
            lines.append(f"{name}: {scorer['invalid']:,} transactions are invalid, and in no other figure.")
    return "".join(map(page.paragraph, lines))


def _tables(scorer: Document) -> str:
    if "frauds" not in scorer:
        tables = [backtest_report.counts(name, scorer) for name in ("level", "rule")]
    else:
        tables = [accuracy(scorer, "level"), accuracy(scorer, "rule")]
    return "".join(page.table(table[0], table[1:]) for table in tables)


def _changes(changes: Document) -> str:
    shown = changes["listed"][:SHOWN_CHANGES]
    more = f" The first {len(shown)} are below." if changes["level"] > len(shown) else ""
    rows = [
        [
            one["line"],
            one["tx_id"],
            one["amount"],
            *(["yes" if one["fraud"] else "no"] if "fraud" in one else []),
            *_decisions(one),
        ]
        for one in shown
    ]
    labels = ["fraud"] if shown and "fraud" in shown[0] else []
    text = page.paragraph(f"{changes['level']:,} transactions change their level.{more}")
    return text + page.table(["line", "tx_id", "amount", *labels, "present", "candidate"], rows)


def _decisions(change: Document) -> list[str]:
    return [backtest_report.decided(change[name]) for name in ("present", "candidate")]


def _versions(report: Document) -> str:
    present, candidate = report["present"], report["candidate"]
    return f"{candidate['version']} against {present['version']}" if candidate else str(present["version"])


def _scorers(report: Document) -> list[tuple[str, Document]]:
    found = [("present", report["present"]), ("candidate", report["candidate"])]
    return [(name, scorer) for name, scorer in found if scorer]


def _figure(plots: int = 1, **labels: str) -> "tuple[Figure, Any]":
    from matplotlib.figure import Figure  # noqa: PLC0415  a second to import, for pages only

    figure = Figure(figsize=(8.5, 3.6), layout="constrained")
    axes = figure.subplots(1, plots, squeeze=False)[0]
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.set(**labels)
    return figure, axes if plots > 1 else axes[0]


def _bars(axes: Any, scorers: Sequence[tuple[str, Document]], values: Sequence[Sequence[float | None]]) -> None:
    """Draw a group of bars for each level, with one bar for each scorer."""
    groups = len(values[0])
    for at, ((name, _), heights, color) in enumerate(zip(scorers, values, (_PRESENT, _CANDIDATE), strict=False)):
        places = [group + (at - (len(scorers) - 1) / 2) * _WIDTH for group in range(groups)]
        axes.bar(places, [height or 0 for height in heights], _WIDTH, color=color, label=name)


def _of_levels(scorers: Sequence[tuple[str, Document]], name: str) -> list[list[Any]]:
    return [[scorer["at_least"][level][name] for level in LEVELS[:-1]] for _, scorer in scorers]


def _label_levels(axes: Any) -> None:
    axes.set_xticks(range(len(LEVELS) - 1), [LEVELS[0], *[f"{level}\nor above" for level in LEVELS[1:-1]]])


def _levels(scorers: Sequence[tuple[str, Document]]) -> "Figure":
    figure, plots = _figure(2)
    for axes, name in zip(plots, ("precision", "recall"), strict=True):
        _bars(axes, scorers, _of_levels(scorers, name))
        _label_levels(axes)
        axes.set(title=name, ylim=(0, 1))
    plots[0].legend()
    return figure


def _money(scorers: Sequence[tuple[str, Document]]) -> "Figure":
    figure, plots = _figure(2)
    titles = {"money_caught": "caught: amounts of frauds", "money_blocked": "blocked: amounts of others"}
    for axes, (name, title) in zip(plots, titles.items(), strict=True):
        _bars(axes, scorers, _of_levels(scorers, name))
        _label_levels(axes)
        axes.set_title(title)
        axes.yaxis.set_major_formatter("{x:,.0f}")
    plots[0].axhline(scorers[0][1]["money_frauds"], color=_GREY, linewidth=1, label="all frauds")
    plots[1].legend(*plots[0].get_legend_handles_labels())
    return figure


def _counts(scorers: Sequence[tuple[str, Document]]) -> "Figure":
    figure, axes = _figure(ylabel="transactions")
    _bars(axes, scorers, [[scorer["levels"][level]["hits"] for level in LEVELS] for _, scorer in scorers])
    axes.set_xticks(range(len(LEVELS)), LEVELS)
    axes.set_yscale("symlog")
    axes.legend()
    return figure


def _shifts(report: Document) -> "Figure":
    from matplotlib.colors import SymLogNorm  # noqa: PLC0415  as above

    shifts = report["shifts"]
    levels = backtest_report.shift_levels(shifts)
    numbers = [[shifts[before][after] for after in levels] for before in levels]
    figure, axes = _figure(xlabel="candidate", ylabel="present")
    axes.imshow(numbers, cmap="Blues", norm=SymLogNorm(1, vmin=0, vmax=max(map(max, numbers)) or 1), aspect="auto")
    axes.set_xticks(range(len(levels)), levels)
    axes.set_yticks(range(len(levels)), levels)
    largest = max(map(max, numbers))
    for row, found in enumerate(numbers):
        for column, number in enumerate(found):
            # Half of the scale of colors, which is logarithmic
            color = "white" if number * number > largest else "black"
            axes.text(column, row, f"{number:,}", ha="center", va="center", color=color)
    return figure


def _probabilities(scorer: Document) -> "Figure":
    figure, axes = _figure(xlabel="probability", ylabel="transactions")
    bins = scorer["probabilities"]
    edges = [edge * _JOINED / BINS for edge in range(BINS // _JOINED + 1)]
    middles = [(one["from"] + one["to"]) / 2 for one in bins]
    names = {"others": _GREY, "frauds": _PRESENT} if "frauds" in scorer else {"transactions": _GREY}
    for name, color in names.items():
        axes.hist(middles, edges, weights=[one[name] for one in bins], color=color, alpha=0.7, label=name)
    axes.set_yscale("log")
    axes.legend()
    return figure


def _precision_recall(scorers: Sequence[tuple[str, Document]]) -> "Figure":
    figure, axes = _figure(xlabel="recall", ylabel="precision")
    for (name, scorer), color in zip(scorers, (_PRESENT, _CANDIDATE), strict=False):
        if scorer["model"] is not None:
            bins = scorer["probabilities"][::-1]
            frauds = list(accumulate(one["frauds"] for one in bins))
            hits = list(accumulate(one["frauds"] + one["others"] for one in bins))
            recall = [found / (scorer["frauds"] or 1) for found in frauds]
            precision = [found / all_hits for found, all_hits in zip(frauds, hits, strict=True)]
            axes.step(recall, precision, where="post", color=color, label=f"{name}: any threshold of the model")
        found = [one for one in scorer["at_least"].values() if one["hits"]]
        points = [(one["recall"] or 0, one["precision"]) for one in found]
        axes.scatter(*zip(*points, strict=True) if points else ([], []), color=color, label=f"{name}: its levels")
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
    axes.legend(loc="lower left")
    return figure
