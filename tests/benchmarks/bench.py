"""``make bench``: our ``POST /score`` next to what else one would make it of, in processor time, memory and latency.

    make bench PYTHON=python3.13                               # what Lambda runs; the table goes into the README
    .venv/bin/python -m tests.benchmarks.bench --starts 5      # a shorter run, printed only

Each contestant (:mod:`tests.benchmarks.contestants`) has the environment of ``ScoreFunction``, and an emulator of
DynamoDB to write to, over TLS as on AWS: loading the certificates that one trusts is a part of a first request.

A start is a process of its own (:mod:`tests.benchmarks.one_start`), of which only the processor time counts, so that
what the emulator does is nobody's. An invocation is timed from outside of Lambda's runtime interface
(:mod:`tests.benchmarks.runtime_interface`), what the emulator does included; it is the same for all. Contestants take
turns, in an order that is shuffled for each round, so that a machine that slows down does so for all of them. Figures
are medians, but for the 99th percentile and the decisions a second, which are of all invocations.

Nobody is timed for an error: every answer is compared with the rules, every decision has to be stored, and the counters
have to move by exactly what was answered. Replays and the outbox are not compared; ours alone has them. Ours and the
one with Powertools log and count each decision, the other three do not.

Exits with 1 where one of these does not hold, or a limit of :data:`LIMITS`.
"""

import argparse
import http.client
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple
from unittest.mock import patch

from tests import events
from tests.benchmarks import contestants, runtime_interface
from tests.benchmarks.contestants import MEASURE, OURS, PEERS, Contestant, Interpreter
from tests.benchmarks.load import percentile
from tests.benchmarks.scale import table
from tests.local import account, certificates, emulator, environments, template
from tests.local.certificates import Certificates
from tests.local.processes import command

sys.path.insert(0, str(template.ROOT / "functions" / "layer"))  # pytest has it there already, `python -m` has not

from scoring.transaction import validate
from tests.rule_set import DOCUMENT, RULE_SET

README = template.ROOT / "README.md"
_BEGIN, _END = "<!-- make bench -->\n", "<!-- /make bench -->"
_ONE_START = Path(__file__).with_name("one_start.py")
_SAMPLES = (events.FOLDER / "transactions.jsonl").read_text(encoding="utf-8").splitlines()
_START_SECONDS = 120
# Of a process of its own: sets in the same order each time, and every line of the log written at once, as on Lambda.
_PROCESS = {"PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1"}
_SEED = 1
_MB = 1_000_000


class Limit(NamedTuple):
    """What one of our figures must be at most, as a share of the same one of others."""

    figure: str
    others: tuple[str, ...]
    share: float


# The README says no more than these do, whatever figures are in its table.
LIMITS = (
    Limit("started", (MEASURE,), 0.33),
    Limit("warm", (MEASURE,), 0.50),
    Limit("p50", (MEASURE,), 0.80),
    Limit("memory", (MEASURE,), 0.50),
    Limit("started", tuple(name for name in PEERS.values() if name != MEASURE), 0.50),
)


@dataclass(frozen=True)
class Plan:
    """How much is measured of each contestant.

    Attributes
    ----------
    starts
        Processes.
    warm_starts
        Those of them that go on deciding.
    warm_up, decisions
        How many more decisions these make, first without and then with the clock.
    rounds, requests
        Through the runtime interface: requests in a row, this often.
    """

    starts: int = 15
    warm_starts: int = 5
    warm_up: int = 50
    decisions: int = 300
    rounds: int = 10
    requests: int = 100


@dataclass(frozen=True)
class Figures:
    """Of one contestant; seconds and bytes.

    Attributes
    ----------
    imported, started
        Processor time from the start of the process to the end of the import, and of that and the first decision.
    warm
        Processor time of a decision later on.
    memory
        Resident after the first decision.
    package
        Unzipped.
    p50, p99, rate
        Latency of an invocation, and decisions a second, one at a time.
    """

    imported: float
    started: float
    warm: float
    memory: float
    package: float
    p50: float
    p99: float
    rate: float


class Row(NamedTuple):
    """A line of the table: what it is called, the name in :class:`Figures`, its unit and digits after the point."""

    title: str
    figure: str
    unit: float
    digits: int


ROWS = (
    Row("start: import, CPU ms", "imported", 0.001, 0),
    Row("**start and first decision, CPU ms**", "started", 0.001, 0),
    Row("a decision after that, CPU ms", "warm", 0.001, 2),
    Row("memory, MB", "memory", _MB, 1),
    Row("package, MB", "package", _MB, 1),
    Row("an invocation, p50, ms", "p50", 0.001, 2),
    Row("an invocation, p99, ms", "p99", 0.001, 2),
    Row("decisions a second", "rate", 1, 0),
)


