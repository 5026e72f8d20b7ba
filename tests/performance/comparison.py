"""``make bench``: compare ``POST /score`` with the baselines, in processor time, memory and latency.

    make bench PYTHON=python3.13    # as on Lambda; writes the table to README.md beside this file

Each implementation (:mod:`tests.performance.implementations`) has the environment of ``ScoreFunction`` and writes to an
emulated DynamoDB over TLS, because loading the trusted certificates is part of a first request.

A start is a new process (:mod:`tests.performance.cold_start`), of which only processor time counts, so the emulator's
work is excluded. An invocation is timed from outside of Lambda's runtime interface
(:mod:`tests.performance.runtime_interface`) and includes the emulator's work, which is the same for all.
Implementations take turns in an order that is shuffled for each round, so a machine that slows down slows all of them.
Figures are medians, except p99 and the decisions per second.

Decisions with one history are measured beside those without: all about one known customer, whose profile is full.
Decisions by a forest are measured beside those by the same forest in scikit-learn, and beside those by rules.

The run fails if a response differs from the rules or has a wrong history or probability, a decision is not stored, or
the counters do not increase by exactly the returned decisions. Replays and the outbox are not compared, as only this
service has them. This service and the Powertools baseline log and count each decision; the others do not.

Exits with 1 if the run fails, or a figure exceeds one of :data:`LIMITS`.
"""

import argparse
import http.client
import json
import math
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple
from unittest.mock import patch

from scoring.assessment import RISK_LEVELS
from tests import events
from tests.local import account, certificates, emulator, environments, template
from tests.local.certificates import Certificates
from tests.local.processes import command
from tests.markdown import table
from tests.performance import implementations, runtime_interface
from tests.performance.implementations import (
    BASELINES,
    OURS,
    OURS_FOREST,
    OURS_HISTORY,
    OURS_RULES,
    REFERENCE,
    REFERENCE_FOREST,
    REFERENCE_HISTORY,
    Implementation,
    Interpreter,
    Opinion,
)
from tests.performance.load import percentile
from tests.rule_set import DOCUMENT, assess

README = Path(__file__).with_name("README.md")
_BEGIN, _END = "<!-- make bench -->\n", "<!-- /make bench -->"
_COLD_START = Path(__file__).with_name("cold_start.py")
_PROCESS_TIMEOUT_SECONDS = 120
# Untimed decisions at first: they fill the profile of a customer, and include the first alert.
FIRST_DECISIONS = 64
# Sets in the same order in every process, and log lines written at once, as on Lambda.
_PROCESS_VARIABLES = {"PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1"}
_HOUR_SECONDS = 3_600
_SEED = 1
# Relative differences of sums that are rounded, and of probabilities
_HISTORY_TOLERANCE, _PROBABILITY_TOLERANCE = 1e-6, 1e-12
_MB = 1_000_000


class Limit(NamedTuple):
    """The maximum of a figure of this service, with or without a history, as a share of the same figure of others."""

    figure: str
    others: tuple[str, ...]
    share: float
    name: str = OURS


LIMITS = (
    Limit("started", (REFERENCE,), 0.33),
    Limit("warm", (REFERENCE,), 0.50),
    Limit("p50", (REFERENCE,), 0.80),
    Limit("memory", (REFERENCE,), 0.50),
    Limit("started", tuple(name for name in BASELINES.values() if name != REFERENCE), 0.50),
    Limit("started", (OURS,), 1.15, OURS_HISTORY),
    # `make test` limits the instructions to twice. This also has the system calls and TLS of the second call.
    Limit("warm", (OURS,), 2.20, OURS_HISTORY),
    Limit("started", (REFERENCE_HISTORY,), 0.33, OURS_HISTORY),
    Limit("warm", (REFERENCE_HISTORY,), 0.50, OURS_HISTORY),
    Limit("p50", (REFERENCE_HISTORY,), 0.80, OURS_HISTORY),
    Limit("memory", (REFERENCE_HISTORY,), 0.50, OURS_HISTORY),
    # test_forest.py limits what a forest adds, in milliseconds and bytes.
    Limit("started", (OURS_RULES,), 1.50, OURS_FOREST),
    Limit("started", (REFERENCE_FOREST,), 0.20, OURS_FOREST),
    Limit("warm", (REFERENCE_FOREST,), 0.33, OURS_FOREST),
    Limit("p50", (REFERENCE_FOREST,), 0.80, OURS_FOREST),
    Limit("memory", (REFERENCE_FOREST,), 0.33, OURS_FOREST),
)


