"""``make load``: score at a fixed rate for a minute, over HTTP and directly in the handlers, and check every count.

    .venv/bin/python -m tests.performance.load --target handlers --rate 300 --seconds 20
    .venv/bin/python -m tests.performance.load --customers 1 --environments 16 --rate 30 --seconds 20

With customers, each transaction is about one of them at random, so it has a history.

The load is open loop: a request is sent when it is due, whether or not earlier ones have their responses, and its
latency counts from then. A client that waits for a response before it sends again omits the requests that a stall would
have delayed (Gil Tene, *How NOT to Measure Latency*: coordinated omission).

Exits with 1 if a request fails, ``/stats`` does not change by exactly the accepted decisions, the profile of a customer
does not have exactly those about the customer, a history does not have exactly the earlier ones, less than 99% of the
offered rate is achieved, or the client falls behind its own schedule.
"""

import argparse
import functools
import itertools
import json
import math
import random
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import urllib3

from tests import events, profiles, rule_set
from tests.local import account, emulator, environments, event_sources, template
from tests.local.environments import ENVIRONMENTS_PER_FUNCTION, Environments
from tests.local.processes import command
from tests.service import checkout, started

# Requests per second for each target.
RATES = {"http": 25.0, "handlers": 150.0}
RATE_WITH_HISTORY = 75.0
SECONDS = 60.0

# Maximum number of requests without a response; reached after a stall of some seconds at these rates.
MAX_IN_FLIGHT = 512
# Requests without a response this long after the last one was due have failed; longer than any function timeout.
DRAIN_SECONDS = 30.0
# Enough at once that every environment starts before the measurement.
WARM_UP_REQUESTS = 64
WARM_UP_RATE = 200.0
# Grace for the last requests; without it, one slow response at the end would fail a short run.
TAIL_SECONDS = 1.0
MIN_SHARE_OF_RATE = 0.99
# If the client sends 1% of the requests later than this, the offered rate is not the reported one.
MAX_LATENESS_SECONDS = 0.25
# The outbox is tried at once, and again after a minute.
OUTBOX_SECONDS = 90.0

# Counts of a history end here.
MAX_COUNT = 64

# By name in ``/stats``: total, high, each level, each rule.
Counts = Counter[str]


@dataclass(frozen=True)
class Target:
    """A service under load; each call returns status and body.

    Attributes
    ----------
    score
        ``POST /score`` with this idempotency key and body.
    stats
        ``GET /stats``.
    transactions
        The number of transactions in the profile of a customer; None if the store cannot be read.
    """

    score: Callable[[str, str], tuple[int, str]]
    stats: Callable[[], tuple[int, str]]
    transactions: Callable[[str], int] | None = None


@dataclass(frozen=True)
class Sample:
    """A request; times are in seconds since the start, infinite if not reached.

    Attributes
    ----------
    decision
        The body of the response if the request was accepted.
    error
        The kind of failure if it was not.
    """

    due: float
    sent: float = math.inf
    responded: float = math.inf
    decision: dict[str, Any] | None = None
    error: str | None = "not sent, too many in flight"


@dataclass(frozen=True)
class CustomerResult:
    """Results of the requests about a customer.

    Attributes
    ----------
    accepted
        Number of accepted requests.
    in_profile
        Number of transactions in the profile.
    counts
        ``count_1h`` of the decisions that are not degraded.
    """

    accepted: int
    in_profile: int
    counts: list[int]

    @property
    def is_exact(self) -> bool:
        """Whether the profile has each transaction, and each history those before."""
        return self.in_profile == self.accepted and not self._unexpected

    @property
    def _unexpected(self) -> Counter[int]:
        """Counts that are too high, or occur too often."""
        return Counter(self.counts) - Counter(min(number, MAX_COUNT) for number in range(self.accepted))

    def __str__(self) -> str:
        wrong = ", ".join(map(str, sorted(self._unexpected))) or "correct"
        return f"{self.accepted} accepted, {self.in_profile} in the profile, count_1h {wrong}"