class Request(NamedTuple):
    """A transaction, and the event by which it comes."""

    decision_id: str
    transaction: dict[str, Any]
    event: str

    def expected(self) -> dict[str, Any]:
        """What the answer must hold."""
        names = {"tx_id": self.transaction["tx_id"], "decision_id": self.decision_id}
        score, risk_level, triggered_rules = RULE_SET.assess(validate(self.transaction))
        return {"score": score, "risk_level": risk_level, "triggered_rules": list(triggered_rules), **names}


@dataclass
class Raw:
    """What was measured of one contestant."""

    imported: list[float] = field(default_factory=list)
    started: list[float] = field(default_factory=list)
    warm: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)

    def figures(self, contestant: Contestant) -> Figures:
        return Figures(
            imported=median(self.imported),
            started=median(self.started),
            warm=median(self.warm),
            memory=median(self.memory),
            package=contestant.size,
            p50=median(self.latencies),
            p99=percentile(99, self.latencies),
            rate=len(self.latencies) / sum(self.latencies),
        )


class WrongError(Exception):
    """A contestant did not do what it is timed for; the text is one line that names it."""


class Books:
    """What a store must hold by now, and the look whether it does."""

    def __init__(self, dynamodb: Any) -> None:
        self._dynamodb = dynamodb
        self._counted: Counter[str] = Counter()
        self._ids: Counter[str] = Counter()

    def check(self, name: str, requests: Sequence[Request], answers: Sequence[Any]) -> None:
        """Compare each answer with the rules, and what the counters moved by with the answers.

        Raises
        ------
        WrongError
            They differ.
        """
        if len(requests) != len(answers):
            raise WrongError(f"{name} gave {len(answers)} answers to {len(requests)} requests")
        expected: Counter[str] = Counter()
        for request, answer in zip(requests, answers, strict=True):
            if difference := wrong(request, answer):
                raise WrongError(f"{name} answered {request.transaction}: {difference}")
            expected += counters(request.expected())
        counted = self._totals()
        moved = counted - self._counted
        if moved != expected:
            raise WrongError(f"{name} counted {dict(moved)} for {dict(expected)}")
        self._counted = counted
        self._ids.update(request.decision_id for request in requests)

    def check_decisions(self) -> None:
        """Compare the ids of all decisions that are stored with those of all requests.

        Raises
        ------
        WrongError
            One is missing, there twice, or of no request.
        """
        pages = self._dynamodb.get_paginator("scan").paginate(
            TableName="DecisionsTable", ProjectionExpression="decision_id", ConsistentRead=True
        )
        stored = Counter(item["decision_id"]["S"] for page in pages for item in page["Items"])
        if stored != self._ids:
            differ = len(stored - self._ids) + len(self._ids - stored)
            raise WrongError(f"{differ} decisions are missing in the store, or should not be there")

    def _totals(self) -> Counter[str]:
        page = self._dynamodb.scan(TableName="StatsTable", ConsistentRead=True)
        totals: Counter[str] = Counter()
        for shard in page["Items"]:
            totals.update({name: int(value["N"]) for name, value in shard.items() if name != "shard"})
        return totals


def counters(decided: Mapping[str, Any]) -> Counter[str]:
    """What a decision adds to its shard, by the names of :mod:`scoring.ledger`."""
    level = decided["risk_level"]
    high = ["high"] if level in {"HIGH", "CRITICAL"} else []
    return Counter(["total", f"level#{level}", *high, *(f"rule#{label}" for label in decided["triggered_rules"])])


def wrong(request: Request, answer: Any) -> str:
    """What is wrong with an answer of a function; empty where nothing is."""
    if not isinstance(answer, dict) or answer.get("statusCode") != 200:
        return f"{answer}"[:500]
    try:
        body, expected = json.loads(answer["body"]), request.expected()
    except ValueError:
        return f"{answer}"[:500]
    found = {name: body.get(name) for name in expected}
    return "" if found == expected else f"{found}, not {expected}"


def new_requests(number: int) -> list[Request]:
    """So many requests, the sample transactions of ``events/`` in turn."""
    made = []
    for n in range(number):
        body, decision_id = _SAMPLES[n % len(_SAMPLES)], str(uuid.uuid4())
        event = events.post(body, request_id=decision_id, content_length=str(len(body.encode())))
        made.append(Request(decision_id, json.loads(body), json.dumps(event)))
    return made


