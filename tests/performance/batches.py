"""Compare batches of 1,000 transactions with single requests: rate on the local stack, and write units.

    .venv/bin/python -m tests.performance.batches

Both are sent over HTTP in turn, single requests from several clients at once, batches one by one. Every decision must
be recorded and counted.
"""

import contextlib
import io
import statistics
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scoring.batches import MAX_ITEMS
from tests import rule_set
from tests.capacity import cost
from tests.capacity.cost import Usage
from tests.local import account
from tests.local.processes import command
from tests.markdown import table
from tests.performance.load import keyed_transactions
from tests.service import RunningService, checkout, started

CLIENTS = 4
ROUNDS = 3
BATCHES_PER_ROUND = 3
_WARM_UP = 50


@dataclass(frozen=True)
class Measurement:
    """The figures of both ways to score.

    Attributes
    ----------
    single_rates, batch_rates
        Decisions a second, of each round.
    single, batch
        Usage per decision.
    processor_seconds
        Processor time of a decision in a batch.
    """

    single_rates: list[float]
    batch_rates: list[float]
    single: Usage
    batch: Usage
    processor_seconds: float

    @property
    def ratio(self) -> float:
        """Rate of batches as a multiple of that of single requests; the median of the rounds."""
        return statistics.median(
            batch / single for single, batch in zip(self.single_rates, self.batch_rates, strict=True)
        )

    @property
    def share_of_units(self) -> float:
        """The write units of a batch as a share of those of single requests."""
        return _units(self.batch) / _units(self.single)


def measure(rounds: int = ROUNDS, singles: int = MAX_ITEMS) -> Measurement:
    """Measure both in turn on one local stack.

    Raises
    ------
    RuntimeError
        A request failed, or a decision was not recorded or not counted.
    """
    single_rates, batch_rates = [], []
    with tempfile.TemporaryDirectory() as folder:
        root = checkout(Path(folder, "checkout"), rule_set.DOCUMENT)
        with started(Path(folder, "stack.log"), root) as service:
            send_single(service, _WARM_UP)
            send_batch(service)
            for _ in range(rounds):
                single_rates.append(singles / send_single(service, singles))
                seconds = statistics.median(send_batch(service) for _ in range(BATCHES_PER_ROUND))
                batch_rates.append(MAX_ITEMS / seconds)
            expected = _WARM_UP + MAX_ITEMS + rounds * (singles + BATCHES_PER_ROUND * MAX_ITEMS)
            if service.stats()["total"] != expected:
                raise RuntimeError(f"{service.stats()['total']} decisions were counted, not {expected}")
    return Measurement(single_rates, batch_rates, cost.measure(), cost.measure_batch(), _processor_seconds())


def send_single(service: RunningService, number: int) -> float:
    """Send single requests from several clients; return the seconds that they take."""
    requests = keyed_transactions(number)

    def send(request: tuple[str, str]) -> None:
        key, body = request
        response = service.post("/score", data=body, headers={**_JSON, "Idempotency-Key": key})
        check([response.json()] if response.status_code == 200 else [{"error": response.text}], 1)

    with ThreadPoolExecutor(CLIENTS) as pool:
        start = time.perf_counter()
        list(pool.map(send, requests))
        return time.perf_counter() - start


def send_batch(service: RunningService) -> float:
    """Send a batch of new transactions; return the seconds that it takes."""
    requests = keyed_transactions(MAX_ITEMS)
    body = f"[{', '.join(body for _, body in requests)}]"
    start = time.perf_counter()
    response = service.post("/score/batch", data=body, headers={**_JSON, "Idempotency-Key": requests[0][0]})
    seconds = time.perf_counter() - start
    check(response.json().get("results", [{"error": response.text}]), MAX_ITEMS)
    return seconds


def check(results: list[dict[str, Any]], number: int) -> None:
    """Raise RuntimeError unless there is a new, recorded decision for each transaction."""
    problems = Counter(
        str(result.get("error", "not recorded, or a replay"))
        for result in results
        if {"error", "recorded", "replayed"} & result.keys()
    )
    if problems or len(results) != number:
        raise RuntimeError(f"{number} transactions got {len(results)} results, among them {dict(problems)}")


def _processor_seconds() -> float:
    """Return the processor time of a decision in a batch, without the calls of DynamoDB."""
    times = []
    for _ in range(5):
        with contextlib.redirect_stdout(io.StringIO()):
            start = time.process_time()
            cost.measure_batch()
            times.append(time.process_time() - start)
    return min(times) / MAX_ITEMS


def _units(usage: Usage) -> float:
    return usage.decision_units + usage.shard_units


def report(found: Measurement) -> str:
    """Return a table."""
    single, batch = statistics.median(found.single_rates), statistics.median(found.batch_rates)
    units = [1000 * _units(usage) for usage in (found.single, found.batch)]
    return table(
        ["", "1,000 requests", "a batch of 1,000", "ratio"],
        [
            ["decisions a second", f"{single:.0f}", f"{batch:,.0f}", f"{found.ratio:.1f}"],
            ["write units", *(f"{number:,.0f}" for number in units), f"{found.share_of_units:.3f}"],
        ],
    )


_JSON = {"Content-Type": "application/json"}


def main() -> None:
    """Print the table."""
    account.replace()
    with command():
        try:
            found = measure()
        except RuntimeError as error:
            sys.exit(f"FAILED     {error}")
        print(f"{report(found)}\n\nProcessor time of a decision in a batch: {found.processor_seconds * 1e6:.0f} us")


if __name__ == "__main__":
    main()
