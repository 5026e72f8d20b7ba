"""Files of models: what is written is read again, and every other file is refused with one line."""

import hashlib
import json
import math
import re
import struct
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from scoring.errors import ModelError
from scoring.scorers.forest import model_file
from scoring.scorers.forest.inputs import Category, Number
from scoring.scorers.forest.model import LOGISTIC, MEAN, Model, Node
from scoring.scorers.forest.shapley import Explainer
from tests.forests import SMALL, Tree, model, output, random_models, write
from tests.unit import json_parts
from tests.unit.strategies import JSON_VALUES

LEAF = 65535
# One tree: x0 <= 0.5 ? 0.25 : 0.75
HEADER: dict[str, Any] = {
    "version": "1.0",
    "features": [{"fact": "x0", "missing": 0.0}, {"fact": "category", "values": ["food", "travel"]}],
    "link": "mean",
    "trees": 1,
    "nodes": 3,
    "levels": {"MEDIUM": 0.1, "HIGH": 0.35, "CRITICAL": 0.7},
    "about": {},
}
COLUMNS, NUMBERS, COVERS = [0, LEAF, LEAF], [0.5, 0.25, 0.75], [30.0, 10.0]
EXTREME_NUMBERS = (0.0, -0.0, 1.0, 5e-324, 2.0**-1022, 1e15, 1e16, -1e6, 1e308, -1e308, math.inf, -math.inf, math.nan)


def signed(content: bytes) -> bytes:
    """Return a file with the correct SHA-256 of its content."""
    return b"risk-scoring-model 1 " + hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def file_of(
    header: Any = None,
    columns: Sequence[int] = COLUMNS,
    numbers: Sequence[float] = NUMBERS,
    covers: Sequence[float] = COVERS,
    **changes: Any,
) -> bytes:
    """Return a file as the documentation of the format says; a header that is not bytes becomes JSON."""
    if not isinstance(header, bytes):
        header = json.dumps({**(header or HEADER), **changes}).encode()
    return signed(
        header
        + b"\n"
        + struct.pack(f"<{len(columns)}H", *columns)
        + struct.pack(f"<{len(numbers)}d", *numbers)
        + struct.pack(f"<{len(covers)}d", *covers)
    )


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in HEADER.items() if key != name}


def number(fact: Any, **changes: Any) -> dict[str, Any]:
    return {"features": [{"fact": fact, "missing": 0, **changes}]}


def category(values: Any) -> dict[str, Any]:
    return {"features": [{"fact": "category", "values": values}]}


def levels(medium: Any, high: Any = 0.35, critical: Any = 0.7) -> dict[str, Any]:
    return {"levels": {"MEDIUM": medium, "HIGH": high, "CRITICAL": critical}}


def chain(depth: int) -> dict[str, Any]:
    """Return the parts of a file with one tree of this depth."""
    return {
        "nodes": 2 * depth + 1,
        "columns": [0, LEAF] * depth + [LEAF],
        "numbers": [0.5] * (2 * depth + 1),
        "covers": [1.0] * (depth + 1),
    }


def stumps(trees: int) -> dict[str, Any]:
    """Return the parts of a file with trees of one leaf."""
    return {
        "trees": trees,
        "nodes": trees,
        "columns": [LEAF] * trees,
        "numbers": [0.5] * trees,
        "covers": [1.0] * trees,
    }


def padded(length: int) -> bytes:
    """Return a valid header of this many bytes."""
    text = json.dumps({**HEADER, "about": {"note": ""}})
    return text.replace('""', f'"{"x" * (length - len(text))}"').encode()


NAMES = "about, features, levels, link, nodes, trees, version"
NOT_A_MODEL = "The file is not a model: it does not begin with a line of risk-scoring-model"
DAMAGED = "The model is damaged: its content does not have the SHA-256 of its first line"
VERSION = "The header's 'version' must have 1 to 40 printable characters"
FACT = "Feature number 1 must be an object with 'fact', 1 to 100 printable characters"
VALUES = "Feature number 1: 'values' must be different strings of 1 to 1000 characters"
EITHER = "Feature number 1 must have either 'missing' or the list 'values'"
INCREASE = "The thresholds of MEDIUM, HIGH, CRITICAL must increase, above 0 and up to 1"
NOT_FINITE = "A threshold, leaf or cover is not a finite number"
COVER = "The cover of a leaf must be above 0 and at most 1e+15"
INCOMPLETE = "A tree is incomplete: a split lacks a subtree"
LINK = "The header's 'link' must be mean or logistic"

