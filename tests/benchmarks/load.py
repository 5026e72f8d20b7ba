"""``make load``: score at a fixed rate for a minute, over HTTP and straight into the handlers, and check every count.

The load is open loop: a request goes out when it is due, whether or not earlier ones have been answered, and its
latency counts from then. A client that waits for an answer before it sends again, or that counts from when it got round
to sending, leaves out the very requests that a stall would have kept waiting: Gil Tene's *coordinated omission* ("How
NOT to Measure Latency", and his load generator wrk2).

Exits with 1 where a request failed, ``/stats`` moved by anything but what was accepted, the answers fell behind the
offered rate by more than a hundredth, or the client did not keep to its own schedule.
"""

import argparse
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
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import urllib3

from tests import events
from tests.integration.service import started
from tests.local import account, emulator, environments, event_source
from tests.local.environments import ENVIRONMENTS_PER_FUNCTION, Environments
from tests.local.processes import command

# Requests a second that each target is offered.
RATES = {"http": 25.0, "handlers": 150.0}
SECONDS = 60.0

# A stall of the target may last some seconds at these rates before the client holds requests back.
IN_FLIGHT = 512
# What is not answered so long after the last request was due never will be: above what a function may take.
DRAIN_SECONDS = 30.0
# Enough at once that every environment starts before the clock does.
WARM_UP_REQUESTS = 64
WARM_UP_IN_FLIGHT = 2 * ENVIRONMENTS_PER_FUNCTION
WARM_UP_RATE = 200.0
# What was due last has so long to be answered in; without it, one slow answer at its end would fail a short run.
TAIL_SECONDS = 1.0
LEAST_SHARE_OF_RATE = 0.99
# Later than this, 1 in 100 times, and what was offered is no longer what the report says.
LATENESS_SECONDS = 0.25
# A decision that waits in the outbox is tried at once, and once more a minute later.
OUTBOX_SECONDS = 90.0

# By name in ``/stats``: total, high, each level, each rule.
Counts = Counter[str]


@dataclass(frozen=True)
class Target:
    """Something that scores and counts; each call returns status and body.

    Attributes
    ----------
    score
        ``POST /score`` with this idempotency key and body.
    stats
        ``GET /stats``.
    """

    score: Callable[[str, str], tuple[int, str]]
    stats: Callable[[], tuple[int, str]]


@dataclass(frozen=True)
class Sample:
    """One request; times in seconds since the clock started, infinite for what has not happened.

    Attributes
    ----------
    answer
        Body of the answer where it was accepted.
    error
        What kind of failure it was where it was not.
    """

    due: float
    sent: float = math.inf
    answered: float = math.inf
    answer: dict[str, Any] | None = None
    error: str | None = "not sent, too many had no answer"


@dataclass(frozen=True)
class Result:
    """What one run has measured.

    Attributes
    ----------
    rate
        Requests a second that were offered.
    warm_up, samples
        Requests before the clock started, and since; all are counted, only the latter are timed.
    moved
        What ``/stats`` moved by; None where it could not be read.
    """

    rate: float
    warm_up: list[Sample]
    samples: list[Sample]
    moved: Counts | None

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate

    @property
    def achieved(self) -> float:
        """Accepted requests a second."""
        in_time = self.seconds + TAIL_SECONDS
        return sum(s.answer is not None and s.answered <= in_time for s in self.samples) / self.seconds

    @property
    def latencies(self) -> list[float]:
        """Seconds from when each accepted request was due until it was answered."""
        return [s.answered - s.due for s in self.samples if s.answer is not None]

    @property
    def lateness(self) -> float:
        """Seconds that 99 in 100 requests were sent within, from when they were due."""
        return percentile(99, [s.sent - s.due for s in self.samples])

    @property
    def in_flight(self) -> int:
        """Requests without an answer, at most."""
        changes = sorted(change for s in self.samples for change in ((s.sent, 1), (s.answered, -1)))
        return max(itertools.accumulate(change for _, change in changes))

    @property
    def accepted(self) -> Counts:
        """What all accepted requests must have moved ``/stats`` by."""
        return expected(self.warm_up + self.samples)

    @property
    def deferred(self) -> int:
        """Accepted requests that the outbox took, to be counted later."""
        return deferred(self.warm_up + self.samples)

    @property
    def errors(self) -> Counter[str]:
        """Failed requests by kind."""
        return Counter(s.error for s in self.warm_up + self.samples if s.error is not None)

    def problems(self) -> list[str]:
        """Why the run has failed; empty where it has not."""
        found = []
        if self.lateness > LATENESS_SECONDS:
            found.append("the client did not keep to its schedule: the result is not valid")
        if self.errors:
            found.append(f"{self.errors.total()} requests failed")
        if self.achieved < LEAST_SHARE_OF_RATE * self.rate:
            found.append(f"{self.achieved:.1f} requests a second achieved of {self.rate:g}")
        if self.moved is None:
            found.append("/stats could not be read")
        elif wrong := self.miscounted():
            found.append(f"/stats moved wrongly: {wrong}")
        return found

    def miscounted(self) -> str:
        """What ``/stats`` did not move by exactly; empty where it has."""
        moved, accepted = self.moved or Counter(), self.accepted
        wrong = (name for name in sorted(moved.keys() | accepted.keys()) if moved[name] != accepted[name])
        return ", ".join(f"{name} by {moved[name]}, accepted {accepted[name]}" for name in wrong)

    def report(self) -> str:
        """What a person reads."""
        accepted = self.accepted["total"]
        lines = [
            f"offered    {self.rate:g} requests a second for {self.seconds:g} s, {len(self.samples)} in all",
            f"achieved   {self.achieved:.1f} a second",
            f"latency    {_latency(self.latencies)}",
            f"client     sent 99% within {1000 * self.lateness:.1f} ms of when due, {self.in_flight} in flight at most",
            f"errors     {self.errors.total()}",
            *(f"           {number} x {kind}" for kind, number in self.errors.most_common()),
            f"accepted   {accepted}, with those of {len(self.warm_up)} requests to warm up",
            f"deferred   {self.deferred} of them, to the outbox, which has them counted later",
            *([] if self.moved != self.accepted else [f"/stats     moved by exactly these {accepted}, level by level"]),
            *(f"FAILED     {problem}" for problem in self.problems()),
        ]
        return "\n".join(lines)


