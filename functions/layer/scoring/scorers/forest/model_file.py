"""The file of a model: how to write it, and how to read it safely.

====== ===========================================================================================================
part   content
====== ===========================================================================================================
line 1 ``risk-scoring-model 1``, a space, and the SHA-256 of all that follows the line
line 2 the header: a JSON object with the names in :data:`HEADER_NAMES`
rest   little-endian: the column of each node (2 bytes, 65535 for a leaf); the threshold or value of each node (a
       double); the cover of each leaf (a double)
====== ===========================================================================================================

Nodes are in preorder: a split, then its left subtree, then its right one. So a tree needs no pointers, and a file can
contain neither loops nor shared subtrees. A file is data: unlike a pickle, it runs no code.
"""

import gc
import hashlib
import math
import os
import struct
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from scoring import strict_json
from scoring.assessment import RISK_LEVELS
from scoring.errors import InvalidRequest, ModelError
from scoring.scorers.forest.inputs import Category, Inputs, Number
from scoring.scorers.forest.model import LOGISTIC, MEAN, Model, Node
from scoring.strict_json import SHOWN_LENGTH

MAGIC = "risk-scoring-model"
FORMAT = 1
HEADER_NAMES = frozenset({"version", "features", "link", "trees", "nodes", "levels", "about"})
MAX_VERSION_LENGTH = 40
# Such a model takes 30 ms and 10 MB to load, and a millisecond for a decision.
MAX_NODES = 100_000
MAX_TREES = 1_000
MAX_COLUMNS = 1_000
MAX_DEPTH = 64
MAX_HEADER_BYTES = 200_000
MAX_FACT_LENGTH = 100
MAX_VALUE_LENGTH = 1_000
# Log-odds of a leaf; the sum of those of all trees cannot overflow.
MAX_LOG_ODDS = 1_000_000.0
# Covers of all leaves can be added and divided without overflow.
MAX_COVER = 1e15

_LEAF = 0xFFFF
_COLUMN_BYTES, _NUMBER_BYTES = 2, 8
_MAX_FILE_BYTES = MAX_HEADER_BYTES + MAX_NODES * (_COLUMN_BYTES + 2 * _NUMBER_BYTES)
# Levels that have a threshold
_LEVELS = RISK_LEVELS[1:]


def encode(model: Model) -> bytes:
    """Return the file of a model."""
    columns: list[int] = []
    numbers: list[float] = []
    pending = list(reversed(model.trees))
    while pending:
        node = pending.pop()
        if isinstance(node, tuple):
            column, number, left, right = node
            pending += (right, left)
        else:
            column, number = _LEAF, node
        columns.append(column)
        numbers.append(number)
    header = {
        "version": model.version,
        "features": [
            {"fact": one.fact, "missing": one.missing}
            if isinstance(one, Number)
            else {"fact": one.fact, "values": one.values}
            for one in model.inputs.features
        ],
        "link": model.link,
        "trees": len(model.trees),
        "nodes": len(columns),
        "levels": {RISK_LEVELS[level]: minimum for level, minimum in reversed(model.levels)},
        "about": model.about,
    }
    content = b"".join(
        (
            strict_json.encode(header).encode() + b"\n",
            struct.pack(f"<{len(columns)}H", *columns),
            struct.pack(f"<{len(numbers)}d", *numbers),
            struct.pack(f"<{len(model.covers)}d", *model.covers),
        )
    )
    return f"{MAGIC} {FORMAT} {hashlib.sha256(content).hexdigest()}\n".encode() + content


def from_file(path: str) -> Model:
    """Read a model from a file.

    Raises
    ------
    ModelError
        The file cannot be read, or is not a valid model; the text is one line and begins with the name of the file.
    """
    name = os.path.basename(path)  # noqa: PTH119  as in scoring.scorers
    # Loading makes many objects and no garbage, as for rule sets.
    collects = gc.isenabled()
    gc.disable()
    try:
        with open(path, "rb") as file:  # noqa: PTH123  as in scoring.scorers
            return from_bytes(file.read(_MAX_FILE_BYTES + 1))
    except ModelError as error:
        raise ModelError(f"{name}: {error}") from None
    except OSError as error:
        raise ModelError(f"{name}: The file cannot be read: {error.strerror}") from None
    finally:
        if collects:
            gc.enable()