INVALID = [
    # The first line
    (b"", NOT_A_MODEL),
    (b"\n", NOT_A_MODEL),
    (b"{}", NOT_A_MODEL),
    (b"risk-scoring-model", NOT_A_MODEL),
    (b"risk-scoring-model 1", NOT_A_MODEL),
    (b"\xef\xbb\xbf" + file_of(), NOT_A_MODEL),
    (file_of().replace(b" ", b"  ", 1), NOT_A_MODEL),
    (b"risk-scoring-model 2 x", "The model has the format '2'; this version reads format 1"),
    (b"risk-scoring-model  x", "The model has the format ''; this version reads format 1"),
    (b"risk-scoring-model \r\x1b\xff x", r"The model has the format '\r\x1b\xff'; this version reads format 1"),
    (
        b"risk-scoring-model " + b"9" * 1_000_000 + b" x",
        f"The model has the format '{'9' * 64}'; this version reads format 1",
    ),
    (b"risk-scoring-model 1 ", DAMAGED),
    (b"risk-scoring-model 1 x\n", DAMAGED),
    (file_of() + b"\n", DAMAGED),
    (file_of().replace(b"\n", b"\r\n", 1), DAMAGED),
    (b"x" * 2_000_001, "The file is larger than 2000000 bytes"),
    # The header as a whole
    (signed(b""), "The header is not valid JSON: Expecting value (line 1 column 1)"),
    (
        file_of(b"{"),
        "The header is not valid JSON: Expecting property name enclosed in double quotes (line 1 column 2)",
    ),
    (file_of(b'{"a": "\xff"}'), "The header is not UTF-8"),
    (file_of(b"\xef\xbb\xbf{}"), "The header is not valid JSON: it starts with a byte order mark"),
    (file_of(b'{"a": NaN}'), "The header is not valid JSON: NaN is not a number in JSON"),
    (file_of(b'{"a": -Infinity}'), "The header is not valid JSON: -Infinity is not a number in JSON"),
    (file_of(b'{"a": ' + b"1" * 5_000 + b"}"), "The header is not valid JSON: a number has too many digits"),
    (file_of(b'{"a\\n\\u001b": 1, "a\\n\\u001b": 2}'), r"Field 'a\n\x1b' appears more than once"),
    (file_of(b'{"about": {"a": 1, "a": 2}}'), "Field 'a' appears more than once"),
    (file_of(b'{"about": ' + b"[" * 190_000), "The header is nested too deeply"),
    (file_of(b'{"about": ' + b'{"a":' * 39_000), "The header is nested too deeply"),
    (file_of(padded(200_001)), "The header is larger than 200000 bytes"),
    (file_of(b"null"), f"The header must be an object with {NAMES}"),
    (file_of(b"[]"), f"The header must be an object with {NAMES}"),
    (file_of(b"{}"), f"The header must be an object with {NAMES}"),
    (file_of(without("about")), f"The header must be an object with {NAMES}"),
    (file_of(without("version")), f"The header must be an object with {NAMES}"),
    (file_of(extra=1), f"The header must be an object with {NAMES}"),
    # The names of the header
    (file_of(version=1.0), VERSION),
    (file_of(version=""), VERSION),
    (file_of(version="x" * 41), VERSION),
    (file_of(version="1.0\n"), VERSION),
    (file_of(version="1.0\x1b[31m"), VERSION),
    (file_of(version="1.0 \u202e"), VERSION),
    (file_of(version="\ud800"), VERSION),
    (file_of(link="logit"), LINK),
    (file_of(link=None), LINK),
    (file_of(link=[]), LINK),
    (file_of(link={"mean": 1}), LINK),
    (file_of(about=[]), "The header's 'about' must be an object"),
    (file_of(about="\n"), "The header's 'about' must be an object"),
    (file_of(trees=0), "The header's 'trees' must be an integer from 1 to 1000"),
    (file_of(trees=1.0), "The header's 'trees' must be an integer from 1 to 1000"),
    (file_of(trees=True), "The header's 'trees' must be an integer from 1 to 1000"),
    (file_of(trees="1"), "The header's 'trees' must be an integer from 1 to 1000"),
    (file_of(trees=1_001), "The header's 'trees' must be an integer from 1 to 1000"),
    (file_of(nodes=0), "The header's 'nodes' must be an integer from 1 to 100000"),
    (file_of(nodes=-3), "The header's 'nodes' must be an integer from 1 to 100000"),
    (file_of(nodes=100_001), "The header's 'nodes' must be an integer from 1 to 100000"),
    (file_of(nodes=10**4_000), "The header's 'nodes' must be an integer from 1 to 100000"),
    (file_of(nodes=[3]), "The header's 'nodes' must be an integer from 1 to 100000"),
    # Features
    (file_of(features={}), "The header's 'features' must be a list"),
    (file_of(features=[]), "The features must have 1 to 1000 columns together"),
    (file_of(**category([])), "The features must have 1 to 1000 columns together"),
    (file_of(**category(list(map(str, range(1_001))))), "The features must have 1 to 1000 columns together"),
    (file_of(features=["x0"]), FACT),
    (file_of(features=[{"missing": 0}]), FACT),
    (file_of(features=[HEADER["features"][0], 1]), FACT.replace("1", "2", 1)),
    (file_of(**number("")), FACT),
    (file_of(**number(1)), FACT),
    (file_of(**number([])), FACT),
    (file_of(**number("x" * 101)), FACT),
    (file_of(**number("two\nlines")), FACT),
    (file_of(**number("\ud800")), FACT),
    (file_of(features=[HEADER["features"][0]] * 2), "The header's 'features' has a fact more than once"),
    (file_of(**number("x0", missing=None)), "Feature number 1: 'missing' must be a number"),
    (file_of(**number("x0", missing=True)), "Feature number 1: 'missing' must be a number"),
    (file_of(**number("x0", missing="0")), "Feature number 1: 'missing' must be a number"),
    (file_of(**number("x0", missing=10**400)), "Feature number 1: 'missing' must be a number"),
    (
        file_of(json.dumps({**HEADER, **number("x0")}).replace('"missing": 0', '"missing": 1e999').encode()),
        "Feature number 1: 'missing' must be a number",
    ),
    (file_of(**number("x0", values=["a"])), EITHER),
    (file_of(**number("x0", note="a")), EITHER),
    (file_of(features=[{"fact": "x0"}]), EITHER),
    (file_of(**category("food")), EITHER),
    (file_of(**category(None)), EITHER),
    (file_of(**category(["food", "food"])), VALUES),
    (file_of(**category([""])), VALUES),
    (file_of(**category(["x" * 1_001])), VALUES),
    (file_of(**category([1])), VALUES),
    (file_of(**category([[]])), VALUES),
    (file_of(**category(["\ud800"])), VALUES),
    # Levels
    (file_of(levels=[0.1, 0.2, 0.3]), "The header's 'levels' must be an object with MEDIUM, HIGH, CRITICAL"),
    (file_of(levels={"MEDIUM": 0.1}), "The header's 'levels' must be an object with MEDIUM, HIGH, CRITICAL"),
    (
        file_of(levels={**HEADER["levels"], "LOW": 0}),
        "The header's 'levels' must be an object with MEDIUM, HIGH, CRITICAL",
    ),
    (file_of(**levels(0)), INCREASE),
    (file_of(**levels(-0.1)), INCREASE),
    (file_of(**levels(0.1, 0.1)), INCREASE),
    (file_of(**levels(0.1, 0.8)), INCREASE),
    (file_of(**levels(0.1, 0.2, 1.001)), INCREASE),
    (file_of(**levels(0.1, 0.2, critical=True)), INCREASE),
    (file_of(**levels("0.1")), INCREASE),
    (file_of(**levels(None)), INCREASE),
    (file_of(**levels(0.1, 0.2, 10**400)), INCREASE),
    # Nodes
    (file_of(covers=[]), "The model cannot have 3 nodes in 1 trees: it has 30 bytes for them"),
    (file_of(columns=[], numbers=[], covers=[]), "The model cannot have 3 nodes in 1 trees: it has 0 bytes for them"),
    (file_of(covers=[1, 1, 1]), "The model cannot have 3 nodes in 1 trees: it has 54 bytes for them"),
    (file_of(nodes=5), "The model cannot have 5 nodes in 1 trees: it has 46 bytes for them"),
    (file_of(nodes=4), "The model cannot have 4 nodes in 1 trees: it has 46 bytes for them"),
    (file_of(trees=2), "The model cannot have 3 nodes in 2 trees: it has 46 bytes for them"),
    (file_of(trees=3), "The model cannot have 3 nodes in 3 trees: it has 46 bytes for them"),
    (file_of(trees=5), "The model cannot have 3 nodes in 5 trees: it has 46 bytes for them"),
    (file_of(trees=3, covers=[1, 1, 1]), "The model has 1 trees, not 3"),
    (file_of(columns=[LEAF] * 3), "The model has 3 trees, not 1"),
    (file_of(columns=[3, LEAF, LEAF]), "A node refers to column 3; the columns are 0 to 2"),
    (file_of(columns=[65534, LEAF, LEAF]), "A node refers to column 65534; the columns are 0 to 2"),
    (file_of(columns=[0, 0, 0]), INCOMPLETE),
    (file_of(columns=[0, LEAF, 0]), INCOMPLETE),
    (file_of(columns=[LEAF, 0, LEAF]), INCOMPLETE),
    (file_of(columns=[LEAF, LEAF, 0]), INCOMPLETE),
    (file_of(numbers=[math.nan, 0.25, 0.75]), NOT_FINITE),
    (file_of(numbers=[math.inf, 0.25, 0.75]), NOT_FINITE),
    (file_of(numbers=[0.5, math.nan, 0.75]), NOT_FINITE),
    (file_of(numbers=[0.5, 0.25, -math.inf]), NOT_FINITE),
    (file_of(covers=[math.nan, 1]), NOT_FINITE),
    (file_of(covers=[1, math.inf]), NOT_FINITE),
    (file_of(covers=[0, 1]), COVER),
    (file_of(covers=[1, -1]), COVER),
    (file_of(covers=[1, 1.1e15]), COVER),
    (file_of(numbers=[0.5, 0.25, 1 + 2**-52]), "The value of a leaf must be from 0.0 to 1.0"),
    (file_of(numbers=[0.5, -5e-324, 0.75]), "The value of a leaf must be from 0.0 to 1.0"),
    (file_of(link="logistic", numbers=[0.5, 1, 1e6 + 1]), "The value of a leaf must be from -1000000.0 to 1000000.0"),
    (file_of(link="logistic", numbers=[0.5, -1e300, 1]), "The value of a leaf must be from -1000000.0 to 1000000.0"),
    (file_of(**chain(65)), "A tree is deeper than 64 splits"),
    (file_of(**chain(40_000)), "A tree is deeper than 64 splits"),
    (file_of(**stumps(1_001)), "The header's 'trees' must be an integer from 1 to 1000"),
]


