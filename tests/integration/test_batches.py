"""``POST /score/batch`` over HTTP: the corpus in batches, sizes, and exactly once with several environments."""

import json
import random
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from scoring import batches
from tests import batch_corpus, card_rules, corpus
from tests.batch_corpus import ARRAY, FORMATS, LINES, Format
from tests.card_corpus import CARD_CASES, REFUSING_CASES, REFUSING_DOCUMENT
from tests.corpus import INJECTED
from tests.sending import level_changes
from tests.service import STACK_LOGGING_JSON, LocalStack, RunningService, checkout, started

THREADS = 12


def send(service: RunningService, items: Any, how: Format = ARRAY, key: str | None = None) -> list[dict[str, Any]]:
    """Send a batch, given as its items or as its body, and return the results."""
    body = items if isinstance(items, bytes) else json.dumps(items).encode()
    headers = {"Content-Type": how.content_type, "Idempotency-Key": key}
    response = service.post("/score/batch", data=body, headers=headers)
    assert response.status_code == 200, response.text
    results: list[dict[str, Any]] = response.json()["results"]
    return results


class TestCorpus:
    """The cases of the corpus as transactions of batches."""

    cases = corpus.CASES

    @pytest.mark.parametrize("how", FORMATS, ids=["array", "lines"])
    def test_every_transaction_gets_what_a_single_request_gets(self, service: LocalStack, how: Format) -> None:
        before, printed = service.stats(), service.log.read_text()
        counted = Counter[str]()
        cases = batch_corpus.carried(self.cases, how)
        for batch in batch_corpus.batched(cases):
            results = send(service, batch_corpus.body(batch, how), how)
            assert ["error" in result for result in results[::2]] == [False] * (len(batch) + 1)
            for case, result in zip(batch, results[1::2], strict=True):
                batch_corpus.check(case, result)
            counted.update(result["risk_level"] for result in results if "error" not in result)
        assert level_changes(before, service.stats()) == counted
        log = service.log.read_text().removeprefix(printed)
        assert "Traceback" not in log
        assert INJECTED not in log