def from_bytes(content: bytes) -> Model:
    """Read a model from the content of a file.

    Raises
    ------
    ModelError
        The content is not a valid model.
    """
    if len(content) > _MAX_FILE_BYTES:
        raise ModelError(f"The file is larger than {_MAX_FILE_BYTES} bytes")
    first, _, rest = content.partition(b"\n")
    words = first.split(b" ")
    if words[0] != MAGIC.encode() or len(words) != 3:
        raise ModelError("The file is not a model: it does not begin with a line of " + MAGIC)
    if words[1] != str(FORMAT).encode():
        raise ModelError(f"The model has the format {_shown(words[1])}; this version reads format {FORMAT}")
    if words[2] != hashlib.sha256(rest).hexdigest().encode():
        raise ModelError("The model is damaged: its content does not have the SHA-256 of its first line")
    text, _, columns = rest.partition(b"\n")
    return _model(_header(text), columns)


def _header(text: bytes) -> dict[str, Any]:
    if len(text) > MAX_HEADER_BYTES:
        raise ModelError(f"The header is larger than {MAX_HEADER_BYTES} bytes")
    try:
        header = strict_json.parse(text.decode(), "The header")
    except (InvalidRequest, UnicodeDecodeError) as error:
        raise ModelError(str(error) if isinstance(error, InvalidRequest) else "The header is not UTF-8") from None
    if not isinstance(header, dict) or header.keys() != HEADER_NAMES:
        raise ModelError(f"The header must be an object with {', '.join(sorted(HEADER_NAMES))}")
    return header


def _model(header: dict[str, Any], rest: bytes) -> Model:
    version = header["version"]
    if not _is_printable(version, MAX_VERSION_LENGTH):
        raise ModelError(f"The header's 'version' must have 1 to {MAX_VERSION_LENGTH} printable characters")
    if header["link"] not in (MEAN, LOGISTIC):
        raise ModelError(f"The header's 'link' must be {MEAN} or {LOGISTIC}")
    if not isinstance(header["about"], dict):
        raise ModelError("The header's 'about' must be an object")
    inputs = Inputs(_features(header["features"]))
    if not 1 <= len(inputs.names) <= MAX_COLUMNS:
        raise ModelError(f"The features must have 1 to {MAX_COLUMNS} columns together")
    levels = _levels(header["levels"])
    trees, covers = _trees(
        rest,
        _count(header, "trees", MAX_TREES),
        _count(header, "nodes", MAX_NODES),
        len(inputs.names),
        (-MAX_LOG_ODDS, MAX_LOG_ODDS) if header["link"] == LOGISTIC else (0.0, 1.0),
    )
    by_index = tuple([(rank, levels[rank - 1]) for rank in range(len(_LEVELS), 0, -1)])
    high = levels[_LEVELS.index("HIGH")]
    return Model(version, inputs, header["link"], trees, covers, by_index, high, header["about"])


def _features(features: Any) -> list[Number | Category]:
    if not isinstance(features, list):
        raise ModelError("The header's 'features' must be a list")
    loaded = [_feature(position, feature) for position, feature in enumerate(features, start=1)]
    if len({one.fact for one in loaded}) < len(loaded):
        raise ModelError("The header's 'features' has a fact more than once")
    return loaded


def _feature(position: int, feature: Any) -> Number | Category:
    where = f"Feature number {position}"
    if not isinstance(feature, dict) or not _is_printable(feature.get("fact"), MAX_FACT_LENGTH):
        raise ModelError(f"{where} must be an object with 'fact', 1 to {MAX_FACT_LENGTH} printable characters")
    if feature.keys() == {"fact", "missing"}:
        if not _is_number(feature["missing"]):
            raise ModelError(f"{where}: 'missing' must be a number")
        return Number(feature["fact"], float(feature["missing"]))
    values = feature.get("values")
    if feature.keys() != {"fact", "values"} or not isinstance(values, list):
        raise ModelError(f"{where} must have either 'missing' or the list 'values'")
    if not all(_is_text(value, MAX_VALUE_LENGTH) for value in values) or len(set(values)) < len(values):
        raise ModelError(f"{where}: 'values' must be different strings of 1 to {MAX_VALUE_LENGTH} characters")
    return Category(feature["fact"], tuple(values))