def error_of(content: bytes) -> str:
    """Return why a file is refused: one line of a sane length, in less than a second."""
    start = time.process_time()
    with pytest.raises(ModelError) as caught:
        model_file.from_bytes(content)
    assert time.process_time() - start < 1
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 500
    return text


def assert_usable(loaded: Model) -> None:
    """Check that a model gives a probability, a level and contributions for any row."""
    explainer = Explainer(loaded)
    columns = len(loaded.inputs.names)
    random = Random(columns)
    largest = max(1.0, *[abs(leaf) for tree in loaded.trees for leaf in leaves(tree)])
    tolerance = 1e-9 * (largest * len(loaded.trees) if loaded.link == LOGISTIC else 1)
    rows = [[value] * columns for value in (0.0, 1.0, -1.7e308, 1.7e308)]
    rows += [[random.choice([-1e300, -1.0, 0.25, 0.5, 1.0, 2.0**63]) for _ in range(columns)] for _ in range(4)]
    for row in rows:
        probability = loaded.probability(row)
        assert 0 <= probability <= 1
        assert loaded.level(probability) in range(4)
        contributions = explainer.contributions(row)
        assert len(contributions) == columns
        assert all(map(math.isfinite, contributions))
        assert math.fsum([explainer.base, *contributions]) == pytest.approx(output(loaded, row), abs=tolerance)