@dataclass(frozen=True)
class Setup:
    """What every measurement takes; files are in a folder of this run."""

    folder: Path
    python: Interpreter
    runtime_client: Path
    certificates: Certificates
    contestants: list[Contestant]
    order: random.Random

    def turns(self) -> list[Contestant]:
        """The contestants, in another order each time."""
        return self.order.sample(self.contestants, len(self.contestants))

    def variables(self, contestant: Contestant, endpoint: str) -> dict[str, str]:
        """Environment variables of a contestant: those of ``ScoreFunction``, and what leads it to the emulator."""
        function = template.functions()["ScoreFunction"]
        own = replace(function, folders=(contestant.function, contestant.packages))
        trusted = self.folder / f"{contestant.function.name}-authorities.pem"
        trusted.write_bytes(contestant.authorities.read_bytes() + b"\n" + self.certificates.authority.read_bytes())
        return {
            **environments.environment_variables(own),
            **emulator.variables(endpoint),
            "AWS_CA_BUNDLE": str(trusted),
        }

    def log(self, contestant: Contestant) -> Path:
        """Where a contestant's output goes."""
        return self.folder / f"{contestant.function.name}.log"

    @contextmanager
    def store(self) -> Iterator[tuple[str, Books]]:
        """An emulator that nothing is stored in yet, over TLS."""
        made = self.certificates
        with (
            patch.dict(os.environ, AWS_CA_BUNDLE=str(made.authority)),
            emulator.running(
                USE_SSL="1", MINISTACK_SSL_CERT=str(made.certificate), MINISTACK_SSL_KEY=str(made.key)
            ) as endpoint,
        ):
            books = Books(emulator.client("dynamodb", endpoint))
            yield endpoint, books
            books.check_decisions()


@contextmanager
def prepared(python: Interpreter) -> Iterator[Setup]:
    """Install and build what is not there yet."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        yield Setup(
            folder,
            python,
            contestants.runtime_client(python),
            certificates.make(folder),
            contestants.prepare(python, folder, DOCUMENT),
            random.Random(_SEED),
        )


def measure(setup: Setup, plan: Plan) -> dict[str, Figures]:
    """All figures by the name of the contestant."""
    raw = {contestant.name: Raw() for contestant in setup.contestants}
    # Each part has a store of its own, since one that holds very much makes pauses.
    with setup.store() as (endpoint, books):
        _measure_starts(setup, plan, endpoint, books, raw)
    with setup.store() as (endpoint, books):
        _measure_invocations(setup, plan, endpoint, books, raw)
    return {contestant.name: raw[contestant.name].figures(contestant) for contestant in setup.contestants}


def _measure_starts(setup: Setup, plan: Plan, endpoint: str, books: Books, raw: dict[str, Raw]) -> None:
    for contestant in setup.contestants:
        # Not timed: every sample, and all files read once.
        _start(setup, contestant, endpoint, books, len(_SAMPLES))
    for number in range(plan.starts):
        for contestant in setup.turns():
            goes_on = number < plan.warm_starts
            more = plan.warm_up + plan.decisions if goes_on else 0
            report = _start(setup, contestant, endpoint, books, 1 + more, plan.warm_up)
            figures = raw[contestant.name]
            figures.imported.append(report["imported"])
            figures.started.append(report["imported"] + report["first"])
            figures.memory.append(report["memory"])
            if goes_on:
                figures.warm.append(report["warm"] / plan.decisions)


def _start(
    setup: Setup, contestant: Contestant, endpoint: str, books: Books, number: int, warm_up: int = 0
) -> dict[str, Any]:
    """Have a new process make so many decisions, and return what it reports."""
    requests = new_requests(number)
    told = one_start(setup, contestant, endpoint, [request.event for request in requests], warm_up)
    books.check(contestant.name, requests, told["answers"])
    return told


def one_start(
    setup: Setup,
    contestant: Contestant,
    endpoint: str,
    given: Sequence[str],
    warm_up: int = 0,
    under: Sequence[str] = (),
) -> dict[str, Any]:
    """Have a new process handle events, and return what it reports; its output is in :meth:`Setup.log`.

    Parameters
    ----------
    given
        JSON text of each event; at least one.
    warm_up
        Events after the first that are not timed.
    under
        A command that the process is run by.

    Raises
    ------
    WrongError
        It failed.
    """
    lines, report, log = setup.folder / "events.jsonl", setup.folder / "report.json", setup.log(contestant)
    lines.write_text("".join(f"{event}\n" for event in given), encoding="utf-8")
    command_line: list[str | Path] = [*under, setup.python.path, "-P", "-S", _ONE_START, lines, str(warm_up), report]
    with log.open("wb") as output:
        try:
            done = subprocess.run(
                command_line,
                env=setup.variables(contestant, endpoint) | _PROCESS,
                cwd=contestant.function,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=False,
                timeout=_START_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise WrongError(f"{contestant.name} did not end within {_START_SECONDS} s") from None
    if done.returncode:
        raise WrongError(f"{contestant.name} failed: {_last_line(log)}")
    told: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return told


def _measure_invocations(setup: Setup, plan: Plan, endpoint: str, books: Books, raw: dict[str, Raw]) -> None:
    with ExitStack() as running:
        invoke = {
            contestant.name: running.enter_context(
                runtime_interface.running(
                    setup.python.path,
                    setup.runtime_client,
                    setup.variables(contestant, endpoint),
                    contestant.function,
                    running.enter_context(setup.log(contestant).open("wb")),
                )
            )
            for contestant in setup.contestants
        }
        for contestant in setup.contestants:
            # Not timed: every sample, the start, and what is slower at first.
            _invocations(contestant, invoke[contestant.name], books, max(plan.warm_up, len(_SAMPLES)))
        for _ in range(plan.rounds):
            for contestant in setup.turns():
                latencies = _invocations(contestant, invoke[contestant.name], books, plan.requests)
                raw[contestant.name].latencies += latencies


def _invocations(contestant: Contestant, invoke: Callable[[bytes], bytes], books: Books, number: int) -> list[float]:
    """Seconds that each of so many invocations took, one after the other."""
    requests = new_requests(number)
    answers, latencies = [], []
    try:
        for request in requests:
            event = request.event.encode()
            start = time.perf_counter()
            answer = invoke(event)
            latencies.append(time.perf_counter() - start)
            answers.append(json.loads(answer))
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise WrongError(f"{contestant.name} failed behind the runtime interface: {error!r}") from None
    books.check(contestant.name, requests, answers)
    return latencies


def _last_line(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]


def ratio(figures: Mapping[str, Figures], name: str, figure: str, to: str = MEASURE) -> float:
    """One figure of a contestant as a share of another one's."""
    own: float = getattr(figures[name], figure)
    other: float = getattr(figures[to], figure)
    return own / other


