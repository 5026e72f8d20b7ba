"""Run ``make load`` in short, and test its client against targets with known behaviour."""

import itertools
import json
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean, stdev

import pytest

from tests.local.template import ROOT
from tests.performance import load

LEVELS = ("LOW", "MEDIUM", "HIGH", "CRITICAL")


class FakeTarget:
    """Scores by the amount alone, and counts its responses."""

    def __init__(self) -> None:
        self.responses = 0
        self.levels = dict.fromkeys(LEVELS, 0)
        self._lock = threading.Lock()

    @property
    def target(self) -> load.Target:
        return load.Target(self.score, self.stats)

    def score(self, key: str, body: str) -> tuple[int, str]:
        level = self._level(body)
        with self._lock:
            self.responses += 1
            self.levels[level] += 1
        return 200, json.dumps({"decision_id": key, "risk_level": level, "triggered_rules": []})

    def _level(self, body: str) -> str:
        return "HIGH" if json.loads(body)["amount"] > 3000 else "LOW"

    def stats(self) -> tuple[int, str]:
        return 200, json.dumps(
            {
                "total": sum(self.levels.values()),
                "high": self.levels["HIGH"] + self.levels["CRITICAL"],
                "by_risk_level": self.levels,
                "by_rule": {},
            }
        )


def run(service: FakeTarget, rate: float = 100, seconds: float = 0.5, customers: int = 0) -> int:
    @contextmanager
    def opened(log: Path) -> Iterator[load.Target]:
        """A fake."""
        yield service.target

    return load.run({"fake": opened}, rate, seconds, customers)


@pytest.fixture(autouse=True)
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder that receives the logs."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture(autouse=True)
def max_lateness(monkeypatch: pytest.MonkeyPatch) -> float:
    """Tolerate hiccups of a busy machine, which weigh more in short runs, and return the usual limit."""
    seconds = load.MAX_LATENESS_SECONDS
    monkeypatch.setattr(load, "MAX_LATENESS_SECONDS", 1)
    return seconds


@pytest.mark.parametrize(("target", "rate"), [("http", "20"), ("handlers", "50")])
def test_short_run(target: str, rate: str) -> None:
    command = [sys.executable, "-m", "tests.performance.load", "--target", target, "--rate", rate, "--seconds", "3"]
    result = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=180)
    assert (result.returncode, result.stderr) == (0, ""), result.stdout
    report = dict(line.split(maxsplit=1) for line in result.stdout.splitlines()[1:] if line)
    sent = int(rate) * 3
    accepted = sent + load.WARM_UP_REQUESTS
    assert report["offered"] == f"{rate} requests per second for 3 s, {sent} in total"
    assert report["achieved"] == f"{rate}.0 per second"
    assert report["errors"] == "0"
    assert report["/stats"] == f"changed by exactly {accepted}, level by level"


def test_short_run_with_customers() -> None:
    options = ["--customers", "20", "--environments", "2", "--rate", "40", "--seconds", "3"]
    command = [sys.executable, "-m", "tests.performance.load", *options]
    result = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=180)
    assert (result.returncode, result.stderr) == (0, ""), result.stdout
    lines = result.stdout.splitlines()
    assert lines[0].startswith("handlers: ")
    report = dict(line.split(maxsplit=1) for line in lines[1:] if line)
    assert report["errors"] == "0"
    assert report["/stats"] == "changed by exactly 184, level by level"
    assert report["customers"] == "20, with exact profiles and histories"


@pytest.mark.parametrize("options", [["--customers", "0"], ["--customers", "5", "--target", "http"]])
def test_wrong_options(options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["load", *options])
    with pytest.raises(SystemExit, match="2"):
        load.main()
    assert "--customers" in capsys.readouterr().err


class WithHistory(FakeTarget):
    """Keeps the number of transactions of each customer."""

    def __init__(self) -> None:
        super().__init__()
        self.profiles: Counter[str] = Counter()

    @property
    def target(self) -> load.Target:
        return load.Target(self.score, self.stats, self.transactions)

    def score(self, key: str, body: str) -> tuple[int, str]:
        status, response = super().score(key, body)
        customer = json.loads(body)["customer_id"]
        with self._lock:
            history = {"customer": {"count_1h": min(self.profiles[customer], 64)}}
            self.profiles[customer] += 1
        return status, json.dumps(json.loads(response) | {"history": history})

    def transactions(self, customer: str) -> int:
        return self.profiles[customer]


class Forgetful(WithHistory):
    """Has one transaction too few in each profile."""

    def transactions(self, customer: str) -> int:
        return super().transactions(customer) - 1


class Unlocked(WithHistory):
    """Returns the same history twice."""

    def score(self, key: str, body: str) -> tuple[int, str]:
        status, response = super().score(key, body)
        if key.endswith("-20"):
            response = response.replace('"count_1h": ', '"count_1h": 1')
        return status, response