def leaves(node: Node) -> list[float]:
    return leaves(node[2]) + leaves(node[3]) if isinstance(node, tuple) else [node]


@pytest.mark.parametrize(("content", "message"), INVALID, ids=range(len(INVALID)))
def test_invalid_file(content: bytes, message: str) -> None:
    assert error_of(content) == message


@pytest.mark.parametrize(
    "content",
    [
        file_of(),
        file_of(version="x" * 40),
        file_of(version="é +1"),
        file_of(link="logistic", numbers=[0.5, -1e6, 1e6]),
        file_of(numbers=[-1e308, 0, 1], covers=[5e-324, 1e15]),
        file_of(columns=[2, LEAF, LEAF]),
        file_of(**levels(5e-324, 0.5, 1)),
        file_of(**category(["x" * 1_000, "two\nlines"])),
        file_of(**number("x" * 100)),
        file_of(**number("x0", missing=-1e308)),
        file_of(**category(list(map(str, range(1_000))))),
        file_of(padded(200_000)),
        file_of(about={"deep": json.loads("[" * 400 + "]" * 400)}),
        file_of(**stumps(1_000)),
        file_of(**chain(64)),
    ],
    ids=range(15),
)
def test_limits_are_valid(content: bytes) -> None:
    assert_usable(model_file.from_bytes(content))