@dataclass(frozen=True)
class Result:
    """Measurements of a run.

    Attributes
    ----------
    rate
        Offered requests per second.
    warm_up, samples
        Requests before and during the measurement; all are counted, only the latter are timed.
    changed
        The change of ``/stats``; None if it could not be read.
    customers
        By ``customer_id``; empty if the requests have none.
    """

    rate: float
    warm_up: list[Sample]
    samples: list[Sample]
    changed: Counts | None
    customers: Mapping[str, CustomerResult] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate

    @property
    def achieved(self) -> float:
        """Accepted requests per second."""
        in_time = self.seconds + TAIL_SECONDS
        return sum(s.decision is not None and s.responded <= in_time for s in self.samples) / self.seconds

    @property
    def finished(self) -> float:
        """Seconds from the start until the last response to an accepted request."""
        return max((s.responded for s in self.samples if s.decision is not None), default=math.inf)

    @property
    def latencies(self) -> list[float]:
        """Seconds from when each accepted request was due to its response."""
        return [s.responded - s.due for s in self.samples if s.decision is not None]

    @property
    def lateness(self) -> float:
        """The 99th percentile of the seconds from when a request was due until it was sent."""
        return percentile(99, [s.sent - s.due for s in self.samples])

    @property
    def in_flight(self) -> int:
        """Peak number of requests without a response."""
        changes = sorted(change for s in self.samples for change in ((s.sent, 1), (s.responded, -1)))
        return max(itertools.accumulate(change for _, change in changes))

    @property
    def accepted(self) -> Counts:
        """The change of ``/stats`` that the accepted requests must cause."""
        return expected(self.warm_up + self.samples)

    @property
    def errors(self) -> Counter[str]:
        """Failed requests by kind."""
        return Counter(s.error for s in self.warm_up + self.samples if s.error is not None)

    def problems(self) -> list[str]:
        """Return a sentence for each reason why the run has failed."""
        found = []
        if self.lateness > MAX_LATENESS_SECONDS:
            found.append("the client fell behind its schedule: the result is not valid")
        if self.errors:
            found.append(f"{self.errors.total()} requests failed")
        if self.achieved < MIN_SHARE_OF_RATE * self.rate:
            found.append(f"{self.achieved:.1f} of {self.rate:g} requests per second achieved")
        if self.changed is None:
            found.append("/stats could not be read")
        elif self.changed != self.accepted:
            wrong = sorted(
                name for name in self.changed.keys() | self.accepted if self.changed[name] != self.accepted[name]
            )
            differences = (f"{name} by {self.changed[name]}, accepted {self.accepted[name]}" for name in wrong)
            found.append(f"/stats changed wrongly: {', '.join(differences)}")
        wrong_customers = {name: one for name, one in self.customers.items() if not one.is_exact}
        if wrong_customers:
            name, one = next(iter(wrong_customers.items()))
            found.append(f"{len(wrong_customers)} customers have a wrong history, such as {name}: {one}")
        return found

    def report(self) -> str:
        """Return the result as text."""
        accepted = self.accepted["total"]
        lines = [
            f"offered    {self.rate:g} requests per second for {self.seconds:g} s, {len(self.samples)} in total",
            f"achieved   {self.achieved:.1f} per second",
            f"finished   after {self.finished:.1f} s",
            f"latency    {_latency(self.latencies)}",
            f"client     sent 99% within {1000 * self.lateness:.1f} ms of when due, at most {self.in_flight} in flight",
            f"errors     {self.errors.total()}",
            *(f"           {number} x {kind}" for kind, number in self.errors.most_common()),
            f"accepted   {accepted}, including {len(self.warm_up)} requests to warm up",
            f"deferred   {deferred(self.warm_up + self.samples)} of them, to the outbox",
            *([] if self.changed != self.accepted else [f"/stats     changed by exactly {accepted}, level by level"]),
            *(
                [f"customers  {len(self.customers)}, with exact profiles and histories"]
                if self._has_exact_histories
                else []
            ),
            *(f"FAILED     {problem}" for problem in self.problems()),
        ]
        return "\n".join(lines)

    @property
    def _has_exact_histories(self) -> bool:
        return bool(self.customers) and all(one.is_exact for one in self.customers.values())


