"""Generated rule sets: the loader agrees with the JSON Schema, and the rules with the reference evaluator."""

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any, NamedTuple

import jsonschema_rs
import pytest

from scoring import scorers
from scoring.assessment import RISK_LEVELS
from scoring.errors import RuleSetError
from scoring.fields import BUILT_IN
from scoring.history import FEATURES, History
from scoring.scorers import conditions_loader, fields_loader, rules_loader
from scoring.scorers.rules import RuleSet
from tests import generated_rule_sets, reference_evaluator
from tests.local.template import ROOT
from tests.rule_set import DOCUMENT
from tests.unit.json_parts import parts

SEED = 2026
DOCUMENTS = 10_000
TRANSACTIONS = 25
MINIMUM_LOADED = 5_500

SCHEMA_FILE = ROOT / "functions" / "layer" / "scoring" / "scorers" / "rules.schema.json"
SCHEMA: dict[str, Any] = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
VALIDATOR = jsonschema_rs.Draft202012Validator(SCHEMA)

# The only errors of documents that satisfy the schema: JSON Schema cannot express these rules.
BEYOND_THE_SCHEMA = {
    "type of a field": (
        r"Rule .* when[^:]*: (operator '.*' does not apply to an? .*|'[\w.]+' is an? \w+ and '[\w.]+' is an? \w+|"
        r"operator '.*' does not compare two fields .*|'of' applies to times only, .*|"
        r"'times' applies to numbers only, .*|the value must be (an? .*|true or false, .*))"
    ),
    "unknown field": r"Rule .*: unknown field .*",
    "default": r"The rule set's 'defaults'(: | has an unknown name ).*",
    "field of a history": (
        r"History '\w+': ('(by|distinct)' must be a field(, not '.*'; known are .*| of type string or integer, .*)|"
        r"'by' and 'distinct' must be different fields, .*)"
    ),
    "equal histories": r"Histories '\w+' and '\w+' have the same .*",
    "number of lists": r"All rules must have at most 50 different pairs of a list and a field together",
    "case of a list": r"List '\w+': '\w+' ignores case and '\w+' does not; .*",
    "repeated label": r"Rule .* appears more than once",
    "length of all labels": r"The labels of all rules must have at most 20000 characters together",
    "order of levels": r"The rule set's 'levels' must decrease .*",
    "limits of a field": r"Field '\w+': 'minimum' is greater than 'maximum'",
    "one_of against the other limits": r"Field '\w+': 'one_of'(: Field .*| has a value more than once)",
    "number of own fields": r"The rule set's 'fields' must be at most 50, .*",
    "number of conditions": r"Rule .*: a rule must have at most 50 conditions",
    "3.0 for an integer": (
        r"(Rule .*: 'points'|Field '\w+': '(max_length|minimum|maximum)'(: Field '\w+')?|The rule set's level \w+) "
        r"must be an integer .*"
    ),
    "lone surrogate": r"Rule .* when[^:]*: the value must be valid Unicode text, .*",
    "printable": r".* must have 1 to \d+ printable characters, not all blank",
}


class Outcome(NamedTuple):
    """A generated document, and what the loader makes of it."""

    document: reference_evaluator.Document
    mutated: bool
    rule_set: RuleSet | None
    error: str


def load(document: Any, *, mutated: bool = True) -> Outcome:
    try:
        return Outcome(document, mutated, rules_loader.from_document(document), "")
    except RuleSetError as error:
        return Outcome(document, mutated, None, str(error))


def satisfies_schema(document: Any) -> bool:
    try:
        return VALIDATOR.is_valid(document)
    except UnicodeEncodeError:  # some lone surrogates
        return False


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    """Return what the loader makes of 10,000 documents, every second one mutated."""
    rng = Random(SEED)
    found = []
    for number in range(DOCUMENTS):
        document = generated_rule_sets.generate(rng)
        mutated = number % 2 == 1
        found.append(load(generated_rule_sets.mutate(rng, document) if mutated else document, mutated=mutated))
    return found