def assert_same(found: Model, written: Model) -> None:
    assert found._replace(inputs=written.inputs) == written
    assert found.inputs.features == written.inputs.features


# The numbers at both ends of every range
MEAN_LEAVES = st.floats(0, 1)
LOG_ODDS = st.floats(-model_file.MAX_LOG_ODDS, model_file.MAX_LOG_ODDS)
THRESHOLDS = st.floats(allow_nan=False, allow_infinity=False)
COVER_VALUES = st.floats(5e-324, model_file.MAX_COVER)
TEXTS = st.text(min_size=1, max_size=8)
FACTS = TEXTS.filter(str.isprintable)
FEATURES = st.lists(
    st.builds(Number, FACTS, THRESHOLDS)
    | st.builds(Category, FACTS, st.lists(TEXTS, min_size=1, max_size=3, unique=True).map(tuple)),
    min_size=1,
    max_size=3,
    unique_by=lambda feature: feature.fact,
)


@st.composite
def models(draw: st.DrawFn) -> Model:
    """Draw a model from everything that a file can contain."""
    features = draw(FEATURES)
    columns = sum([1 if isinstance(one, Number) else len(one.values) for one in features])
    link = draw(st.sampled_from([MEAN, LOGISTIC]))
    tree: st.SearchStrategy[Tree] = st.recursive(
        st.tuples(MEAN_LEAVES if link == MEAN else LOG_ODDS, COVER_VALUES),
        lambda below: st.tuples(st.integers(0, columns - 1), THRESHOLDS, below, below),
        max_leaves=4,
    )
    medium, high, critical = sorted(draw(st.lists(st.floats(5e-324, 1), min_size=3, max_size=3, unique=True)))
    return model(
        *draw(st.lists(tree, min_size=1, max_size=2)),
        features=features,
        link=link,
        levels=(medium, high, critical),
        version=draw(st.text(min_size=1, max_size=40).filter(str.isprintable)),
        about=draw(st.dictionaries(TEXTS, st.none() | st.integers() | TEXTS | st.lists(st.booleans()), max_size=3)),
    )


@given(models())
def test_round_trip(written: Model) -> None:
    content = model_file.encode(written)
    found = model_file.from_bytes(content)
    assert_same(found, written)
    assert model_file.encode(found) == content


def test_format() -> None:
    """Files that an earlier version wrote must stay readable: only add to this test."""
    content = signed(
        b'{"version":"1.0","features":[{"fact":"amount","missing":-1.5},{"fact":"category","values":["food"]}],'
        b'"link":"mean","trees":2,"nodes":4,"levels":{"MEDIUM":0.1,"HIGH":0.35,"CRITICAL":0.7},"about":{"rows":4}}\n'
        b"\x01\x00\xff\xff\xff\xff\xff\xff"
        b"\x00\x00\x00\x00\x00\x00\xe0?\x00\x00\x00\x00\x00\x00\xd0?\x00\x00\x00\x00\x00\x00\xe8?\x00\x00\x00\x00\x00\x00\xf0?"
        b"\x00\x00\x00\x00\x00\x00\x08@\x00\x00\x00\x00\x00\x00\xf0?\x00\x00\x00\x00\x00\x00\x10@"
    )
    written = model(
        (1, 0.5, (0.25, 3.0), (0.75, 1.0)),
        (1.0, 4.0),
        features=[Number("amount", -1.5), Category("category", ("food",))],
        version="1.0",
        about={"rows": 4},
    )
    assert model_file.encode(written) == content
    assert_same(model_file.from_bytes(content), written)


SMALL_FILE = model_file.encode(SMALL)


def test_every_truncated_file_is_refused() -> None:
    for length in range(len(SMALL_FILE)):
        assert error_of(SMALL_FILE[:length]) in {NOT_A_MODEL, DAMAGED}


def test_every_changed_byte_is_detected() -> None:
    for position, byte in enumerate(SMALL_FILE):
        before, after = SMALL_FILE[:position], SMALL_FILE[position + 1 :]
        changed = [before + after]
        changed += [before + bytes([byte ^ 1 << bit]) + after for bit in range(8)]
        changed += [before + bytes([other, byte]) + after for other in b"\x00\n\r 0a\xff" if other != byte]
        for content in changed:
            assert error_of(content)