@dataclass(frozen=True)
class Repetitions:
    """Numbers of repetitions for each implementation.

    Attributes
    ----------
    starts
        New processes.
    warm_starts
        Processes among them that continue after the first decision.
    warm_up, decisions
        Further decisions of these, first untimed, then timed.
    rounds, requests
        Rounds through the runtime interface, and requests in each.
    """

    starts: int = 15
    warm_starts: int = 5
    warm_up: int = 50
    decisions: int = 300
    rounds: int = 10
    requests: int = 100


@dataclass(frozen=True)
class Figures:
    """Results of one implementation, in seconds and bytes.

    Attributes
    ----------
    imported, started
        Processor time until the import is done, and until the first decision is made.
    warm
        Processor time of a later decision.
    memory
        Peak resident memory of a start and first decision.
    package
        Unzipped size.
    p50, p99, rate
        Latency of an invocation, and sequential decisions per second.
    """

    imported: float
    started: float
    warm: float
    memory: float
    package: float
    p50: float
    p99: float
    rate: float


class FigureRow(NamedTuple):
    """A row of the table: its title, the attribute of :class:`Figures`, the unit and the number of decimals."""

    title: str
    figure: str
    unit: float
    decimals: int


ROWS = (
    FigureRow("start: import, CPU ms", "imported", 0.001, 0),
    FigureRow("**start and first decision, CPU ms**", "started", 0.001, 0),
    FigureRow("a decision after that, CPU ms", "warm", 0.001, 2),
    FigureRow("memory, MB", "memory", _MB, 1),
    FigureRow("package, MB", "package", _MB, 1),
    FigureRow("an invocation, p50, ms", "p50", 0.001, 2),
    FigureRow("an invocation, p99, ms", "p99", 0.001, 2),
    FigureRow("decisions a second", "rate", 1, 0),
)


class Request(NamedTuple):
    """A transaction, the API Gateway event that carries it, and the model's opinion if it counts."""

    decision_id: str
    transaction: dict[str, Any]
    event: str
    opinion: Opinion | None = None

    def expected(self) -> dict[str, Any]:
        """Return the fields that the response must contain."""
        ids = {"tx_id": self.transaction["tx_id"], "decision_id": self.decision_id}
        by_rules = assess(self.transaction)
        if not self.opinion:
            return {**by_rules, **ids}
        probability, level = self.opinion
        return {
            **by_rules,
            **ids,
            "risk_level": max(by_rules["risk_level"], RISK_LEVELS[level], key=RISK_LEVELS.index),
            "fraud": level >= RISK_LEVELS.index("HIGH"),
            "fraud_probability": probability,
        }


@dataclass
class Measurements:
    """All measurements of one implementation."""

    imported: list[float] = field(default_factory=list)
    started: list[float] = field(default_factory=list)
    warm: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)

    def figures(self, implementation: Implementation) -> Figures:
        return Figures(
            imported=median(self.imported),
            started=median(self.started),
            warm=median(self.warm),
            memory=median(self.memory),
            package=implementation.size,
            p50=median(self.latencies),
            p99=percentile(99, self.latencies),
            rate=len(self.latencies) / sum(self.latencies),
        )


class MismatchError(Exception):
    """An implementation failed, or responded or recorded incorrectly; the message is one line that names it."""