def test_document_loads_or_fails_in_one_line(outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        assert outcome.rule_set or outcome.mutated, outcome.error
        assert outcome.error.isprintable()
        assert len(outcome.error) < 500
    loaded = sum(outcome.rule_set is not None for outcome in outcomes)
    print(f"{loaded} of {len(outcomes)} documents loaded")  # noqa: T201
    assert MINIMUM_LOADED < loaded < DOCUMENTS * 0.8


def test_loaded_rule_set_agrees_with_the_reference_evaluator(outcomes: list[Outcome]) -> None:
    rng = Random(SEED)
    evaluated = hits = 0
    decided = Counter[tuple[reference_evaluator.Condition, bool]]()
    levels, limits, features, quotes = Counter[str](), Counter[str](), Counter[str](), Counter[int]()
    for document, _, rule_set, _ in outcomes:
        if rule_set is None:
            continue
        declared = reference_evaluator.declarations(document)
        check_histories_and_lists(document, rule_set)
        for transaction, known in generated_rule_sets.cases(rng, document, TRANSACTIONS):
            read = generated_rule_sets.read(rule_set, transaction, known)
            assessment = rule_set.assess(read)
            expected = reference_evaluator.assess(document, transaction, known, decided)
            assert tuple(assessment) == (*expected, {}), f"{json.dumps(document)}\n{json.dumps(transaction)}\n{known}"
            # Also tells 1 from 1.0 and true.
            assert repr(assessment.reasons) == repr(expected.reasons)
            assert read.unknown == tuple(name for name in transaction if name not in declared)
            hits += len(expected.rules)
            levels[expected.level] += 1
            features.update(
                name for reason in expected.reasons for name, value in reason["because"].items() if value is not None
            )
            limits.update(reason["level"] for reason in expected.reasons if "level" in reason)
            quotes[sum(len(reason["because"]) for reason in expected.reasons)] += 1
        evaluated += TRANSACTIONS * len(rule_set.labels)
        assert rule_set.labels == tuple(rule["label"] for rule in document["rules"] if rule.get("enabled", True))

    # Every operator decided a hit by holding and, inside a `not`, by failing.
    assert 0.2 < hits / evaluated < 0.8
    conditions = [
        reference_evaluator.Condition(kind, operator, other)
        for other, operators in (
            (False, generated_rule_sets.VALUE_OPERATORS),
            (True, generated_rule_sets.OTHER_OPERATORS),
        )
        for kind in operators
        for operator in (*operators[kind], *(reference_evaluator.PRESENCE if not other and kind != "weekday" else ()))
    ]
    for condition, held in itertools.product(conditions, (True, False)):
        assert decided[condition, held] >= (15 if held else 1), (condition, held)
    assert min(levels[level] for level in RISK_LEVELS) > 1000
    assert min(limits[limit] for limit in generated_rule_sets.FLOORS + generated_rule_sets.CEILINGS) > 100
    assert min(features[f"customer.{feature}"] for feature in FEATURES) > 100
    assert max(quotes) == reference_evaluator.MAX_QUOTED_VALUES


def check_histories_and_lists(document: reference_evaluator.Document, rule_set: RuleSet) -> None:
    histories = document.get("histories", {})
    assert rule_set.histories == tuple(History(name, one["by"], one["distinct"]) for name, one in histories.items())
    enabled = [rule for rule in document["rules"] if rule.get("enabled", True)]
    assert rule_set.lists == tuple(dict.fromkeys(reference_evaluator.lists_of(enabled)))
    found = [(name, field.name) for name, fields in rule_set.list_fields.items() for field in fields]
    assert sorted(found) == sorted(set(reference_evaluator.lists_of(document["rules"])))


def test_schema_and_loader_agree(outcomes: list[Outcome]) -> None:
    found = Counter[str]()
    for document, _, rule_set, error in outcomes:
        if rule_set is not None:
            VALIDATOR.validate(document)
        elif satisfies_schema(document):
            found[reason(error)] += 1
            if reason(error) == "3.0 for an integer":
                assert any(isinstance(value, float) and value.is_integer() for _, value in parts(document))
    assert found.total() > 50
    assert len(found) > 5


def reason(error: str) -> str:
    """Return why the loader refuses a document that satisfies the schema."""
    reasons = [name for name, pattern in BEYOND_THE_SCHEMA.items() if re.fullmatch(pattern, error)]
    assert len(reasons) == 1, error
    return reasons[0]


def changed(**changes: Any) -> reference_evaluator.Document:
    return {**DOCUMENT, **changes}


def with_condition(condition: dict[str, Any], **fields: Any) -> reference_evaluator.Document:
    return changed(fields=fields, rules=[{"label": "R", "points": 1, "when": [condition]}])


def _listed(name: str, field: str = "store") -> dict[str, Any]:
    return {"field": field, "operator": "in list", "value": name}


CONDITION = {"field": "amount", "operator": ">", "value": 1}
NUMBERS = {f"f{number}": {"type": "number"} for number in range(51)}


@pytest.mark.parametrize(
    ("expected", "document"),
    [
        ("type of a field", with_condition({"field": "x", "operator": ">", "value": 1}, x={"type": "string"})),
        ("type of a field", with_condition({"field": "x", "operator": "==", "value": 1}, x={"type": "time"})),
        ("type of a field", with_condition({"field": "x", "operator": ">", "other": "amount"}, x={"type": "string"})),
        ("unknown field", with_condition({"field": "colour", "operator": "is missing"})),
        ("default", changed(defaults={"colour": "red"})),
        ("default", changed(fields={"x": {"type": "number", "maximum": 1}}, defaults={"x": 2})),
        ("default", changed(fields={"hour": {"required": True}}, defaults={"hour": 1})),
        ("repeated label", changed(rules=DOCUMENT["rules"] * 2)),
        (
            "length of all labels",
            changed(rules=[{"label": f"{n:0200}", "points": 1, "when": [CONDITION]} for n in range(101)]),
        ),
        ("order of levels", changed(levels={"CRITICAL": 2, "HIGH": 2, "MEDIUM": 1})),
        ("order of levels", changed(levels={"CRITICAL": 2, "HIGH": 1, "MEDIUM": 1})),
        ("limits of a field", changed(fields={"x": {"type": "integer", "minimum": 2, "maximum": 1}})),
        ("one_of against the other limits", changed(fields={"x": {"type": "number", "minimum": 2, "one_of": [1]}})),
        (
            "one_of against the other limits",
            changed(fields={"x": {"type": "string", "case": "ignore", "one_of": ["a", "A"]}}),
        ),
        ("number of own fields", changed(fields=NUMBERS)),
        ("unknown field", with_condition({"field": "ip.count_1h", "operator": ">", "value": 1})),
        ("type of a field", with_condition({"field": "customer.is_new", "operator": ">", "value": 1})),
        ("type of a field", with_condition({"field": "x", "operator": "in list", "value": "a"}, x={"type": "time"})),
        ("field of a history", changed(histories={"customer": {"by": "store", "distinct": "store"}})),
        ("field of a history", changed(histories={"customer": {"by": "x", "distinct": "store"}})),
        (
            "field of a history",
            changed(fields={"x": {"type": "number"}}, histories={"x": {"by": "store", "distinct": "x"}}),
        ),
        ("equal histories", changed(histories={name: {"by": "store", "distinct": "hour"} for name in "ab"})),
        (
            "number of lists",
            changed(
                rules=[
                    {"label": label, "points": 1, "when": [_listed(f"{label}{number}") for number in range(26)]}
                    for label in "xy"
                ]
            ),
        ),
        (
            "case of a list",
            with_condition({"any": [_listed("a"), _listed("a", "x")]}, x={"type": "string", "case": "ignore"}),
        ),
        ("number of conditions", with_condition({"all": [{"any": [CONDITION] * 26}, {"any": [CONDITION] * 25}]})),
        ("3.0 for an integer", changed(levels={"CRITICAL": 3.0, "HIGH": 2, "MEDIUM": 1})),
        ("3.0 for an integer", changed(fields={"x": {"type": "integer", "minimum": 3.0}})),
        ("lone surrogate", with_condition({"field": "store", "operator": "==", "value": "\ud83c"})),
        ("printable", changed(version="zero\u200bwidth")),
    ],
)
def test_document_that_only_the_loader_refuses(expected: str, document: reference_evaluator.Document) -> None:
    assert satisfies_schema(document)
    assert reason(load(document).error) == expected


@pytest.mark.parametrize(
    "document",
    [
        changed(unknown=1),
        changed(version="x" * 65),
        changed(rules=[]),
        changed(fields={"X": {"type": "string"}}),
        changed(fields={"x": {"type": "string", "minimum": 1}}),
        changed(fields={"x": {"type": "time", "one_of": []}}),
        changed(fields={"x": {}}),
        changed(fields={"amount": {"minimum": -1}}),
        changed(fields={"amount": {"required": False}}),
        changed(fields={"hour": {"maximum": 24}}),
        changed(fields={"store": {"type": "number"}}),
        changed(fields={"tx_id": {"max_length": 129}}),
        changed(fields={"idempotency_key": {"type": "string"}}),
        changed(defaults={"amount": 1}),
        changed(defaults={"hour": 24}),
        changed(defaults={"x": None}),
        changed(rules=[{"label": "R", "when": [CONDITION]}]),
        changed(rules=[{"label": "R", "level": "at least LOW", "when": [CONDITION]}]),
        with_condition({**CONDITION, "other": "hour"}),
        with_condition({**CONDITION, "times": 2}),
        with_condition({**CONDITION, "of": "hour"}),
        with_condition({"field": "amount", "operator": ">"}),
        with_condition({"field": "amount", "operator": "between", "value": [1, 2, 3]}),
        with_condition({"field": "amount", "operator": "in", "value": []}),
        with_condition({"field": "amount", "operator": "contains", "value": "1"}),
        with_condition({"field": "amount", "operator": ">", "other": "store"}),
        with_condition({"field": "amount", "operator": ">", "other": "hour", "times": 0}),
        with_condition({"field": "store", "operator": "between", "value": ["a", "b"]}),
        with_condition({"field": "store", "operator": "contains", "value": ""}),
        with_condition({"field": "store", "operator": "in", "value": "abc"}),
        with_condition({"field": "store", "operator": "is missing", "value": "a"}),
        with_condition({"field": "store", "operator": "in list"}),
        with_condition({"field": "store", "operator": "in list", "value": ""}),
        with_condition({"field": "store", "operator": "in list", "value": ["a"]}),
        with_condition({"field": "store", "operator": "not in list", "value": "A"}),
        with_condition({"field": "store", "operator": "not in list", "value": "a" * 41}),
        with_condition({"field": "store", "operator": "in list", "other": "category"}),
        with_condition({"field": "amount", "operator": "in list", "value": "a"}),
        with_condition({"field": "timestamp", "operator": "in list", "value": "a"}),
        with_condition({"field": "customer.count_2h", "operator": ">", "value": 1}),
        with_condition({"field": "customer", "operator": ">", "other": "customer."}),
        changed(fields={"customer.count_1h": {"type": "integer"}}),
        changed(defaults={"customer.count_1h": 1}),
        changed(histories=[]),
        changed(histories={"X": {"by": "customer_id", "distinct": "store"}}),
        changed(histories={name: {"by": "customer_id", "distinct": f"f{name}"} for name in "abcd"}, fields=NUMBERS),
        changed(histories={"x": {"by": "customer_id"}}),
        changed(histories={"x": {"by": "customer_id", "distinct": "store", "of": "amount"}}),
        changed(histories={"x": {"by": "timestamp", "distinct": "store"}}),
        changed(histories={"x": {"by": "customer_id", "distinct": "amount"}}),
        changed(histories={"x": {"by": "customer_id", "distinct": None}}),
        with_condition({"field": "t", "of": "hour", "operator": ">", "value": "5"}, t={"type": "time"}),
        with_condition({"field": "t", "of": "weekday", "operator": "==", "value": "Monday"}, t={"type": "time"}),
        with_condition({"field": "t", "operator": ">", "value": "2026-01-01T00:00:00"}, t={"type": "time"}),
        with_condition({"all": []}),
        with_condition({"all": [CONDITION], "any": [CONDITION]}),
        with_condition({"not": {"not": {"not": {"not": {"not": {"not": CONDITION}}}}}}),
    ],
)
def test_document_that_schema_and_loader_refuse(document: reference_evaluator.Document) -> None:
    assert load(document).error
    assert not satisfies_schema(document)


def test_schema_is_valid() -> None:
    jsonschema_rs.meta.validate(SCHEMA)
    assert {f"#/$defs/{name}" for name in SCHEMA["$defs"]} == {value for name, value in parts(SCHEMA) if name == "$ref"}


def test_shipped_rule_set_satisfies_the_schema() -> None:
    with open(scorers.RULES_FILE, encoding="utf-8") as file:  # noqa: PTH123
        document = json.load(file)
    VALIDATOR.validate(document)


def test_schema_describes_every_name() -> None:
    described = set()
    for name, schema in properties(SCHEMA):
        target = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else {}
        assert schema.get("description") or target.get("description"), name
        described.add(name)
    loaders = [
        *rules_loader._NAMES,
        *rules_loader._RULE_NAMES,
        fields_loader._HISTORY_NAMES,
        *fields_loader._LIMITS.values(),
        fields_loader._OF_EVERY_TYPE,
        *conditions_loader._COMPARISON_NAMES,
        conditions_loader._GROUPS,
        [field.name for field in BUILT_IN],
        RISK_LEVELS[1:],
    ]
    assert described == set(itertools.chain.from_iterable(loaders))


def test_schema_has_the_limits_of_the_loader() -> None:
    definitions, names = SCHEMA["$defs"], SCHEMA["properties"]
    rule = definitions["rule"]["properties"]
    limits = {
        names["version"]["maxLength"]: rules_loader.MAX_VERSION_LENGTH,
        names["fields"]["maxProperties"]: fields_loader.MAX_FIELDS + len(BUILT_IN),
        names["histories"]["maxProperties"]: fields_loader.MAX_HISTORIES,
        names["rules"]["maxItems"]: rules_loader.MAX_RULES,
        names["levels"]["properties"]["CRITICAL"]["maximum"]: rules_loader.MAX_SCORE,
        rule["label"]["maxLength"]: rules_loader.MAX_LABEL_LENGTH,
        rule["points"]["maximum"]: rules_loader.MAX_POINTS,
        rule["description"]["maxLength"]: rules_loader.MAX_DESCRIPTION_LENGTH,
        rule["owner"]["maxLength"]: rules_loader.MAX_OWNER_LENGTH,
        rule["tags"]["maxItems"]: rules_loader.MAX_TAGS,
        rule["tags"]["items"]["maxLength"]: rules_loader.MAX_TAG_LENGTH,
        definitions["description"]["maxLength"]: fields_loader.MAX_DESCRIPTION_LENGTH,
        definitions["stringField"]["properties"]["max_length"]["maximum"]: fields_loader.MAX_TEXT_LENGTH,
        definitions["conditions0"]["maxItems"]: conditions_loader.MAX_CONDITIONS,
        definitions["search"]["properties"]["value"]["maxLength"]: conditions_loader.MAX_SEARCHED_LENGTH,
    }
    assert list(limits) == list(limits.values())
    assert set(rule["level"]["enum"]) == rules_loader.LEVEL_LIMITS.keys()


def properties(schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the names that objects can have, with their schemas; not those that `if` and `then` only restrict."""
    if isinstance(schema, list):
        for item in schema:
            yield from properties(item)
    elif isinstance(schema, dict) and "if" not in schema:
        for name, found in schema.get("properties", {}).items():
            if found is not False:
                yield name, found
        for name, item in schema.items():
            yield from properties(list(item.values()) if name in {"properties", "$defs"} else item)