def assert_refused_or_usable(content: bytes) -> None:
    """Check a file whose SHA-256 is correct."""
    start = time.process_time()
    try:
        loaded = model_file.from_bytes(content)
    except ModelError as error:
        assert str(error).isprintable()
        assert len(str(error)) < 500
    else:
        assert_usable(loaded)
    assert time.process_time() - start < 1


@given(random_models() | st.just(SMALL), st.data())
def test_changed_bytes_with_correct_hash(written: Model, data: st.DataObject) -> None:
    content = bytearray(model_file.encode(written).partition(b"\n")[2])
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(content)))
        length = data.draw(st.integers(0, 10))
        content[position : position + length] = data.draw(st.binary(min_size=length, max_size=length) | st.binary())
    assert_refused_or_usable(signed(bytes(content)))


@given(st.data())
def test_changed_header_with_correct_hash(data: st.DataObject) -> None:
    text, _, rest = SMALL_FILE.partition(b"\n")[2].partition(b"\n")
    header = json.loads(text)
    holders = [value for _, value in json_parts.parts(header) if isinstance(value, dict | list) and value]
    for _ in range(data.draw(st.integers(1, 2))):
        holder = data.draw(st.sampled_from(holders))
        key = data.draw(st.sampled_from(sorted(holder) if isinstance(holder, dict) else range(len(holder))))
        holder[key] = data.draw(JSON_VALUES | st.sampled_from(EXTREME_NUMBERS) | st.sampled_from(holders))
    try:
        changed = json.dumps(header).encode()
    except ValueError:
        assume(False)  # noqa: FBT003  a part of the header was placed in itself
    assert_refused_or_usable(signed(changed + b"\n" + rest))


@given(random_models(), st.data())
def test_changed_nodes_with_correct_hash(written: Model, data: st.DataObject) -> None:
    header, _, rest = model_file.encode(written).partition(b"\n")[2].partition(b"\n")
    nodes = json.loads(header)["nodes"]
    columns = list(struct.unpack_from(f"<{nodes}H", rest))
    numbers = list(struct.unpack(f"<{(len(rest) - 2 * nodes) // 8}d", rest[2 * nodes :]))
    column = st.integers(0, 5) | st.just(LEAF) | st.integers(0, LEAF)
    for _ in range(data.draw(st.integers(1, 2))):
        columns[data.draw(st.integers(0, nodes - 1))] = data.draw(column)
    for _ in range(data.draw(st.integers(1, 2))):
        numbers[data.draw(st.integers(0, len(numbers) - 1))] = data.draw(st.sampled_from(EXTREME_NUMBERS))
    assert_refused_or_usable(file_of(header, columns, numbers, []))


def test_largest_model_loads_in_a_second() -> None:
    """It has the most nodes in the most trees, and the largest header."""
    # 1,000 trees of 50 leaves each
    columns = ([0] * 49 + [LEAF] * 50) * 1_000
    content = file_of(
        json.dumps({**HEADER, "trees": 1_000, "nodes": len(columns)}).encode().ljust(200_000),
        columns,
        [0.5] * len(columns),
        [1.0] * 50_000,
    )
    start = time.process_time()
    loaded = model_file.from_bytes(content)
    assert time.process_time() - start < 1
    assert (len(loaded.trees), len(loaded.covers)) == (1_000, 50_000)
    assert loaded.probability([1.0] * 3) == 0.5


def test_from_file(tmp_path: Path) -> None:
    path = write(tmp_path / "forest.model")
    assert_same(model_file.from_file(str(path)), SMALL)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", NOT_A_MODEL),
        (SMALL_FILE[:-1], DAMAGED),
        (file_of(link=""), LINK),
        (file_of(b"{"), "The header is not valid JSON: Expecting property name enclosed in double quotes"),
        (SMALL_FILE + b"x" * 10_000_000, "The file is larger than 2000000 bytes"),
    ],
)
def test_error_begins_with_the_name_of_the_file(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "forest.model"
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        model_file.from_file(str(path))
    assert str(caught.value).startswith(f"forest.model: {message}")


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"^forest\.model: The file cannot be read: No such file or directory$"):
        model_file.from_file(str(tmp_path / "forest.model"))
    with pytest.raises(ModelError, match=rf"^{re.escape(tmp_path.name)}: The file cannot be read: Is a directory$"):
        model_file.from_file(str(tmp_path))