@pytest.mark.parametrize(
    ("service", "customers", "message"),
    [
        (WithHistory(), 1, ""),
        (WithHistory(), 7, ""),
        (
            Forgetful(),
            7,
            "7 customers have a wrong history, such as C-.*: .* accepted, .* in the profile, count_1h correct",
        ),
        (Unlocked(), 7, r"\d customers have a wrong history, such as C-.*, count_1h \d+$"),
    ],
)
def test_profiles_and_histories_are_checked(
    service: WithHistory, customers: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(service, customers=customers) == bool(message)
    assert len(service.profiles) == customers
    report = capsys.readouterr().out
    assert (f"customers  {customers}, with exact profiles and histories\n" in report) == (not message)
    if message:
        (line,) = [line for line in report.splitlines() if line.startswith("FAILED")]
        assert re.search(message, line), line


@pytest.mark.parametrize(
    ("accepted", "in_profile", "counts", "exact"),
    [
        (0, 0, [], True),
        (3, 3, [2, 0, 1], True),
        (3, 3, [2, 0], True),
        (3, 3, [0, 1, 1], False),
        (3, 3, [0, 1, 3], False),
        (3, 4, [0, 1, 2], False),
        (67, 67, [*range(65), 64, 64], True),
        (67, 67, [*range(65), 64, 63], False),
    ],
)
def test_exact_histories(accepted: int, in_profile: int, counts: list[int], *, exact: bool) -> None:
    assert load.CustomerResult(accepted, in_profile, counts).is_exact == exact


@pytest.mark.parametrize(
    ("percent", "values", "value"),
    [
        # The usual example of nearest rank
        (5, [50, 15, 40, 20, 35], 15),
        (30, [50, 15, 40, 20, 35], 20),
        (40, [50, 15, 40, 20, 35], 20),
        (50, [50, 15, 40, 20, 35], 35),
        (100, [50, 15, 40, 20, 35], 50),
        (50, range(1, 101), 50),
        (95, range(1, 101), 95),
        (99, range(1, 101), 99),
        (99, range(1, 1001), 990),
        (99, [7], 7),
        (0, [7, 8], 7),
    ],
)
def test_percentile(percent: float, values: list[float], value: float) -> None:
    assert load.percentile(percent, values) == value


def test_run_succeeds_with_a_correct_target(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    service = FakeTarget()
    assert run(service) == 0
    assert service.responses == load.WARM_UP_REQUESTS + 50
    assert "FAILED" not in capsys.readouterr().out
    assert not list(logs.iterdir())


class Stalling(FakeTarget):
    """Responds to one request at a time, immediately except for the 20th, which takes a second."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = self.most_waiting = 0
        self._turn = threading.Lock()

    def score(self, key: str, body: str) -> tuple[int, str]:
        self.waiting += 1
        self.most_waiting = max(self.waiting, self.most_waiting)
        with self._turn:
            if key.endswith("-20"):
                time.sleep(1)
            self.waiting -= 1
            return super().score(key, body)


@pytest.mark.parametrize("in_flight", [1, 500])
def test_stall_delays_all_requests_due_meanwhile(in_flight: int) -> None:
    """The time that the client holds a request back is part of its latency."""
    service = Stalling()
    samples = load.offer(service.target, load.keyed_transactions(150), 100, max_in_flight=in_flight)
    latencies = load.Result(100, [], samples, None).latencies
    # One was due every 10 ms of that second, and waited for the rest of it.
    for number in range(20, 110):
        assert latencies[number] > 0.99 - (number - 20) / 100
    assert load.percentile(50, latencies[:20]) < 0.1
    if in_flight == 1:
        assert service.most_waiting == 1
    else:
        assert service.most_waiting > 50


def test_seed_makes_requests_due_at_random() -> None:
    service = FakeTarget()
    samples = load.offer(service.target, load.keyed_transactions(400), 1000, seed=1)
    assert service.responses == 400
    due = [sample.due for sample in samples]
    assert due == [sample.due for sample in load.offer(service.target, load.keyed_transactions(400), 1000, seed=1)]
    gaps = [later - earlier for earlier, later in itertools.pairwise(due)]
    # Mean and deviation of an exponential distribution are equal.
    assert fmean(gaps) == pytest.approx(0.001, rel=0.2)
    assert stdev(gaps) == pytest.approx(0.001, rel=0.2)


def test_run_fails_if_the_rate_is_not_achieved(capsys: pytest.CaptureFixture[str]) -> None:
    class Slow(FakeTarget):
        turn = threading.Lock()

        def score(self, key: str, body: str) -> tuple[int, str]:
            with self.turn:
                time.sleep(0.01)
            return super().score(key, body)

    assert run(Slow(), rate=250, seconds=1) == 1
    # No more than 100 a second for the second and the one after it
    found = re.search(r"^FAILED +(.+) of 250 requests per second achieved$", capsys.readouterr().out, re.MULTILINE)
    assert found
    assert float(found[1]) <= 200


def test_errors_are_reported_by_kind(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Failing(FakeTarget):
        def score(self, key: str, body: str) -> tuple[int, str]:
            match int(key.rpartition("-")[2]):
                case 1 | 2 | 3:
                    return 503, '{"error":"Not now"}\n'
                case 4:
                    raise ConnectionResetError
                case 5:
                    return 200, "[1]"
                case 6:
                    return 200, "<html>"
                case 7:
                    return super().score("another", body)
                case 8:
                    return 200, json.dumps({"decision_id": key})
            return super().score(key, body)

    service = Failing()
    assert run(service) == 1
    report = capsys.readouterr().out
    # Each of them once in the warm-up and once after
    for line in (
        "errors     16",
        '6 x 503 {"error":"Not now"}',
        "6 x not the decision for this request",
        "2 x ConnectionResetError",
        "2 x JSONDecodeError",
        "FAILED     16 requests failed",
        # The target has counted request 7 under another key.
        f"total by {service.responses}, accepted {service.responses - 2}",
    ):
        assert f"{line}\n" in report
    (log,) = logs.iterdir()
    assert report.rstrip().endswith(str(log))


@pytest.mark.parametrize(
    ("wrong", "reported"),
    [
        ({"LOW": 1}, {"LOW": 1, "total": 1}),
        ({"LOW": -1}, {"LOW": -1, "total": -1}),
        ({"LOW": 1, "HIGH": -1}, {"LOW": 1, "HIGH": -1, "high": -1}),
        ({"MEDIUM": 1}, {"MEDIUM": 1, "total": 1}),
    ],
)
def test_run_fails_if_counters_are_off_by_one(
    wrong: dict[str, int], reported: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    class Miscounting(FakeTarget):
        def stats(self) -> tuple[int, str]:
            if self.responses:
                for level, number in wrong.items():
                    self.levels[level] += number
            return super().stats()

    assert run(Miscounting()) == 1
    report = capsys.readouterr().out
    assert "errors     0\n" in report
    assert "exactly" not in report
    (line,) = [line for line in report.splitlines() if "/stats changed wrongly" in line]
    found = re.findall(r"(\w+) by (\d+), accepted (\d+)", line)
    assert {name: int(changed) - int(accepted) for name, changed, accepted in found} == reported


def test_run_fails_if_counters_cannot_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    class Unreadable(FakeTarget):
        def stats(self) -> tuple[int, str]:
            return (503, "{}") if self.responses else super().stats()

    assert run(Unreadable()) == 1
    assert "FAILED     /stats could not be read\n" in capsys.readouterr().out


class Deferring(FakeTarget):
    """Defers the last request, and counts it ``late`` seconds later."""

    def __init__(self, late: float) -> None:
        super().__init__()
        self._late = late

    def score(self, key: str, body: str) -> tuple[int, str]:
        if not key.endswith("-64"):
            return super().score(key, body)
        threading.Timer(self._late, super().score, (key, body)).start()
        return 200, json.dumps(
            {"decision_id": key, "risk_level": self._level(body), "triggered_rules": [], "recorded": False}
        )


@pytest.mark.parametrize(("late", "code"), [(1.5, 0), (4, 1)])
def test_deferred_requests_are_waited_for(
    late: float, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(load, "OUTBOX_SECONDS", 2)
    assert run(Deferring(late), rate=650, seconds=0.1) == code
    report = capsys.readouterr().out
    assert "errors     0\n" in report
    assert "deferred   1 of them" in report
    assert ("changed by exactly 129" in report) == (code == 0)


def test_run_ends_if_the_target_hangs() -> None:
    """The report distinguishes requests without a response from those not sent."""
    never = threading.Event()

    class Hanging(FakeTarget):
        def score(self, key: str, body: str) -> tuple[int, str]:
            if not key.endswith("-0"):
                never.wait()
            return super().score(key, body)

    start = time.monotonic()
    result = load.measure(Hanging().target, 50, 0.5, max_in_flight=30, drain=0.3)
    assert time.monotonic() - start < 5
    # The warm-up may have 8 in flight.
    assert result.errors == {"no response in time": 8 + 24, "not sent, too many in flight": 64 - 9}
    assert result.in_flight == 24
    assert result.lateness < 1
    assert f"{result.achieved:.1f} of 50 requests per second achieved" in result.problems()
    never.set()


def test_run_fails_if_the_client_falls_behind(
    max_lateness: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No Python sends 200,000 requests per second."""
    monkeypatch.setattr(load, "MAX_LATENESS_SECONDS", max_lateness)
    assert run(FakeTarget(), rate=200_000, seconds=0.05) == 1
    report = capsys.readouterr().out
    assert "FAILED     the client fell behind its schedule: the result is not valid\n" in report
    # All requests were still counted.
    assert "errors     0\n" in report
    assert "exactly" in report


def test_warm_up_is_counted_but_not_timed() -> None:
    class Cold(FakeTarget):
        def score(self, key: str, body: str) -> tuple[int, str]:
            time.sleep(0 if self.responses else 0.5)
            return super().score(key, body)

    result = load.measure(Cold().target, 100, 0.2)
    assert result.problems() == []
    assert result.accepted["total"] == load.WARM_UP_REQUESTS + 20
    assert max(result.latencies) < 0.5


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "x"])
def test_rate_must_be_positive_and_finite(text: str) -> None:
    with pytest.raises(ValueError, match=r"^$|float"):
        load.positive(text)