def _levels(levels: Any) -> list[float]:
    """Return the thresholds of MEDIUM, HIGH and CRITICAL."""
    if not isinstance(levels, dict) or levels.keys() != set(_LEVELS):
        raise ModelError(f"The header's 'levels' must be an object with {', '.join(_LEVELS)}")
    thresholds = [levels[level] for level in _LEVELS]
    if not (
        all(_is_number(one) and 0 < one <= 1 for one in thresholds)
        and all(lower < higher for lower, higher in pairwise(thresholds))
    ):
        raise ModelError(f"The thresholds of {', '.join(_LEVELS)} must increase, above 0 and up to 1")
    return [float(one) for one in thresholds]


def _trees(
    rest: bytes, trees: int, nodes: int, columns: int, limits: tuple[float, float]
) -> tuple[list[Node], tuple[float, ...]]:
    """Build the trees; return their roots, and the covers of their leaves."""
    # Each split has two children, and each node but a root is one.
    leaves, odd = divmod(nodes + trees, 2)
    covers_from = nodes * (_COLUMN_BYTES + _NUMBER_BYTES)
    if odd or len(rest) != covers_from + leaves * _NUMBER_BYTES:
        raise ModelError(f"The model cannot have {nodes} nodes in {trees} trees: it has {len(rest)} bytes for them")
    column_of = struct.unpack_from(f"<{nodes}H", rest)
    numbers = struct.unpack_from(f"<{nodes}d", rest, nodes * _COLUMN_BYTES)
    covers: tuple[float, ...] = struct.unpack_from(f"<{leaves}d", rest, covers_from)
    if not (all(map(math.isfinite, numbers)) and all(map(math.isfinite, covers))):
        raise ModelError("A threshold, leaf or cover is not a finite number")
    if (last := max([one for one in column_of if one != _LEAF], default=0)) >= columns:
        raise ModelError(f"A node refers to column {last}; the columns are 0 to {columns - 1}")
    if not 0 < min(covers) <= max(covers) <= MAX_COVER:
        raise ModelError(f"The cover of a leaf must be above 0 and at most {MAX_COVER:g}")
    roots = _built(column_of, numbers, limits)
    if len(roots) != trees:
        raise ModelError(f"The model has {len(roots)} trees, not {trees}")
    return roots, covers


def _built(column_of: tuple[int, ...], numbers: tuple[float, ...], limits: tuple[float, float]) -> list[Node]:
    """Return the roots of trees, built from the last node to the first: a split comes after both of its subtrees."""
    minimum, maximum = limits
    built: list[Node] = []
    depths: list[int] = []
    # Methods of lists, since a model has tens of thousands of nodes
    add, take, add_depth, take_depth = built.append, built.pop, depths.append, depths.pop
    for column, number in zip(reversed(column_of), reversed(numbers), strict=True):
        if column == _LEAF:
            if not minimum <= number <= maximum:
                raise ModelError(f"The value of a leaf must be from {minimum} to {maximum}")
            add(number)
            add_depth(0)
            continue
        if len(built) < 2:
            raise ModelError("A tree is incomplete: a split lacks a subtree")
        left, right = take_depth(), take_depth()
        depth = (left if left > right else right) + 1  # noqa: FURB136  max() takes ten times as long
        if depth > MAX_DEPTH:
            raise ModelError(f"A tree is deeper than {MAX_DEPTH} splits")
        add((column, number, take(), take()))
        add_depth(depth)
    built.reverse()
    return built


def _count(header: Mapping[str, Any], name: str, maximum: int) -> int:
    value = header[name]
    if type(value) is not int or not 1 <= value <= maximum:
        raise ModelError(f"The header's {name!r} must be an integer from 1 to {maximum}")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and strict_json.is_finite(value)


def _is_printable(value: Any, length: int) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= length and value.isprintable()


def _is_text(value: Any, length: int) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= length and strict_json.is_unicode(value)


def _shown(word: bytes) -> str:
    return ascii(word[:SHOWN_LENGTH].decode("latin-1"))
