"""``make run``: the time to start and to respond."""

import statistics
import time
from pathlib import Path

from tests.service import started


def test_starts_within_5_seconds_and_responds_within_60_ms(tmp_path: Path) -> None:
    start = time.monotonic()
    with started(tmp_path / "stack.log") as stack:
        assert time.monotonic() - start < 5
        latencies = []
        for number in range(100):
            start = time.perf_counter()
            assert stack.post("/score", json={"amount": number}).status_code == 200
            latencies.append(time.perf_counter() - start)
    assert statistics.median(latencies) < 0.06