class StoreAudit:
    """Checks responses, counters and stored decisions against the requests, which come one by one."""

    def __init__(self, dynamodb: Any) -> None:
        self._dynamodb = dynamodb
        self._counted: Counter[str] = Counter()
        self._ids: Counter[str] = Counter()
        self._earlier: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)

    def check(self, name: str, requests: Sequence[Request], responses: Sequence[Any]) -> None:
        """Compare each response with rules and earlier requests, and the change of the counters with the responses.

        Raises
        ------
        MismatchError
            They differ.
        """
        if len(requests) != len(responses):
            raise MismatchError(f"{name} returned {len(responses)} responses to {len(requests)} requests")
        expected: Counter[str] = Counter()
        for request, response in zip(requests, responses, strict=True):
            if difference := mismatch(request, response):
                raise MismatchError(f"{name} returned for {request.transaction}: {difference}")
            if difference := self._history_mismatch(request.transaction, response):
                raise MismatchError(f"{name} returned for {request.transaction} the history {difference}")
            expected += counters(request.expected())
        counted = self._totals()
        moved = counted - self._counted
        if moved != expected:
            raise MismatchError(f"{name} counted {dict(moved)}, expected {dict(expected)}")
        self._counted = counted
        self._ids.update(request.decision_id for request in requests)

    def check_decisions(self) -> None:
        """Compare the ids of all stored decisions with those of all requests.

        Raises
        ------
        MismatchError
            A decision is missing, stored twice, or has no request.
        """
        pages = self._dynamodb.get_paginator("scan").paginate(
            TableName="DecisionsTable", ProjectionExpression="decision_id", ConsistentRead=True
        )
        stored = Counter(item["decision_id"]["S"] for page in pages for item in page["Items"])
        if stored != self._ids:
            number = len(stored - self._ids) + len(self._ids - stored)
            raise MismatchError(f"{number} decisions are missing from the store or should not be in it")

    def _history_mismatch(self, transaction: dict[str, Any], response: Any) -> str:
        """Return how the history in a response differs from the expected one, and note the transaction."""
        histories = json.loads(response["body"]).get("history", {})
        if "customer_id" not in transaction:
            return f"{histories}" if histories else ""
        earlier = self._earlier[transaction["customer_id"]]
        found, expected = histories.get("customer", {}), history(earlier, transaction)
        earlier.append(transaction)
        # The time since the last one differs from run to run.
        since = found.pop("seconds_since_last", None)
        equal = (
            found.keys() == expected.keys()
            and all(_equal(value, found[name], _HISTORY_TOLERANCE) for name, value in expected.items())
            and (0 <= since < _HOUR_SECONDS if isinstance(since, int) else len(earlier) == 1)
        )
        return "" if equal else f"{histories}, not {expected}"

    def _totals(self) -> Counter[str]:
        page = self._dynamodb.scan(TableName="StatsTable", ConsistentRead=True)
        totals: Counter[str] = Counter()
        for shard in page["Items"]:
            totals.update({name: int(value["N"]) for name, value in shard.items() if name != "shard"})
        return totals


def history(earlier: Sequence[Mapping[str, Any]], transaction: Mapping[str, Any]) -> dict[str, Any]:
    """Return the history of a transaction, without ``seconds_since_last``; all are from the same hour."""
    latest = earlier[-64:]
    amounts, stores = [one["amount"] for one in latest], {one["store"] for one in latest}
    return {
        **dict.fromkeys(("count_1h", "count_24h", "count_7d"), len(latest)),
        "sum_24h": float(sum(amounts)),
        "max_24h": float(max(amounts, default=0)),
        "amount_ratio": transaction["amount"] / fmean(one["amount"] for one in earlier) if earlier else None,
        "distinct_24h": len(stores),
        "is_new": transaction["store"] not in stores,
    }


def _equal(expected: Any, found: Any, tolerance: float) -> bool:
    if isinstance(expected, float) and isinstance(found, float):
        return math.isclose(expected, found, rel_tol=tolerance)
    return bool(expected == found)


def counters(body: Mapping[str, Any]) -> Counter[str]:
    """Return the counters that a decision adds to its shard, by the ledger's names."""
    level = body["risk_level"]
    high = ["high"] if level in {"HIGH", "CRITICAL"} else []
    return Counter(["total", f"level#{level}", *high, *(f"rule#{label}" for label in body["triggered_rules"])])