def report(figures: Mapping[str, Figures]) -> str:
    """The table; in brackets, each figure as a share of the same one of :data:`MEASURE`."""

    def cell(name: str, row: Row) -> str:
        value = f"{getattr(figures[name], row.figure) / row.unit:,.{row.digits}f}"
        return value if name == MEASURE else f"{value} ({ratio(figures, name, row.figure):.2f})"

    return table(["", *figures], [[row.title, *(cell(name, row) for name in figures)] for row in ROWS])


def caption(python: Interpreter, plan: Plan) -> str:
    """What the figures are of."""
    going_on = min(plan.starts, plan.warm_starts)
    return (
        f"Python {python.version}, {os.cpu_count()} processors; of each contestant {plan.starts} starts, {going_on} of "
        f"them with {plan.decisions} more decisions timed, and {plan.rounds * plan.requests:,} invocations:"
    )


def problems(figures: Mapping[str, Figures]) -> list[str]:
    """The limits that do not hold, a sentence each."""
    titles = {row.figure: row.title.strip("*") for row in ROWS}
    return [
        f"{titles[limit.figure]}: {OURS} has {share:.2f} of {other}, more than {limit.share:.2f}"
        for limit in LIMITS
        for other in limit.others
        if (share := ratio(figures, OURS, limit.figure, other)) > limit.share
    ]


def replaced(text: str, between: str) -> str:
    """The text with other lines between the markers.

    Raises
    ------
    ValueError
        The markers are not there, once each and in order.
    """
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end) or _BEGIN in rest or _END in after:
        raise ValueError(f"{_BEGIN.strip()} and {_END} must be there once each")
    return f"{before}{begin}\n{between}\n\n{end}{after}"


def run(python: Interpreter, plan: Plan, *, write: bool) -> int:
    """Measure, print, write where told to, and return the exit code."""
    try:
        with prepared(python) as setup:
            figures = measure(setup, plan)
    except WrongError as error:
        print(f"FAILED     {error}")
        return 1
    told = f"{caption(python, plan)}\n\n{report(figures)}"
    print(told)
    if write:
        README.write_text(replaced(README.read_text(encoding="utf-8"), told), encoding="utf-8")
    found = problems(figures)
    for problem in found:
        print(f"FAILED     {problem}")
    return int(bool(found))


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Our POST /score next to what else one would make it of.")
    parser.add_argument("--python", help="that runs the functions; default: the one that made this environment")
    parser.add_argument("--starts", type=int, default=Plan.starts, help="processes of each")
    parser.add_argument("--decisions", type=int, default=Plan.decisions, help="timed ones of a process that goes on")
    parser.add_argument("--rounds", type=int, default=Plan.rounds, help=f"of {Plan.requests} invocations")
    parser.add_argument("--write", action="store_true", help="put the table into the README")
    arguments = parser.parse_args()
    if min(arguments.starts, arguments.decisions, arguments.rounds) < 1:
        parser.error("there is nothing to measure")
    plan = Plan(starts=arguments.starts, decisions=arguments.decisions, rounds=arguments.rounds)
    account.replace()
    with command():
        return run(contestants.interpreter(arguments.python), plan, write=arguments.write)
    return 1  # interrupted, so nothing is known


if __name__ == "__main__":
    sys.exit(main())
