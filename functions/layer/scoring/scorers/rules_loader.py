"""Load rule sets from JSON, and check every part of them."""

import gc
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from scoring import strict_json
from scoring.assessment import RISK_LEVELS
from scoring.errors import InvalidRequest, RuleSetError
from scoring.fields import Field, Fields
from scoring.scorers import checks, fields_loader
from scoring.scorers.conditions_loader import ConditionsLoader
from scoring.scorers.rules import Rule, RuleSet

if TYPE_CHECKING:
    from scoring.list_check import ListCheck

# Each hit adds a clause to an update expression, which DynamoDB limits to 4 KB.
MAX_RULES = 200
MAX_LABEL_LENGTH = 200
# A decision contains the labels of its hits twice and must fit into an SQS message.
MAX_LABELS_LENGTH = 20_000
MAX_VERSION_LENGTH = 64
MAX_POINTS = 1_000_000
MAX_SCORE = MAX_RULES * MAX_POINTS
# Each is a read of the store before a decision, in the same call as the profiles: DynamoDB reads 100 items in a call.
MAX_LIST_CHECKS = 50
MAX_DESCRIPTION_LENGTH = 500
MAX_OWNER_LENGTH = 100
MAX_TAGS = 20
MAX_TAG_LENGTH = 50
# Also limits the number of values.
MAX_FILE_BYTES = 1_000_000
# An error can quote a label, names and a value of a few hundred characters each.
MAX_ERROR_LENGTH = 480

_UNKNOWN_FIELDS = ("warn", "refuse")
# Floor and ceiling that the `level` of a rule sets, as indexes of RISK_LEVELS.
LEVEL_LIMITS = {f"at least {level}": (rank, len(RISK_LEVELS) - 1) for rank, level in enumerate(RISK_LEVELS) if rank} | {
    f"at most {level}": (0, rank) for rank, level in enumerate(RISK_LEVELS[:-1])
}

# Required names, and all names
_NAMES = (
    frozenset({"version", "rules", "levels"}),
    frozenset({"$schema", "version", "fields", "histories", "unknown_fields", "defaults", "rules", "levels"}),
)
_RULE_NAMES = (
    frozenset({"label", "when"}),
    frozenset({"label", "description", "owner", "tags", "enabled", "points", "level", "when"}),
)


def from_document(document: Any) -> RuleSet:
    """Build a rule set.

    Parameters
    ----------
    document
        Decoded content of a rule set file, as ``rules.schema.json`` describes it.

    Raises
    ------
    RuleSetError
        The document is invalid; the text names the rule, field or other part of the document, and the problem.
    """
    try:
        return _rule_set(document)
    except RuleSetError as error:
        raise RuleSetError(_shortened(str(error))) from None


def from_file(path: str) -> RuleSet:
    """Build a rule set from a JSON file.

    Raises
    ------
    RuleSetError
        The file cannot be read or is invalid; the text is one line and begins with the name of the file.
    """
    name = os.path.basename(path)  # noqa: PTH119  as in scoring.scorers
    # Loading makes many objects and no garbage: collections would take a sixth of the time.
    collects = gc.isenabled()
    gc.disable()
    try:
        return from_document(_read(path))
    except (InvalidRequest, RuleSetError) as error:
        raise RuleSetError(f"{name}: {error}") from None
    except OSError as error:
        raise RuleSetError(f"{name}: The file cannot be read: {error.strerror}") from None
    finally:
        if collects:
            gc.enable()


def _read(path: str) -> Any:
    with open(path, "rb") as file:  # noqa: PTH123  as in scoring.scorers
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise RuleSetError(f"The file is larger than {MAX_FILE_BYTES} bytes")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise RuleSetError(f"The file is not valid UTF-8, from byte {error.start} on") from None
    if not text.strip():
        raise RuleSetError("The file is empty")
    return strict_json.parse(text, "The file", strict_json.decoder(_object))


def _object(pairs: list[tuple[str, Any]]) -> dict[Any, Any]:
    """Build an object and mark a repeated name, so that :mod:`checks <scoring.scorers.checks>` can report its place."""
    fields: dict[Any, Any] = dict(pairs)
    if len(fields) != len(pairs):
        fields[checks.REPEATED] = strict_json.repeated_name(pairs)
    return fields


def _rule_set(document: Any) -> RuleSet:
    checks.check_names("The rule set", document, *_NAMES)
    if not isinstance(document.get("$schema", ""), str):
        raise RuleSetError("The rule set's '$schema' must be a string")
    version = checks.check_printable("The rule set's 'version'", document["version"], MAX_VERSION_LENGTH)
    unknown_fields = document.get("unknown_fields", "warn")
    if unknown_fields not in _UNKNOWN_FIELDS:
        raise RuleSetError(
            f"The rule set's 'unknown_fields' must be 'warn' or 'refuse', not {checks.shown(unknown_fields)}"
        )
    declared = fields_loader.load(document.get("fields", {}))
    fields = _fields(declared, document.get("defaults", {}), refuse_unknown=unknown_fields == "refuse")
    histories = fields_loader.load_histories(document.get("histories", {}), declared)
    rules = _rules(document["rules"], {**declared, **fields_loader.history_fields(histories)})
    enabled = [rule for rule, written in zip(rules, document["rules"], strict=True) if written.get("enabled", True)]
    return RuleSet(
        version,
        fields,
        tuple(enabled),
        _levels(document["levels"]),
        histories,
        _list_checks(enabled),
        _list_fields(_list_checks(rules), declared),
    )