def mismatch(request: Request, response: Any) -> str:
    """Return how a response differs from the expected one; empty if it does not."""
    if not isinstance(response, dict) or response.get("statusCode") != 200:
        return f"{response}"[:500]
    try:
        body, expected = json.loads(response["body"]), request.expected()
    except ValueError:
        return f"{response}"[:500]
    found = {name: body.get(name) for name in expected}
    equal = all(_equal(value, found[name], _PROBABILITY_TOLERANCE) for name, value in expected.items())
    return "" if equal else f"{found}, not {expected}"


def new_requests(number: int, implementation: Implementation) -> list[Request]:
    """Return requests with new ids, cycling through the samples of an implementation, about its customer."""
    requests = []
    for n in range(number):
        (body, opinion), decision_id = implementation.samples[n % len(implementation.samples)], str(uuid.uuid4())
        if implementation.customer:
            body = json.dumps(json.loads(body) | {"customer_id": implementation.customer})
        event = events.post(body, request_id=decision_id, content_length=str(len(body.encode())))
        requests.append(Request(decision_id, json.loads(body), json.dumps(event), opinion))
    return requests


@dataclass(frozen=True)
class Setup:
    """The environment that all measurements share; its files are in a temporary folder."""

    folder: Path
    python: Interpreter
    runtime_client: Path
    certificates: Certificates
    implementations: list[Implementation]
    order: random.Random

    def turns(self) -> list[Implementation]:
        """Return the implementations in random order."""
        return self.order.sample(self.implementations, len(self.implementations))

    def variables(self, implementation: Implementation, endpoint: str) -> dict[str, str]:
        """Return the environment variables of ``ScoreFunction`` and those that lead to the emulator."""
        function = template.functions()["ScoreFunction"]
        own = replace(function, folders=(implementation.function, implementation.packages))
        trusted = self.folder / f"{_slug(implementation)}-authorities.pem"
        trusted.write_bytes(implementation.authorities.read_bytes() + b"\n" + self.certificates.authority.read_bytes())
        return {
            **environments.environment_variables(own),
            **emulator.variables(endpoint),
            "SCORER": implementation.scorer,
            "AWS_CA_BUNDLE": str(trusted),
        }

    def log(self, implementation: Implementation) -> Path:
        """Return the file that receives the output of an implementation."""
        return self.folder / f"{_slug(implementation)}.log"

    @contextmanager
    def store(self) -> Iterator[tuple[str, StoreAudit]]:
        """Start an empty emulator with TLS, and check its decisions on exit."""
        made = self.certificates
        with (
            patch.dict(os.environ, AWS_CA_BUNDLE=str(made.authority)),
            emulator.running(
                USE_SSL="1", MINISTACK_SSL_CERT=str(made.certificate), MINISTACK_SSL_KEY=str(made.key)
            ) as endpoint,
        ):
            audit = StoreAudit(emulator.client("dynamodb", endpoint))
            yield endpoint, audit
            audit.check_decisions()


def _slug(implementation: Implementation) -> str:
    """Return the name of an implementation for its files."""
    return re.sub(r"\W+", "-", implementation.name)