def percentile(percent: float, values: Sequence[float]) -> float:
    """The least of the values that ``percent`` of them do not exceed: nearest rank, so a value that was measured."""
    return sorted(values)[max(math.ceil(percent / 100 * len(values)), 1) - 1]


def _latency(latencies: list[float]) -> str:
    if not latencies:
        return "none"
    numbers = {"p50": 50, "p95": 95, "p99": 99, "max": 100}
    figures = (f"{name} {1000 * percentile(percent, latencies):.1f} ms" for name, percent in numbers.items())
    return ", ".join(figures)


def transactions(number: int) -> list[tuple[str, str]]:
    """Idempotency key and body of each request: the samples of ``events/`` in random order, each a transaction anew."""
    run = uuid.uuid4().hex
    samples = [json.loads(line) for line in (events.FOLDER / "transactions.jsonl").read_text().splitlines()]
    mix = random.Random(1).choices(samples, k=number)
    return [(f"{run}-{n}", json.dumps(sample | {"tx_id": f"TX-{run}-{n}"})) for n, sample in enumerate(mix)]


def offer(
    target: Target,
    requests: Sequence[tuple[str, str]],
    rate: float,
    *,
    in_flight: int = IN_FLIGHT,
    drain: float = DRAIN_SECONDS,
    seed: int | None = None,
) -> list[Sample]:
    """Send each request when it is due, and wait for the answers.

    Parameters
    ----------
    target
        Where to.
    requests
        Idempotency key and body of each.
    rate
        Requests a second.
    in_flight
        Requests without an answer at most; where there are as many, those that fall due go out late.
    drain
        Seconds after the last one was due at which all that have no answer have failed.
    seed
        Of when requests fall due at random, as a Poisson process; None for evenly.
    """
    samples = [Sample(due) for due in _schedule(len(requests), rate, seed)]
    places = threading.Semaphore(in_flight)
    start = time.monotonic()
    end = samples[-1].due + drain

    def now() -> float:
        return time.monotonic() - start

    def send(number: int, key: str, body: str) -> None:
        samples[number] = sent = replace(samples[number], sent=now(), error="no answer in time")
        answer, error = _ask(lambda: target.score(key, body))
        if error is None and not _decides(answer, key):
            answer, error = None, "no decision about this request"
        samples[number] = replace(sent, answered=now(), answer=answer, error=error)
        places.release()

    threads = []
    for number, request in enumerate(requests):
        time.sleep(max(0, samples[number].due - now()))
        if not places.acquire(timeout=max(0, end - now())):
            break
        # Daemons, so that none that hangs keeps the command from its end.
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


def _ask(call: Callable[[], tuple[int, str]]) -> tuple[Any, str | None]:
    """The decoded answer, or what kind of failure there was instead."""
    try:
        status, body = call()
        return (json.loads(body), None) if status == 200 else (None, f"{status} {body.strip()[:100]}")
    except Exception as error:  # noqa: BLE001  whatever a request fails with is its result
        return None, type(error).__name__


def _decides(answer: Any, key: str) -> bool:
    return (
        isinstance(answer, dict)
        and answer.get("decision_id") == key
        and {"risk_level", "triggered_rules"} <= answer.keys()
    )


def expected(samples: list[Sample]) -> Counts:
    """What these requests must move ``/stats`` by."""
    counts: Counts = Counter()
    for answer in (s.answer for s in samples if s.answer is not None):
        counts.update(["total", answer["risk_level"], *answer["triggered_rules"]])
        counts.update(["high"] if answer["risk_level"] in {"HIGH", "CRITICAL"} else [])
    return counts


def deferred(samples: list[Sample]) -> int:
    """How many of these were accepted by the outbox."""
    return sum(s.answer is not None and s.answer.get("recorded") is False for s in samples)