def percentile(percent: float, values: Sequence[float]) -> float:
    """Return the percentile by nearest rank, which is one of the values."""
    return sorted(values)[max(math.ceil(percent / 100 * len(values)), 1) - 1]


def _latency(latencies: list[float]) -> str:
    if not latencies:
        return "none"
    numbers = {"p50": 50, "p95": 95, "p99": 99, "max": 100}
    return ", ".join(f"{name} {1000 * percentile(percent, latencies):.1f} ms" for name, percent in numbers.items())


def new_customers(number: int) -> list[str]:
    """Return values of ``customer_id`` that have no profile."""
    run = uuid.uuid4().hex
    return [f"C-{run}-{n}" for n in range(number)]


def keyed_transactions(number: int, customers: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Return idempotency keys and bodies: the samples of ``events/`` in random order, with new transaction ids.

    With customers, each transaction has one of them at random.
    """
    run = uuid.uuid4().hex
    samples = [json.loads(line) for line in (events.FOLDER / "transactions.jsonl").read_text().splitlines()]
    chance = random.Random(1)
    mix = chance.choices(samples, k=number)
    ids: list[dict[str, str]] = [{"tx_id": f"TX-{run}-{n}"} for n in range(number)]
    if customers:
        ids = [one | {"customer_id": chance.choice(customers)} for one in ids]
    return [(f"{run}-{n}", json.dumps(sample | ids[n])) for n, sample in enumerate(mix)]


def offer(
    target: Target,
    requests: Sequence[tuple[str, str]],
    rate: float,
    *,
    max_in_flight: int = MAX_IN_FLIGHT,
    drain: float = DRAIN_SECONDS,
    seed: int | None = None,
) -> list[Sample]:
    """Send each request when it is due, and wait for the responses.

    Parameters
    ----------
    target
        The service.
    requests
        Idempotency key and body of each.
    rate
        Requests per second.
    max_in_flight
        Maximum number of requests without a response; further ones that are due are sent late.
    drain
        Seconds after the last request is due until requests without a response have failed.
    seed
        Makes requests due at random, as a Poisson process; None spaces them evenly.
    """
    samples = [Sample(due) for due in _schedule(len(requests), rate, seed)]
    free = threading.Semaphore(max_in_flight)
    start = time.monotonic()
    end = samples[-1].due + drain

    def now() -> float:
        return time.monotonic() - start

    def send(number: int, key: str, body: str) -> None:
        samples[number] = sent = replace(samples[number], sent=now(), error="no response in time")
        decision, error = _call(lambda: target.score(key, body))
        if error is None and not _is_decision(decision, key):
            decision, error = None, "not the decision for this request"
        samples[number] = replace(sent, responded=now(), decision=decision, error=error)
        free.release()

    threads = []
    for number, request in enumerate(requests):
        time.sleep(max(0, samples[number].due - now()))
        if not free.acquire(timeout=max(0, end - now())):
            break
        # Daemon threads, because a pool would wait at exit for requests that hang.
        threads.append(threading.Thread(target=send, args=(number, *request), daemon=True))
        threads[-1].start()
    for thread in threads:
        thread.join(max(0, end - now()))
    return list(samples)


def _schedule(number: int, rate: float, seed: int | None) -> list[float]:
    if seed is None:
        return [n / rate for n in range(number)]
    chance = random.Random(seed)
    return list(itertools.accumulate(chance.expovariate(rate) for _ in range(number)))


def _call(call: Callable[[], tuple[int, str]]) -> tuple[Any, str | None]:
    """Return the decoded response, or the kind of failure."""
    try:
        status, body = call()
        return (json.loads(body), None) if status == 200 else (None, f"{status} {body.strip()[:100]}")
    except Exception as error:  # noqa: BLE001  any failure of a request is a result
        return None, type(error).__name__


def _is_decision(decision: Any, key: str) -> bool:
    return (
        isinstance(decision, dict)
        and decision.get("decision_id") == key
        and {"risk_level", "triggered_rules"} <= decision.keys()
    )


def expected(samples: list[Sample]) -> Counts:
    """Return the change of ``/stats`` that these requests must cause."""
    counts: Counts = Counter()
    for decision in (s.decision for s in samples if s.decision is not None):
        counts.update(["total", decision["risk_level"], *decision["triggered_rules"]])
        counts.update(["high"] if decision["risk_level"] in {"HIGH", "CRITICAL"} else [])
    return counts


def deferred(samples: list[Sample]) -> int:
    """Return the number of these requests that went to the outbox."""
    return sum(s.decision is not None and s.decision.get("recorded") is False for s in samples)


def measure(
    target: Target,
    rate: float,
    seconds: float,
    *,
    customers: int = 0,
    environments: int = ENVIRONMENTS_PER_FUNCTION,
    max_in_flight: int = MAX_IN_FLIGHT,
    drain: float = DRAIN_SECONDS,
) -> Result:
    """Warm the target up, offer it the load, and read its counters and the profiles of the customers."""
    before, known = stats(target), new_customers(customers)
    first = keyed_transactions(WARM_UP_REQUESTS, known)
    warm_up_in_flight = min(max_in_flight, 2 * environments)
    warm_up = offer(target, first, WARM_UP_RATE, max_in_flight=warm_up_in_flight, drain=drain)
    requests = keyed_transactions(max(round(rate * seconds), 1), known)
    samples = offer(target, requests, rate, max_in_flight=max_in_flight, drain=drain)
    changed = counted(target, before, warm_up + samples)
    found = _customers(target, first + requests, warm_up + samples) if known else {}
    return Result(rate, warm_up, samples, changed, found)


def _customers(
    target: Target, requests: Sequence[tuple[str, str]], samples: Sequence[Sample]
) -> dict[str, CustomerResult]:
    """Return what happened to the requests about each customer."""
    decisions: dict[str, list[dict[str, Any]]] = {}
    for (_, body), sample in zip(requests, samples, strict=True):
        of_customer = decisions.setdefault(json.loads(body)["customer_id"], [])
        if sample.decision is not None:
            of_customer.append(sample.decision)
    assert target.transactions is not None
    return {
        customer: CustomerResult(
            len(some),
            target.transactions(customer),
            [one["history"]["customer"]["count_1h"] for one in some if "degraded" not in one],
        )
        for customer, some in decisions.items()
    }


def counted(target: Target, before: Counts | None, samples: list[Sample]) -> Counts | None:
    """Return the change of ``/stats``, after waiting for deferred requests; None if it cannot be read."""
    # The ledger counts before the response; only the outbox counts later.
    deadline = time.monotonic() + (OUTBOX_SECONDS if deferred(samples) else 0)
    changed = _change(before, stats(target))
    while changed != expected(samples) and time.monotonic() < deadline:
        time.sleep(1)
        changed = _change(before, stats(target))
    return changed


def stats(target: Target) -> Counts | None:
    """Return the counters of ``/stats``; None if they cannot be read."""
    read, error = _call(target.stats)
    if error is not None:
        return None
    return Counter({"total": read["total"], "high": read["high"], **read["by_risk_level"], **read["by_rule"]})


def _change(before: Counts | None, after: Counts | None) -> Counts | None:
    if before is None or after is None:
        return None
    return Counter({name: after[name] - before[name] for name in before | after if after[name] != before[name]})


@contextmanager
def http(log: Path) -> Iterator[Target]:
    """The API of ``make run`` over HTTP, each request on a new connection, as the server closes them."""
    with (
        tempfile.TemporaryDirectory() as folder,
        started(log, checkout(Path(folder, "checkout"), rule_set.DOCUMENT)) as service,
        urllib3.PoolManager(retries=False, timeout=DRAIN_SECONDS) as client,
    ):

        def score(key: str, body: str) -> tuple[int, str]:
            headers = {"content-type": "application/json", "idempotency-key": key}
            response = client.request("POST", f"{service.url}/score", body=body.encode(), headers=headers)
            return response.status, response.data.decode()

        def stats() -> tuple[int, str]:
            response = client.request("GET", f"{service.url}/stats")
            return response.status, response.data.decode()

        yield Target(score, stats)


@contextmanager
def handlers(log: Path, limit: int = ENVIRONMENTS_PER_FUNCTION) -> Iterator[Target]:
    """The functions in their execution environments, invoked with API Gateway events."""
    with (
        tempfile.TemporaryDirectory() as folder,
        log.open("wb") as output,
        emulator.running() as endpoint,
        environments.running(
            emulator.variables(endpoint),
            limit,
            output.fileno(),
            layer=template.copy_layer(Path(folder, "layer"), rule_set.DOCUMENT),
        ) as functions,
        event_sources.running(endpoint, functions.invoke),
    ):
        dynamodb = emulator.client("dynamodb", endpoint)
        yield replace(invoked(functions), transactions=lambda name: profiles.of_customer(dynamodb, name).number)


def invoked(functions: Environments) -> Target:
    """Return a target that invokes these functions with API Gateway events."""

    def invoke(name: str, event: dict[str, Any]) -> tuple[int, str]:
        response = json.loads(functions.invoke(name, json.dumps(event)))
        if "errorType" in response:
            # API Gateway returns a 500 too, but without the reason.
            return 500, f"{response['errorType']}: {response['errorMessage']}"
        return response["statusCode"], response["body"]

    def score(key: str, body: str) -> tuple[int, str]:
        length = str(len(body.encode()))
        event = events.post(body, request_id=str(uuid.uuid4()), idempotency_key=key, content_length=length)
        return invoke("ScoreFunction", event)

    return Target(score, lambda: invoke("StatsFunction", events.load("stats")))


Open = Callable[[Path], AbstractContextManager[Target]]
TARGETS: dict[str, Open] = {"http": http, "handlers": handlers}


def run(
    targets: dict[str, Open],
    rate: float | None,
    seconds: float,
    customers: int = 0,
    environments: int = ENVIRONMENTS_PER_FUNCTION,
) -> int:
    """Load each target in turn, print the results, and return the exit code."""
    failed = False
    for name, open_target in targets.items():
        with tempfile.NamedTemporaryFile(prefix=f"load-{name}-", suffix=".log", delete=False) as file:
            log = Path(file.name)
        with open_target(log) as target:
            offered = rate or (RATE_WITH_HISTORY if customers else RATES[name])
            result = measure(target, offered, seconds, customers=customers, environments=environments)
        print(f"{name}: {open_target.__doc__}\n{result.report()}")
        if result.problems():
            failed = True
            print(f"log        {log}")
        else:
            log.unlink()
        print(flush=True)
    return int(failed)


def positive(text: str) -> float:
    """Parse a positive finite number."""
    number = float(text)
    if not 0 < number < math.inf:
        raise ValueError
    return number


def positive_integer(text: str) -> int:
    """Parse a positive integer."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Offer an open-loop load to this machine's service and check counts.")
    parser.add_argument("--target", choices=TARGETS, help="default: both")
    parser.add_argument("--rate", type=positive, help=f"requests per second; default: {RATES}")
    parser.add_argument("--seconds", type=positive, default=SECONDS)
    parser.add_argument(
        "--customers", type=positive_integer, default=0, help="send transactions with histories, to the handlers only"
    )
    limit = "execution environments of each function behind the handlers"
    parser.add_argument("--environments", type=positive_integer, default=ENVIRONMENTS_PER_FUNCTION, help=limit)
    arguments = parser.parse_args()
    chosen = arguments.target or ("handlers" if arguments.customers else None)
    if arguments.customers and chosen != "handlers":
        parser.error("the profiles of --customers can be read behind the handlers only")
    # Unlike a partial, it keeps the docstring.
    opened = functools.update_wrapper(functools.partial(handlers, limit=arguments.environments), handlers)
    targets = TARGETS | {"handlers": opened}
    account.replace()
    with command():
        return run(
            {chosen: targets[chosen]} if chosen else targets,
            arguments.rate,
            arguments.seconds,
            arguments.customers,
            arguments.environments,
        )
    return 1  # interrupted, so the result is unknown


if __name__ == "__main__":
    sys.exit(main())