@contextmanager
def prepared(python: Interpreter) -> Iterator[Setup]:
    """Build the implementations, and yield the environment of the measurements."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        yield Setup(
            folder,
            python,
            implementations.runtime_client(python),
            certificates.make(folder),
            implementations.prepare(python, folder, DOCUMENT),
            random.Random(_SEED),
        )


def measure(setup: Setup, repetitions: Repetitions) -> dict[str, Figures]:
    """Return the figures of each implementation by name."""
    measured = {one.name: Measurements() for one in setup.implementations}
    # Each part has its own store, because a large one pauses at times.
    with setup.store() as (endpoint, audit):
        _measure_starts(setup, repetitions, endpoint, audit, measured)
    with setup.store() as (endpoint, audit):
        _measure_invocations(setup, repetitions, endpoint, audit, measured)
    return {one.name: measured[one.name].figures(one) for one in setup.implementations}


def _measure_starts(
    setup: Setup, repetitions: Repetitions, endpoint: str, audit: StoreAudit, measured: dict[str, Measurements]
) -> None:
    for implementation in setup.implementations:
        # They also load all files into the page cache.
        start(setup, implementation, endpoint, audit, FIRST_DECISIONS)
    for number in range(repetitions.starts):
        for implementation in setup.turns():
            is_warm = number < repetitions.warm_starts
            more = repetitions.warm_up + repetitions.decisions if is_warm else 0
            report = start(setup, implementation, endpoint, audit, 1 + more, repetitions.warm_up)
            measurements = measured[implementation.name]
            measurements.imported.append(report["imported"])
            measurements.started.append(report["imported"] + report["first"])
            measurements.memory.append(report["memory"])
            if is_warm:
                measurements.warm.append(report["warm"] / repetitions.decisions)


def start(
    setup: Setup, implementation: Implementation, endpoint: str, audit: StoreAudit, number: int, warm_up: int = 0
) -> dict[str, Any]:
    """Have a new process make ``number`` decisions, check them, and return its report."""
    requests = new_requests(number, implementation)
    report = run_process(setup, implementation, endpoint, [request.event for request in requests], warm_up)
    audit.check(implementation.name, requests, report["responses"])
    return report


def run_process(
    setup: Setup,
    implementation: Implementation,
    endpoint: str,
    given: Sequence[str],
    warm_up: int = 0,
    under: Sequence[str] = (),
) -> dict[str, Any]:
    """Have a new process handle events, and return its report; its output is in :meth:`Setup.log`.

    Parameters
    ----------
    given
        Events as JSON; at least one.
    warm_up
        Number of untimed events after the first.
    under
        A command that runs the process.

    Raises
    ------
    MismatchError
        The process failed.
    """
    lines, report, log = setup.folder / "events.jsonl", setup.folder / "report.json", setup.log(implementation)
    lines.write_text("".join(f"{event}\n" for event in given), encoding="utf-8")
    command_line: list[str | Path] = [*under, setup.python.path, "-P", "-S", _COLD_START, lines, str(warm_up), report]
    with log.open("wb") as output:
        try:
            done = subprocess.run(
                command_line,
                env=setup.variables(implementation, endpoint) | _PROCESS_VARIABLES,
                cwd=implementation.function,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=False,
                timeout=_PROCESS_TIMEOUT_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise MismatchError(f"{implementation.name} did not end within {_PROCESS_TIMEOUT_SECONDS} s") from None
    if done.returncode:
        last_line = log.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
        raise MismatchError(f"{implementation.name} failed: {last_line}")
    read: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return read


def _measure_invocations(
    setup: Setup, repetitions: Repetitions, endpoint: str, audit: StoreAudit, measured: dict[str, Measurements]
) -> None:
    with ExitStack() as running:
        invoke = {
            implementation.name: running.enter_context(
                runtime_interface.running(
                    setup.python.path,
                    setup.runtime_client,
                    setup.variables(implementation, endpoint),
                    implementation.function,
                    running.enter_context(setup.log(implementation).open("wb")),
                )
            )
            for implementation in setup.implementations
        }
        for implementation in setup.implementations:
            # Not recorded: the start, and the first decisions, which are slower.
            number = max(repetitions.warm_up, FIRST_DECISIONS)
            time_invocations(implementation, invoke[implementation.name], audit, number)
        for _ in range(repetitions.rounds):
            for implementation in setup.turns():
                name = implementation.name
                latencies = time_invocations(implementation, invoke[name], audit, repetitions.requests)
                measured[name].latencies += latencies


def time_invocations(
    implementation: Implementation, invoke: Callable[[bytes], bytes], audit: StoreAudit, number: int
) -> list[float]:
    """Return the seconds that each of ``number`` sequential invocations took."""
    requests = new_requests(number, implementation)
    responses, latencies = [], []
    try:
        for request in requests:
            event = request.event.encode()
            begin = time.perf_counter()
            response = invoke(event)
            latencies.append(time.perf_counter() - begin)
            responses.append(json.loads(response))
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise MismatchError(f"{implementation.name} failed behind the runtime interface: {error!r}") from None
    audit.check(implementation.name, requests, responses)
    return latencies


def ratio(figures: Mapping[str, Figures], name: str, figure: str, to: str = REFERENCE) -> float:
    """Return a figure of one implementation as a share of another one's."""
    own: float = getattr(figures[name], figure)
    other: float = getattr(figures[to], figure)
    return own / other