def measure(
    target: Target, rate: float, seconds: float, *, in_flight: int = IN_FLIGHT, drain: float = DRAIN_SECONDS
) -> Result:
    """Warm the target up, offer it the load, and compare its counters with what it answered."""
    before = stats(target)
    warm_up = offer(
        target, transactions(WARM_UP_REQUESTS), WARM_UP_RATE, in_flight=min(in_flight, WARM_UP_IN_FLIGHT), drain=drain
    )
    requests = transactions(max(round(rate * seconds), 1))
    samples = offer(target, requests, rate, in_flight=in_flight, drain=drain)
    return Result(rate, warm_up, samples, counted(target, before, warm_up + samples))


def counted(target: Target, before: Counts | None, samples: list[Sample]) -> Counts | None:
    """What ``/stats`` has moved by, once it has moved by these, or will not any more; None where it cannot be read."""
    # What the ledger took is counted when it is answered; only the outbox is given time.
    deadline = time.monotonic() + (OUTBOX_SECONDS if deferred(samples) else 0)
    moved = _moved(before, stats(target))
    while moved != expected(samples) and time.monotonic() < deadline:
        time.sleep(1)
        moved = _moved(before, stats(target))
    return moved


def stats(target: Target) -> Counts | None:
    """The counters of ``/stats``; None where they cannot be read."""
    read, error = _ask(target.stats)
    if error is not None:
        return None
    return Counter({"total": read["total"], "high": read["high"], **read["by_risk_level"], **read["by_rule"]})


def _moved(before: Counts | None, after: Counts | None) -> Counts | None:
    if before is None or after is None:
        return None
    return Counter({name: after[name] - before[name] for name in before | after if after[name] != before[name]})


@contextmanager
def http(log: Path) -> Iterator[Target]:
    """What 'make run' starts, over HTTP, on connections that are kept."""
    with started(log) as service, urllib3.PoolManager(maxsize=IN_FLIGHT, retries=False, timeout=DRAIN_SECONDS) as pool:

        def score(key: str, body: str) -> tuple[int, str]:
            headers = {"content-type": "application/json", "idempotency-key": key}
            response = pool.request("POST", f"{service.url}/score", body=body.encode(), headers=headers)
            return response.status, response.data.decode()

        def stats() -> tuple[int, str]:
            response = pool.request("GET", f"{service.url}/stats")
            return response.status, response.data.decode()

        yield Target(score, stats)


@contextmanager
def handlers(log: Path) -> Iterator[Target]:
    """The functions in their execution environments, invoked with the events of API Gateway."""
    with (
        log.open("wb") as output,
        emulator.running() as endpoint,
        environments.running(emulator.variables(endpoint), log=output.fileno()) as functions,
        event_source.running(emulator.client("sqs", endpoint), functions.invoke),
    ):
        yield invoked(functions)


def invoked(functions: Environments) -> Target:
    """These functions, invoked with the events of API Gateway."""

    def invoke(name: str, event: dict[str, Any]) -> tuple[int, str]:
        answer = json.loads(functions.invoke(name, json.dumps(event)))
        if "errorType" in answer:
            # As API Gateway does, but with what it was.
            return 500, f"{answer['errorType']}: {answer['errorMessage']}"
        return answer["statusCode"], answer["body"]

    def score(key: str, body: str) -> tuple[int, str]:
        event = events.post(
            body, request_id=str(uuid.uuid4()), idempotency_key=key, content_length=str(len(body.encode()))
        )
        return invoke("ScoreFunction", event)

    return Target(score, lambda: invoke("StatsFunction", events.load("stats")))


Open = Callable[[Path], AbstractContextManager[Target]]
TARGETS: dict[str, Open] = {"http": http, "handlers": handlers}


def run(targets: dict[str, Open], rate: float | None, seconds: float) -> int:
    """Load each target in turn, print what came of it, and return the exit code."""
    failed = False
    for name, opened in targets.items():
        with tempfile.NamedTemporaryFile(prefix=f"load-{name}-", suffix=".log", delete=False) as file:
            log = Path(file.name)
        with opened(log) as target:
            result = measure(target, rate or RATES[name], seconds)
        print(f"{name}: {opened.__doc__}\n{result.report()}")
        if result.problems():
            failed = True
            print(f"log        {log}")
        else:
            log.unlink()
        print(flush=True)
    return int(failed)


def positive(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise ValueError
    return number


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="An open-loop load with exact counts, on this machine.")
    parser.add_argument("--target", choices=[*TARGETS, "both"], default="both")
    parser.add_argument("--rate", type=positive, help=f"requests a second; default: {RATES}")
    parser.add_argument("--seconds", type=positive, default=SECONDS)
    arguments = parser.parse_args()
    chosen = TARGETS if arguments.target == "both" else {arguments.target: TARGETS[arguments.target]}
    account.replace()
    with command():
        return run(chosen, arguments.rate, arguments.seconds)
    return 1  # interrupted, so nothing is known


if __name__ == "__main__":
    sys.exit(main())