class TestCardCorpus(TestCorpus):
    """The cases for declared fields."""

    document = card_rules.DOCUMENT
    cases = CARD_CASES

    @pytest.fixture(scope="class")
    @classmethod
    def service(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
        folder = tmp_path_factory.mktemp("stack")
        root = checkout(folder / "checkout", cls.document)
        with started(folder / "stack.log", root, STACK_LOGGING_JSON) as stack:
            yield stack


class TestRefusingCorpus(TestCardCorpus):
    """The cases for a rule set that refuses unknown fields."""

    document = REFUSING_DOCUMENT
    cases = REFUSING_CASES


class TestBatch:
    """Runs against the local stack here; subclassed for other targets."""

    def test_1000_transactions_and_their_replay(self, service: RunningService) -> None:
        before = service.stats()
        items = [{"tx_id": f"TX-{uuid.uuid4()}", "amount": number * 5} for number in range(batches.MAX_ITEMS)]
        key = "k" * (batches.MAX_BATCH_KEY_LENGTH - 32) + uuid.uuid4().hex
        first, second = (send(service, items, ARRAY, key) for _ in range(2))
        assert [result["decision_id"] for result in first] == [f"{key}:{index}" for index in range(1000)]
        assert second == [{**result, "replayed": True} for result in first]
        assert level_changes(before, service.stats()) == Counter(result["risk_level"] for result in first)
        (found,) = service.get(f"/transaction/{items[-1]['tx_id']}").json()["decisions"]
        assert found == {**first[-1], "transaction": items[-1]}

    def test_single_request_replays_a_batch(self, service: RunningService) -> None:
        key, transaction = uuid.uuid4().hex, {"tx_id": f"TX-{uuid.uuid4()}", "amount": 4500.0, "hour": 3}
        (decided,) = send(service, [{**transaction, "idempotency_key": key}])
        response = service.post("/score", json=transaction, headers={"Idempotency-Key": key})
        assert (response.headers["Idempotent-Replayed"], response.json()) == ("true", decided)
        other = {**transaction, "amount": 1}
        response = service.post("/score", json=other, headers={"Idempotency-Key": key})
        assert response.status_code == 422
        assert send(service, [{**other, "idempotency_key": key}, other])[0] == response.json()

    @pytest.mark.parametrize("how", FORMATS, ids=["array", "lines"])
    def test_largest_body(self, service: RunningService, how: Format) -> None:
        # Spaces, since in API Gateway's event other characters can take more than a byte.
        body = b'[{"amount": 1}]' if how is ARRAY else b'{"amount": 1}\n' + b" " * 60_000
        size = batches.MAX_BATCH_BYTES if how is ARRAY else 4_600_000
        (result,) = send(service, body.ljust(size), how)
        assert result["risk_level"] == "LOW"

    @pytest.mark.parametrize(
        ("body", "content_type", "status", "error"),
        [
            (b"", "application/json", 400, "The body is empty; it must be a JSON document"),
            (b"[]", "application/json", 400, "The batch is empty; it must have 1 to 1000 transactions"),
            (b"\n\n", "application/x-ndjson", 400, "The batch is empty; it must have 1 to 1000 transactions"),
            (b"{}\n" * 1001, "application/x-ndjson", 400, "The batch has more than 1000 transactions"),
            (b'{"amount": 1}', "application/json", 400, "The body must be a JSON array of transactions, not an object"),
            (b"[{}", "application/json", 400, corpus.BAD_JSON + "Expecting ',' delimiter (line 1 column 4)"),
            (
                b"[]",
                "text/plain",
                415,
                "Header 'Content-Type' must be application/json or application/x-ndjson",
            ),
        ],
    )
    def test_invalid_request(
        self, service: RunningService, body: bytes, content_type: str, status: int, error: str
    ) -> None:
        before = service.stats()
        response = service.post("/score/batch", data=body, headers={"Content-Type": content_type})
        assert (response.status_code, response.json()) == (status, {"error": error})
        assert service.stats() == before


def test_too_large_body(service: LocalStack) -> None:
    """API Gateway may refuse such a body itself."""
    response = service.post(
        "/score/batch", data=b"[" + b" " * batches.MAX_BATCH_BYTES, headers={"Content-Type": "application/json"}
    )
    assert (response.status_code, response.json()) == (413, {"error": "The body is larger than 5242880 bytes"})


def test_wrong_method(service: LocalStack) -> None:
    response = service.get("/score/batch")
    assert (response.status_code, response.headers["Allow"]) == (405, "POST")


def test_concurrent_batches_that_overlap_count_every_key_once(service: LocalStack) -> None:
    before = service.stats()
    run = uuid.uuid4().hex
    pool = [
        {"tx_id": f"TX-{run}-{number}", "amount": number * 20, "idempotency_key": f"{run}-{number}"}
        for number in range(400)
    ]
    draw = random.Random(1)
    sent = [draw.sample(pool, 250) for _ in range(THREADS)]
    barrier = threading.Barrier(THREADS)

    def work(number: int) -> list[dict[str, Any]]:
        barrier.wait()
        return send(service, sent[number])

    with ThreadPoolExecutor(THREADS) as threads:
        results = list(threads.map(work, range(THREADS)))

    decisions: dict[str, dict[str, Any]] = {}
    fresh = Counter[str]()
    for batch, found in zip(sent, results, strict=True):
        for item, result in zip(batch, found, strict=True):
            assert result["decision_id"] == item["idempotency_key"]
            fresh[result["decision_id"]] += not result.pop("replayed", False)
            assert result == decisions.setdefault(result["decision_id"], result)
    assert set(fresh.values()) == {1}
    expected = Counter(result["risk_level"] for result in decisions.values())
    assert level_changes(before, service.stats()) == expected


def test_one_invalid_line_spoils_no_other(service: LocalStack) -> None:
    before = service.stats()["total"]
    good = [json.dumps({"amount": number}).encode() for number in range(500)]
    bad = [b"{", b"\xff", b"NaN", b"[" * 20_000, b'{"amount": 1, "amount": 1}', b"x" * 70_000]
    lines = [
        line for number, one in enumerate(good) for line in ((one, bad[number % 6]) if number % 7 == 0 else (one,))
    ]
    results = send(service, b"\n".join(lines), LINES)
    assert ["error" in result for result in results] == [line in bad for line in lines]
    assert service.stats()["total"] == before + len(good)