def _shortened(text: str) -> str:
    """Cut the middle out of a long error: the place is at its beginning, the problem at its end."""
    half = MAX_ERROR_LENGTH // 2
    return text if len(text) <= MAX_ERROR_LENGTH else f"{text[:half]} ... {text[-half:]}"


def _fields(declared: Mapping[str, Field], defaults: Any, *, refuse_unknown: bool) -> Fields:
    checks.check_names("The rule set's 'defaults'", defaults, frozenset(), declared.keys())
    for name in defaults:
        if declared[name].required:
            raise RuleSetError(f"The rule set's 'defaults': {name!r} is required, so it must not have a default")
    try:
        return Fields(declared.values(), defaults, refuse_unknown=refuse_unknown)
    except InvalidRequest as error:
        raise RuleSetError(f"The rule set's 'defaults': {error}") from None


def _rules(rules: Any, fields: Mapping[str, Field]) -> list[Rule]:
    """Return all rules, disabled ones included."""
    if not isinstance(rules, list) or not 1 <= len(rules) <= MAX_RULES:
        raise RuleSetError(f"The rule set's 'rules' must be a list of 1 to {MAX_RULES} rules")
    labels = set[str]()
    loaded = []
    for position, document in enumerate(rules, start=1):
        rule = _rule(position, document, fields)
        if rule.label in labels:
            raise RuleSetError(f"Rule {rule.label!r} appears more than once")
        labels.add(rule.label)
        loaded.append(rule)
    if sum(map(len, labels)) > MAX_LABELS_LENGTH:
        raise RuleSetError(f"The labels of all rules must have at most {MAX_LABELS_LENGTH} characters together")
    return loaded


def _rule(position: int, rule: Any, fields: Mapping[str, Field]) -> Rule:
    if not isinstance(rule, dict):
        raise RuleSetError(f"Rule number {position} must be an object")
    if "label" not in rule:
        raise RuleSetError(f"Rule number {position} lacks 'label'")
    label = checks.check_printable(f"Rule number {position}: 'label'", rule["label"], MAX_LABEL_LENGTH)
    name = f"Rule {label!r}"
    checks.check_names(name, rule, *_RULE_NAMES)
    if "points" not in rule and "level" not in rule:
        raise RuleSetError(f"{name} lacks 'points' or 'level'")
    points = checks.check_integer(f"{name}: 'points'", rule.get("points", 0), -MAX_POINTS, MAX_POINTS)
    checks.check_boolean(f"{name}: 'enabled'", rule.get("enabled", True))
    _check_notes(name, rule)
    loader = ConditionsLoader(fields)
    conditions = loader.load(name, rule["when"])
    tests, lists = tuple([condition.holds for condition in conditions]), tuple(loader.lists)
    if "level" not in rule:
        return Rule(label, points, conditions, tests, lists)
    level = rule["level"]
    if not isinstance(level, str) or level not in LEVEL_LIMITS:
        raise RuleSetError(f"{name}: unknown level {checks.shown(level)}; known are {', '.join(LEVEL_LIMITS)}")
    return Rule(label, points, conditions, tests, lists, level, *LEVEL_LIMITS[level])


def _check_notes(name: str, rule: Mapping[str, Any]) -> None:
    """Check the parts of a rule that only people read."""
    if "description" in rule:
        checks.check_printable(f"{name}: 'description'", rule["description"], MAX_DESCRIPTION_LENGTH)
    if "owner" in rule:
        checks.check_printable(f"{name}: 'owner'", rule["owner"], MAX_OWNER_LENGTH)
    tags = rule.get("tags", [])
    if not isinstance(tags, list) or len(tags) > MAX_TAGS:
        raise RuleSetError(f"{name}: 'tags' must be a list of at most {MAX_TAGS} tags")
    for tag in tags:
        checks.check_printable(f"{name}: a tag", tag, MAX_TAG_LENGTH)
    if len(set(tags)) < len(tags):
        raise RuleSetError(f"{name}: 'tags' has a tag more than once")


def _list_checks(rules: Iterable[Rule]) -> "tuple[ListCheck, ...]":
    return tuple(dict.fromkeys([check for rule in rules for check in rule.lists]))


def _list_fields(list_checks: "tuple[ListCheck, ...]", declared: Mapping[str, Field]) -> dict[str, tuple[Field, ...]]:
    """Return the fields that lists are searched for, by the name of the list."""
    if len(list_checks) > MAX_LIST_CHECKS:
        raise RuleSetError(
            f"All rules must have at most {MAX_LIST_CHECKS} different pairs of a list and a field together"
        )
    found: dict[str, tuple[Field, ...]] = {}
    for check in list_checks:
        found[check.name] = (*found.get(check.name, ()), declared[check.field])
    for name, fields in found.items():
        modes = {field.ignores_case: field.name for field in fields}
        if len(modes) > 1:
            raise RuleSetError(
                f"List {name!r}: {modes[True]!r} ignores case and {modes[False]!r} does not; "
                "all fields that are searched for in a list must agree"
            )
    return found


def _levels(levels: Any) -> tuple[tuple[str, int], ...]:
    named = tuple(reversed(RISK_LEVELS[1:]))
    checks.check_names("The rule set's 'levels'", levels, frozenset(named), frozenset(named))
    thresholds = [checks.check_integer(f"The rule set's level {level}", levels[level], 1, MAX_SCORE) for level in named]
    if not thresholds[0] > thresholds[1] > thresholds[2]:
        raise RuleSetError("The rule set's 'levels' must decrease from CRITICAL to HIGH to MEDIUM")
    return tuple(zip(named, thresholds, strict=True))
