"""Batches: how bodies are split into transactions, and that each transaction gets what a single request gets."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring import batches, http_api
from scoring.batches import Item
from scoring.decision import Decision
from scoring.errors import HttpError, InvalidRequest, PayloadTooLarge, UnsupportedMediaType
from scoring.scorers import rules_loader
from tests import batch_corpus, card_rules, corpus, events, rule_set
from tests.batch_corpus import ARRAY, FORMATS, Format
from tests.card_corpus import CARD_CASES, REFUSING_CASES, REFUSING_DOCUMENT
from tests.corpus import BAD_JSON, Case

CONTEXT = SimpleNamespace(aws_request_id="invocation-1")


def read(body: str | bytes | None, content_type: str = "application/json", **headers: str) -> list[Item | HttpError]:
    return batches.read(events.post(body, content_type=content_type, **headers), CONTEXT)


def read_lines(body: str | bytes) -> list[Item | HttpError]:
    return read(body, "application/x-ndjson")


def shown(items: list[Item | HttpError]) -> list[Any]:
    """Return the document of each item, or its error as text."""
    return [str(item) if isinstance(item, HttpError) else item.document for item in items]


@pytest.mark.parametrize("as_bytes", [False, True])
@pytest.mark.parametrize(
    ("body", "documents"),
    [
        ('[{"amount": 1}]', [{"amount": 1}]),
        (' \r\n[\t{"amount": 1} ,\n{"amount": "é, [1]"}\n ]\n', [{"amount": 1}, {"amount": "é, [1]"}]),
        ('[1,"a",null,[],{},[1,{"a":[]}],-2.5e3]', [1, "a", None, [], {}, [1, {"a": []}], -2500.0]),
    ],
)
def test_array(body: str, documents: list[Any], *, as_bytes: bool) -> None:
    items = read(body.encode() if as_bytes else body, "application/vnd.batch+json; charset=utf-8")
    assert shown(items) == documents


@pytest.mark.parametrize("as_bytes", [False, True])
@pytest.mark.parametrize(
    ("body", "documents"),
    [
        ('{"amount": 1}', [{"amount": 1}]),
        ('\n {"amount": 1}\r\n\r\n \t\n{"amount": "é\u2028"}\n\n', [{"amount": 1}, {"amount": "é\u2028"}]),
        ("[1, 2]\n3", [[1, 2], 3]),
    ],
)
def test_lines(body: str, documents: list[Any], *, as_bytes: bool) -> None:
    assert shown(read_lines(body.encode() if as_bytes else body)) == documents


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (None, "The body is empty; it must be a JSON document"),
        (" \n", "The body is empty; it must be a JSON document"),
        ("[]", "The batch is empty; it must have 1 to 1000 transactions"),
        ("[ \n]", "The batch is empty; it must have 1 to 1000 transactions"),
        ("[" + "1," * 1000 + "1]", "The batch has more than 1000 transactions"),
        ("[" + "1," * 1000 + "1", "The batch has more than 1000 transactions"),
        *(
            (body, f"The body must be a JSON array of transactions, not {kind}")
            for body, kind in (("{}", "an object"), ("1" * 5000, "a number"), ('"[]"', "a string"), ("null", "null"))
        ),
        (b"[\xff]", "The body is not valid UTF-8"),
        ("\ufeff[]", BAD_JSON + "it starts with a byte order mark"),
        ("[", BAD_JSON + "Expecting value (line 1 column 2)"),
        ("[1", BAD_JSON + "Expecting ',' delimiter (line 1 column 3)"),
        ("[1 2]", BAD_JSON + "Expecting ',' delimiter (line 1 column 4)"),
        ("[1}", BAD_JSON + "Expecting ',' delimiter (line 1 column 3)"),
        ("[1,]", BAD_JSON + "Expecting value (line 1 column 4)"),
        ("[,1]", BAD_JSON + "Expecting value (line 1 column 2)"),
        ("[1]\n]", BAD_JSON + "Extra data (line 2 column 1)"),
        ('{"a": 1}\n{"a": 1}', BAD_JSON + "Extra data (line 2 column 1)"),
        ('[{"amount": 1},\n {"amount" 1}]', BAD_JSON + "Expecting ':' delimiter (line 2 column 12)"),
        # Errors of single items do not hide that the array is invalid.
        ("[NaN, " + "1" * 5000 + ",\n x]", BAD_JSON + "Expecting value (line 2 column 2)"),
        ("[" * 100_000, "The body is nested too deeply"),
        ("[1, " + "[" * 50_000 + "]" * 49_999, "The body is nested too deeply"),
    ],
)
def test_invalid_array(body: str | bytes | None, error: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        read(body)
    assert str(raised.value) == error


# Mostly brackets and separators, so that many texts are almost or really JSON
_PIECES = st.sampled_from(
    [*'[]{},:" \n1', '"a"', "null", "-2.5e3", '{"a":[1,2]}', "[]", "NaN", '"\\""', '"[,]"', "\ufeff", "é"]
)


@given(st.lists(_PIECES, max_size=12).map(lambda pieces: f"[{''.join(pieces)}]"))
@settings(max_examples=3_000, derandomize=True, database=None)
def test_array_is_split_as_the_decoder_of_the_standard_library_decodes_it(text: str) -> None:
    try:
        expected = json.loads(text, parse_constant=str)
    except ValueError:
        with pytest.raises(InvalidRequest, match="The body is not valid JSON"):
            read(text)
        return
    if not expected:
        with pytest.raises(InvalidRequest, match="The batch is empty"):
            read(text)
        return
    items = read(text)
    assert len(items) == len(expected)
    for item, value in zip(items, expected, strict=True):
        if isinstance(item, Item):
            assert item.document == value
        else:
            assert "NaN" in str(item)
            assert "NaN" in str(value)


@pytest.mark.parametrize("inner", ["", '"]"', r'"\"]"', r'"\\"', '{"a]": "}"}, "["'])
def test_brackets_in_strings_do_not_end_a_deep_transaction(inner: str) -> None:
    deep = "[" * 30_000 + inner + "]" * 30_000
    assert shown(read(f"[1, {deep}, 2]")) == [1, "The body is nested too deeply", 2]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("", "The batch is empty; it must have 1 to 1000 transactions"),
        (" \r\n\n\t", "The batch is empty; it must have 1 to 1000 transactions"),
        ("1\n" * 1001, "The batch has more than 1000 transactions"),
    ],
)
def test_invalid_lines(body: str, error: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        read_lines(body)
    assert str(raised.value) == error


def test_1000_transactions_are_accepted() -> None:
    assert shown(read(json.dumps([*range(1000)]))) == [*range(1000)]
    assert shown(read_lines("1\n\n" * 1000)) == [1] * 1000


@pytest.mark.parametrize("content_type", ["application/json", "application/x-ndjson"])
def test_maximum_size_of_a_batch(content_type: str) -> None:
    body = "[1]" + " " * (5 * 1024 * 1024 - 3)
    assert len(read(body, content_type)) == 1
    assert len(read(body.encode(), content_type)) == 1
    for larger in (body + " ", (body + " ").encode()):
        with pytest.raises(PayloadTooLarge, match=r"^The body is larger than 5242880 bytes$"):
            read(larger, content_type)


@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "application/x-ndjson+xml", "application/jsonl", "text/json"]
)
def test_other_content_type_is_rejected(content_type: str) -> None:
    error = r"^Header 'Content-Type' must be application/json or application/x-ndjson$"
    with pytest.raises(UnsupportedMediaType, match=error):
        read("[1]", content_type)


@pytest.mark.parametrize("content_type", ["application/json", "application/x-ndjson"])
def test_invalid_base64(content_type: str) -> None:
    event = events.post(None, content_type=content_type) | {"body": "%%%", "isBase64Encoded": True}
    with pytest.raises(InvalidRequest, match=r"^The body is not valid base64$"):
        batches.read(event, CONTEXT)


def test_ids_are_made_of_the_index() -> None:
    body = '[{"amount": 1}, x, {"amount": 2, "idempotency_key": "own"}, {"amount": 3}]'.replace("x", "NaN")
    ids = [item.decision_id for item in read(body, request_id="request-1") if isinstance(item, Item)]
    assert ids == ["request-1:0", "own", "request-1:3"]
    ids = [item.decision_id for item in read(body, idempotency_key="k" * 124) if isinstance(item, Item)]
    assert ids == ["k" * 124 + ":0", "own", "k" * 124 + ":3"]
    last = read(json.dumps([0] * 1000), idempotency_key="k" * 124)[-1]
    assert isinstance(last, Item)
    assert len(last.decision_id) == http_api.MAX_KEY_LENGTH


def test_key_is_no_field_of_the_transaction() -> None:
    (item,) = read('[{"idempotency_key": "k", "amount": 1}]')
    assert item == Item({"amount": 1}, "k")


@pytest.mark.parametrize("key", ["k" * 125, "a b", "a,b", "é"])
def test_invalid_header(key: str) -> None:
    error = r"^Header 'Idempotency-Key' must have 1 to 124 visible ASCII characters, no space, no comma$"
    with pytest.raises(InvalidRequest, match=error):
        read('[{"amount": 1, "idempotency_key": "own"}]', idempotency_key=key)


@pytest.mark.parametrize(
    ("key", "error"),
    [
        *[(key, "must be a string") for key in ("null", "1", "true", '["k"]', "{}")],
        *[
            (json.dumps(key), "must have 1 to 128 visible ASCII characters, no space, no comma")
            for key in ("", " ", "a b", "a,b", "a\tb", "\x7f", "é", "\ud83c", "k" * 129)
        ],
    ],
)
def test_invalid_key(key: str, error: str) -> None:
    body = f'[{{"amount": 1}}, {{"amount": 1, "idempotency_key": {key}}}, {{"amount": 2}}]'
    assert shown(read(body)) == [{"amount": 1}, f"Field 'idempotency_key' {error}", {"amount": 2}]


@pytest.mark.parametrize("key", ["k", "k" * 128, corpus.PUNCTUATION])
def test_valid_key(key: str) -> None:
    (item,) = read(json.dumps([{"amount": 1, "idempotency_key": key}]))
    assert item == Item({"amount": 1}, key)


def test_too_large_response_is_refused() -> None:
    """The limit is on the JSON of Lambda's response, in which every quotation mark is escaped."""
    quotes = '"' * 190
    rules = [{**rule_set.DOCUMENT["rules"][0], "label": f"{number}{quotes}"} for number in range(50)]
    scorer = rules_loader.from_document({**rule_set.DOCUMENT, "rules": rules})
    item = Item({"amount": 5000}, "k")
    (decision,) = (one for one in batches.decide([item], scorer) if isinstance(one, Decision))
    fitting = batches.MAX_DECIDED_BYTES // len(json.dumps(json.dumps(decision.response)))
    assert 1 < fitting < batches.MAX_ITEMS
    assert len(batches.decide([item] * fitting, scorer)) == fitting
    error = r"^The response would be larger than 6000000 bytes; send fewer transactions in one batch$"
    with pytest.raises(PayloadTooLarge, match=error):
        batches.decide([item] * (fitting * 11 // 10), scorer)


# Cases that no line can carry
NO_LINES = {
    *("no body", "white space", "JSON lines", "a raw newline in a string"),
    *("6 MB", "6 MB of white space", "4 MB of invalid UTF-8"),
}


@pytest.mark.parametrize("how", FORMATS, ids=["array", "lines"])
@pytest.mark.parametrize(
    ("document", "cases"),
    [(rule_set.DOCUMENT, corpus.CASES), (card_rules.DOCUMENT, CARD_CASES), (REFUSING_DOCUMENT, REFUSING_CASES)],
    ids=["lab", "card", "refusing"],
)
def test_every_case_of_the_corpus(how: Format, document: Any, cases: list[Case]) -> None:
    scorer = rules_loader.from_document(document)
    carried = batch_corpus.carried(cases, how)
    for case in batch_corpus.candidates(cases):
        if case not in carried:
            assert how is ARRAY or case.name in NO_LINES
            if how is ARRAY:
                # The array as a whole is not JSON, or too large.
                with pytest.raises((InvalidRequest, PayloadTooLarge)):
                    read(batch_corpus.body([case], how), how.content_type)
    for batch in batch_corpus.batched(carried):
        decided = batches.decide(read(batch_corpus.body(batch, how), how.content_type), scorer)
        # A valid transaction before each case and after the last one.
        assert [type(one) for one in decided[::2]] == [Decision] * (len(batch) + 1)
        for case, one in zip(batch, decided[1::2], strict=True):
            result: dict[str, Any] = {**one.fallback.response} if isinstance(one, Decision) else {"error": str(one)}
            # The ledger reads the history and then removes this.
            result.pop("degraded", None)
            batch_corpus.check(case, result)