def report(figures: Mapping[str, Figures]) -> str:
    """Return the table; each figure is followed by its share of :data:`REFERENCE`'s."""
    names = [OURS, *BASELINES.values()]
    return table(["", *names], [[row.title, *(_cell(figures, name, row, REFERENCE) for name in names)] for row in ROWS])


def report_history(figures: Mapping[str, Figures]) -> str:
    """Return the table of decisions with one history; the last column compares with decisions without."""
    return _report(figures, OURS_HISTORY, REFERENCE_HISTORY, OURS, "none")


def report_forest(figures: Mapping[str, Figures]) -> str:
    """Return the table of decisions by a forest; the last column compares with rules on the same transactions."""
    return _report(figures, OURS_FOREST, REFERENCE_FOREST, OURS_RULES, "rules")


def _report(figures: Mapping[str, Figures], name: str, reference: str, other: str, other_title: str) -> str:
    """Return a table of an implementation beside its reference; the last column compares it with another one."""
    rows = [
        [
            row.title,
            *(_cell(figures, one, row, reference) for one in (name, reference)),
            f"{ratio(figures, name, row.figure, other):.2f}",
        ]
        for row in ROWS
    ]
    return table(["", name, reference, f"{name} to {other_title}"], rows)


def _cell(figures: Mapping[str, Figures], name: str, row: FigureRow, reference: str) -> str:
    value = f"{getattr(figures[name], row.figure) / row.unit:,.{row.decimals}f}"
    return value if name == reference else f"{value} ({ratio(figures, name, row.figure, reference):.2f})"


def caption(python: Interpreter, repetitions: Repetitions) -> str:
    """Return the line above the table."""
    warm_starts = min(repetitions.starts, repetitions.warm_starts)
    return (
        f"Python {python.version}, {os.cpu_count()} processors; for each: {repetitions.starts} starts, "
        f"{warm_starts} of them with {repetitions.decisions} more timed decisions, "
        f"and {repetitions.rounds * repetitions.requests:,} invocations:"
    )


def problems(figures: Mapping[str, Figures]) -> list[str]:
    """Return a sentence for each limit that is exceeded."""
    titles = {row.figure: row.title.strip("*") for row in ROWS}
    return [
        f"{titles[limit.figure]}: {limit.name} takes {share:.2f} of {other}, more than {limit.share:.2f}"
        for limit in LIMITS
        for other in limit.others
        if (share := ratio(figures, limit.name, limit.figure, other)) > limit.share
    ]


def replace_section(text: str, section: str) -> str:
    """Return the text with a new section between the markers.

    Raises
    ------
    ValueError
        The markers do not occur exactly once and in order.
    """
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end) or _BEGIN in rest or _END in after:
        raise ValueError(f"{_BEGIN.strip()} and {_END} must each occur once")
    return f"{before}{begin}\n{section}\n\n{end}{after}"


def run(python: Interpreter, repetitions: Repetitions, *, write: bool) -> int:
    """Measure, print, update the README if ``write``, and return the exit code."""
    try:
        with prepared(python) as setup:
            figures = measure(setup, repetitions)
    except MismatchError as error:
        print(f"FAILED     {error}")
        return 1
    tables = report(figures), report_history(figures), report_forest(figures)
    section = "\n\n".join([caption(python, repetitions), *tables])
    print(section)
    if write:
        README.write_text(replace_section(README.read_text(encoding="utf-8"), section), encoding="utf-8")
    found = problems(figures)
    for problem in found:
        print(f"FAILED     {problem}")
    return int(bool(found))


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Compare POST /score with the baselines.")
    parser.add_argument("--python", help="interpreter of the functions; default: the one that .venv was created with")
    parser.add_argument("--write", action="store_true", help=f"write the table to {README.name} beside this file")
    arguments = parser.parse_args()
    account.replace()
    with command():
        return run(implementations.interpreter(arguments.python), Repetitions(), write=arguments.write)
    return 1  # interrupted, so the result is unknown


if __name__ == "__main__":
    sys.exit(main())
