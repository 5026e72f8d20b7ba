"""Rule set documents and files: every error names its cause in one line."""

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from scoring import decision, strict_json
from scoring.errors import RuleSetError
from scoring.history import History, profiles
from scoring.list_check import ListCheck
from scoring.scorers import conditions_loader, fields_loader, rules, rules_loader
from tests.local.template import ROOT
from tests.rule_set import DOCUMENT, R1

WHEN = f"Rule '{R1}' when[0]"
LEVEL = "must be an integer from 1 to 200000000"
NESTED_LIST: list[Any] = []
for _ in range(100_000):
    NESTED_LIST = [NESTED_LIST]


def changed(**changes: Any) -> dict[str, Any]:
    return {**DOCUMENT, **changes}


def with_rule(**changes: Any) -> dict[str, Any]:
    return changed(rules=[{**DOCUMENT["rules"][0], **changes}])


def with_condition(**changes: Any) -> dict[str, Any]:
    return with_rule(when=[{"field": "amount", "operator": ">", "value": 3000, **changes}])


def error_of(document: Any) -> str:
    """Return the error of an invalid document: one line of a sane length."""
    with pytest.raises(RuleSetError) as caught:
        rules_loader.from_document(document)
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 500
    return text


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "The rule set must be an object"),
        ({}, "The rule set lacks 'levels'"),
        (changed(extra=1), "The rule set has an unknown name 'extra'"),
        (changed(version=""), "'version' must have 1 to 64 printable characters"),
        (changed(version="x" * 65), "'version' must have 1 to 64 printable characters"),
        (changed(version="   "), "'version' must have 1 to 64 printable characters"),
        (changed(version="1.0\nrules"), "'version' must have 1 to 64 printable characters"),
        (changed(version="1.0\x1b[31m"), "'version' must have 1 to 64 printable characters"),
        (changed(version="1.0-\ud83c"), "'version' must have 1 to 64 printable characters"),
        (changed(version=1), "'version' must have 1 to 64 printable characters"),
        (changed(rules=[]), "'rules' must be a list of 1 to 200 rules"),
        (changed(rules=DOCUMENT["rules"] * 67), "'rules' must be a list of 1 to 200 rules"),
        (changed(rules=DOCUMENT["rules"] * 2), f"Rule '{R1}' appears more than once"),
        (changed(rules=["R1"]), "Rule number 1 must be an object"),
        (changed(rules=[{"points": 1}]), "Rule number 1 lacks 'label'"),
        (with_rule(label=""), "Rule number 1: 'label' must have 1 to 200 printable characters"),
        (with_rule(label="  "), "Rule number 1: 'label' must have 1 to 200 printable characters"),
        (with_rule(label="two\nlines"), "Rule number 1: 'label' must have 1 to 200 printable characters"),
        (with_rule(label="x" * 201), "Rule number 1: 'label' must have 1 to 200 printable characters"),
        (with_rule(points=-1_000_001), f"Rule '{R1}': 'points' must be an integer from -1000000 to 1000000"),
        (with_rule(points=True), f"Rule '{R1}': 'points' must be an integer from -1000000 to 1000000"),
        (with_rule(points=1.5), f"Rule '{R1}': 'points' must be an integer from -1000000 to 1000000"),
        (with_rule(points=1_000_001), f"Rule '{R1}': 'points' must be an integer from -1000000 to 1000000"),
        (with_rule(points=10**5000), f"Rule '{R1}': 'points' must be an integer from -1000000 to 1000000"),
        (with_rule(points=1e400), f"Rule '{R1}': 'points' must be an integer from -1000000 to 1000000"),
        (with_rule(label="half a pair: \ud83c"), "Rule number 1: 'label' must have 1 to 200 printable characters"),
        (with_rule(note="x"), f"Rule '{R1}' has an unknown name 'note'"),
        (with_rule(when=[]), f"Rule '{R1}' when: must be a list of at least one condition"),
        (with_rule(**{"two\nlines": 1}), f"Rule '{R1}' has an unknown name 'two\\nlines'"),
        (with_rule(**{"x" * 100: 1}), f"Rule '{R1}' has an unknown name '{'x' * 64}'"),
        (with_rule(when=["amount > 1"]), f"{WHEN}: the condition must be an object"),
        (with_rule(when=[{"field": "amount"}]), f"{WHEN}: the condition lacks 'operator'"),
        (
            with_condition(field="colour"),
            f"{WHEN}: unknown field 'colour'; known are amount, category, customer.amount_ratio, customer.count_1h, ",
        ),
        (with_condition(field=["amount"]), f"{WHEN}: unknown field an array"),
        (
            with_condition(operator="=>"),
            f"{WHEN}: unknown operator '=>'; known are ==, !=, >, >=, <, <=, in, ",
        ),
        (with_condition(operator={}), f"{WHEN}: unknown operator an object"),
        (
            with_condition(field="store"),
            f"{WHEN}: operator '>' does not apply to a string",
        ),
        (with_condition(value="3000"), f"{WHEN}: the value must be a number, not '3000'"),
        (with_condition(value=True), f"{WHEN}: the value must be a number, not a boolean"),
        (with_condition(value=float("nan")), f"{WHEN}: the value must be a finite number"),
        (with_condition(value=1e400), f"{WHEN}: the value must be a finite number"),
        (
            with_condition(value=NESTED_LIST),
            f"{WHEN}: the value must be a number, not an array",
        ),
        (
            with_condition(operator="in", value=[1, 10**400]),
            f"{WHEN}: the value must be a finite number",
        ),
        (
            with_condition(field="store", operator="==", value="\ud83c"),
            f"{WHEN}: the value must be valid Unicode text, not '\\ud83c'",
        ),
        (
            with_condition(field="store", operator="in", value=["A", "\ud83c"]),
            f"{WHEN}: the value must be valid Unicode text, not '\\ud83c'",
        ),
        (
            with_condition(field="store", operator="==", value=1),
            f"{WHEN}: the value must be a string",
        ),
        (with_condition(operator="in"), f"{WHEN}: the value of operator 'in' must be a list"),
        (with_condition(operator="in", value=[]), f"{WHEN}: the value of operator 'in' must be a list"),
        (
            with_condition(operator="in", value=["a"]),
            f"{WHEN}: the value must be a number, not 'a'",
        ),
        (changed(levels={"CRITICAL": 5, "HIGH": 3}), "The rule set's 'levels' lacks 'MEDIUM'"),
        (
            changed(levels={"CRITICAL": 5, "HIGH": 3, "MEDIUM": "1"}),
            f"level MEDIUM {LEVEL}",
        ),
        (changed(levels={"CRITICAL": 3, "HIGH": 3, "MEDIUM": 1}), "must decrease from CRITICAL to HIGH to MEDIUM"),
        (
            changed(levels={"CRITICAL": 5, "HIGH": 3, "MEDIUM": 0}),
            f"level MEDIUM {LEVEL}",
        ),
        (
            changed(levels={"CRITICAL": 10**5000, "HIGH": 3, "MEDIUM": 1}),
            f"level CRITICAL {LEVEL}",
        ),
        (changed(defaults=None), "The rule set's 'defaults' must be an object"),
        (changed(defaults={"store": "\ud83c"}), "'defaults': Field 'store' must be valid Unicode text"),
        (
            changed(defaults={"amount": 1}),
            "'defaults': 'amount' is required, so it must not have a default",
        ),
        (changed(defaults={"hour": "noon"}), "The rule set's 'defaults': Field 'hour' must be an integer from 0 to 23"),
        (changed(defaults={"hour": 99}), "The rule set's 'defaults': Field 'hour' must be an integer from 0 to 23"),
        (with_condition(value=10**400), f"{WHEN}: the value must be a finite number"),
    ],
)
def test_invalid_document(document: Any, message: str) -> None:
    assert message in error_of(document)


def with_field(declaration: Any, name: str = "country", **changes: Any) -> dict[str, Any]:
    return changed(fields={name: declaration}, **changes)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (changed(fields=[]), "The rule set's 'fields' must be an object"),
        (changed(fields={f"f{number}": {"type": "time"} for number in range(51)}), "'fields' must be at most 50"),
        (with_field("string"), "Field 'country' must be an object"),
        (with_field({}), "Field 'country' lacks 'type'"),
        (with_field({"type": "text"}), "Field 'country': unknown type 'text'; known are string, number, integer, "),
        (with_field({"type": ["string"]}), "Field 'country': 'type' must be a string, not an array"),
        (with_field({"type": "string", "pattern": "a"}), "Field 'country' has an unknown name 'pattern'"),
        (with_field({"type": "string", "minimum": 1}), "Field 'country' has an unknown name 'minimum'"),
        (with_field({"type": "boolean", "one_of": [True]}), "Field 'country' has an unknown name 'one_of'"),
        *(
            (with_field({"type": "string"}, name), f"Field {name[:64]!r}: a name must have 1 to 40 lower-case letters")
            for name in ("", "Country", "1st", "a" * 41, "card-country", "_x", "x\n", "a" * 1_000, "\u0131d")
        ),
        (
            with_field({"type": "string"}, "idempotency_key"),
            "Field 'idempotency_key' is reserved: transactions in a batch",
        ),
        (with_field({"type": "string", "max_length": 0}), "'max_length' must be an integer from 1 to 65536"),
        (with_field({"type": "string", "max_length": True}), "'max_length' must be an integer from 1 to 65536"),
        (with_field({"type": "string", "case": "fold"}), "Field 'country': 'case' must be 'ignore', not 'fold'"),
        (with_field({"type": "string", "required": 1}), "Field 'country': 'required' must be true or false"),
        (with_field({"type": "string", "description": ""}), "'description' must have 1 to 200 printable characters"),
        (with_field({"type": "string", "one_of": "PL"}), "'one_of' must be a list of at least one value"),
        (with_field({"type": "string", "one_of": []}), "'one_of' must be a list of at least one value"),
        (with_field({"type": "string", "one_of": ["a", 1]}), "'one_of': Field 'country' must be a string"),
        (with_field({"type": "string", "one_of": ["a", "a"]}), "Field 'country': 'one_of' has a value more than once"),
        (
            with_field({"type": "string", "one_of": ["a", "A"], "case": "ignore"}),
            "Field 'country': 'one_of' has a value more than once",
        ),
        (
            with_field({"type": "string", "one_of": ["POL"], "max_length": 2}),
            "Field 'country': 'one_of': Field 'country' must have at most 2 characters",
        ),
        (with_field({"type": "number", "minimum": "1"}), "'minimum': Field 'country' must be a number"),
        (with_field({"type": "number", "maximum": 10**400}), "'maximum': Field 'country' must be a finite number"),
        (with_field({"type": "number", "minimum": 2, "maximum": 1}), "'minimum' is greater than 'maximum'"),
        (with_field({"type": "integer", "minimum": 0.5}), "'minimum': Field 'country' must be an integer of 64 bits"),
        (with_field({"type": "integer", "maximum": 2**63}), "'maximum': Field 'country' must be an integer of 64 bits"),
        # Built-in fields can only be narrowed.
        (with_field({"type": "integer"}, "amount"), "Field 'amount' is built in: its type is number, not 'integer'"),
        (with_field({"minimum": -1}, "amount"), "Field 'amount': 'minimum': Field 'amount' must not be negative"),
        (with_field({"required": False}, "amount"), "Field 'amount' is built in and always required"),
        (with_field({"maximum": 24}, "hour"), "'maximum': Field 'hour' must be an integer from 0 to 23"),
        (with_field({"max_length": 129}, "tx_id"), "Field 'tx_id': 'max_length' must be an integer from 1 to 128"),
        (with_field({"one_of": [""]}, "tx_id"), "'one_of': Field 'tx_id' must have 1 to 128 characters"),
        (with_field({"one_of": [5]}, "hour", defaults={"hour": 12}), "'defaults': Field 'hour' must be one of 5"),
        (
            with_field({"required": True}, "hour"),
            "'defaults': 'hour' is required, so it must not have a default",
        ),
        (changed(defaults={"country": "PL"}), "The rule set's 'defaults' has an unknown name 'country'"),
        (changed(unknown_fields="ignore"), "'unknown_fields' must be 'warn' or 'refuse', not 'ignore'"),
        (changed(unknown_fields=["warn"]), "'unknown_fields' must be 'warn' or 'refuse', not an array"),
        (changed(**{"$schema": 1}), "The rule set's '$schema' must be a string"),
        # What a rule says beside its conditions
        (changed(rules=[{"label": R1, "when": []}]), f"Rule '{R1}' lacks 'points' or 'level'"),
        (
            with_rule(level="CRITICAL"),
            f"Rule '{R1}': unknown level 'CRITICAL'; known are at least MEDIUM, at least HIGH",
        ),
        (with_rule(level="at least LOW"), f"Rule '{R1}': unknown level 'at least LOW'"),
        (with_rule(level="at most CRITICAL"), f"Rule '{R1}': unknown level 'at most CRITICAL'"),
        (with_rule(level=["at most LOW"]), f"Rule '{R1}': unknown level an array"),
        (with_rule(enabled="no"), f"Rule '{R1}': 'enabled' must be true or false"),
        (with_rule(description="a\nb"), f"Rule '{R1}': 'description' must have 1 to 500 printable characters"),
        (with_rule(owner=7), f"Rule '{R1}': 'owner' must have 1 to 100 printable characters"),
        (with_rule(tags="card"), f"Rule '{R1}': 'tags' must be a list of at most 20 tags"),
        (with_rule(tags=["t"] * 21), f"Rule '{R1}': 'tags' must be a list of at most 20 tags"),
        (with_rule(tags=[[]]), f"Rule '{R1}': a tag must have 1 to 50 printable characters"),
        (with_rule(tags=["a", "a"]), f"Rule '{R1}': 'tags' has a tag more than once"),
        (with_rule(enabled=False, when=[]), f"Rule '{R1}' when: must be a list of at least one condition"),
        (
            changed(rules=[{**DOCUMENT["rules"][0], "label": f"{number:0200}"} for number in range(101)]),
            "The labels of all rules must have at most 20000 characters together",
        ),
    ],
)
def test_invalid_fields_and_rules(document: dict[str, Any], message: str) -> None:
    assert message in error_of(document)


OWN = {
    "country": {"type": "string"},
    "ip": {"type": "string"},
    "usual": {"type": "number"},
    "items": {"type": "integer"},
    "paid": {"type": "boolean"},
    "at": {"type": "time"},
}


def compare(field: str, sign: str, **more: Any) -> dict[str, Any]:
    return {"field": field, "operator": sign, **more}


def nested(depth: int) -> dict[str, Any]:
    inner = compare("amount", ">", value=1)
    for _ in range(depth):
        inner = {"all": [inner]}
    return inner


@pytest.mark.parametrize(
    ("condition", "place", "message"),
    [
        # Groups
        ({}, "", "the condition must have 'field', 'all', 'any' or 'not'"),
        ({"all": []}, ".all", "must be a list of at least one condition"),
        ({"any": {}}, ".any", "must be a list of at least one condition"),
        ({"not": []}, ".not", "the condition must be an object"),
        ({"none": [nested(0)]}, "", "the condition must have 'field', 'all', 'any' or 'not'"),
        ({"all": [nested(0)], "any": [nested(0)]}, "", "a group must have only one of 'all', 'any' and 'not'"),
        ({"any": [nested(0), {"not": compare("x", "==")}]}, ".any[1].not", "unknown field 'x'; known are amount, at, "),
        (nested(6), ".all[0].all[0].all[0].all[0].all[0]", "groups must not be nested more than 5 deep"),
        ({"any": [nested(0)] * 51}, ".any[49]", "a rule must have at most 50 conditions"),
        # Comparisons with a value
        (compare("amount", ">"), "", "the condition lacks 'value' or 'other'"),
        (compare("amount", ">", value=1, note="x"), "", "the condition has an unknown name 'note'"),
        (compare("amount", "contains", value="1"), "", "operator 'contains' does not apply to a number"),
        (compare("hour", "starts with", value="1"), "", "operator 'starts with' does not apply to an hour"),
        (compare("country", ">", value="PL"), "", "operator '>' does not apply to a string"),
        (compare("country", "between", value=["A", "B"]), "", "operator 'between' does not apply to a string"),
        (compare("paid", "in", value=[True]), "", "operator 'in' does not apply to a boolean"),
        (compare("at", "in", value=["2026-11-25T08:30:00Z"]), "", "operator 'in' does not apply to a time"),
        (compare("country", "==", value=1), "", "the value must be a string, not a number"),
        (compare("items", "==", value="1"), "", "the value must be a number, not '1'"),
        (compare("paid", "==", value="true"), "", "the value must be true or false, not 'true'"),
        (compare("paid", "==", value=0), "", "the value must be true or false, not a number"),
        (compare("amount", "==", value=True), "", "the value must be a number, not a boolean"),
        (compare("at", ">", value="2026-11-25"), "", "the value must be a time with an offset in RFC 3339, not '2026-"),
        (
            compare("amount", "not in", value=1),
            "",
            "the value of operator 'not in' must be a list of at least one value",
        ),
        (compare("amount", "between", value=1), "", "the value of operator 'between' must be a list of two values"),
        (compare("amount", "between", value=[1, 2, 3]), "", "operator 'between' must be a list of two values"),
        (compare("amount", "between", value=[1, None]), "", "the value must be a number, not null"),
        (
            compare("country", "contains", value=""),
            "",
            "the value of operator 'contains' must have 1 to 1000 characters",
        ),
        (compare("country", "ends with", value="x" * 1001), "", "operator 'ends with' must have 1 to 1000 characters"),
        # Presence
        (compare("country", "is missing", value=None), "", "operator 'is missing' excludes 'value'"),
        (compare("at", "is present", of="hour"), "", "operator 'is present' excludes 'of'"),
        # Parts of a time
        (compare("amount", ">", of="hour", value=1), "", "'of' applies to times only, not to 'amount'"),
        (compare("at", ">", of="minute", value=1), "", "'of' must be 'hour' or 'weekday', not 'minute'"),
        (compare("at", ">", of="weekday", value="friday"), "", "operator '>' does not apply to a weekday"),
        (compare("at", "==", of="weekday", value="Friday"), "", "the value must be one of monday, tuesday, "),
        (compare("at", "==", of="weekday", value=5), "", "the value must be one of monday, "),
        (compare("at", "==", of="hour", value="5"), "", "the value must be a number, not '5'"),
        # Comparisons with another field
        (compare("country", "==", other="x"), "", "unknown field 'x'"),
        (compare("country", "==", other="ip", value="PL"), "", "'other' excludes 'value'"),
        (compare("at", "==", other="at", of="hour"), "", "'other' excludes 'of'"),
        (compare("country", "==", other="amount"), "", "'country' is a string and 'amount' is a number"),
        (compare("paid", "!=", other="items"), "", "'paid' is a boolean and 'items' is a number"),
        (
            compare("country", "contains", other="ip"),
            "",
            "operator 'contains' does not compare two fields that are strings",
        ),
        (compare("amount", "in", other="usual"), "", "operator 'in' does not compare two fields that are numbers"),
        (compare("country", "==", other="ip", times=2), "", "'times' applies to numbers only, not to 'ip'"),
        (compare("amount", ">", value=1, times=2), "", "'times' needs 'other'"),
        *(
            (compare("amount", ">", other="usual", times=times), "", "'times' must be a finite number greater than 0")
            for times in (0, -1, "2", True, None, 1e400, 10**400)
        ),
    ],
)
def test_invalid_condition(condition: Any, place: str, message: str) -> None:
    error = error_of(changed(fields=OWN, rules=[{"label": "R", "points": 1, "when": [nested(0), condition]}]))
    assert f"Rule 'R' when[1]{place}: " in error
    assert message in error


def test_unknown_field_of_many() -> None:
    fields = {f"field_number_{number:02}_of_fifty": {"type": "time"} for number in range(50)}
    error = error_of(changed(fields=fields, rules=[{"label": "R", "points": 1, "when": [compare("x", "is missing")]}]))
    assert error.endswith(", ...")


STORE = {"by": "customer_id", "distinct": "store"}
# A few times what a refusal takes, since machines differ; one that is quadratic takes far longer.
MAX_REFUSAL_SECONDS = 0.25
NAME = "a name must have 1 to 40 lower-case letters, digits and '_', and begin with a letter"
SUITABLE = "known are category, country, customer_id, hour, ip, items, store, tx_id"


@pytest.mark.parametrize(
    ("histories", "message"),
    [
        ([], "The rule set's 'histories' must be an object"),
        (None, "The rule set's 'histories' must be an object"),
        ("customer_id", "The rule set's 'histories' must be an object"),
        (dict.fromkeys("abcd", STORE), "The rule set's 'histories' must be at most 3"),
        *(
            ({name: STORE}, f"History {name[:64]!r}: {NAME}")
            for name in (
                "",
                "Customer",
                "_x",
                "1st",
                "a" * 41,
                "a" * 1_000,
                "customer.id",
                "a-b",
                "x\n",
                "\u0131d",
                "é",
            )
        ),
        ({"customer": "customer_id"}, "History 'customer' must be an object"),
        ({"customer": []}, "History 'customer' must be an object"),
        ({"customer": {}}, "History 'customer' lacks 'by'"),
        ({"customer": {"by": "customer_id"}}, "History 'customer' lacks 'distinct'"),
        ({"customer": {"distinct": "store"}}, "History 'customer' lacks 'by'"),
        ({"customer": {**STORE, "of": "amount"}}, "History 'customer' has an unknown name 'of'"),
        ({"customer": {**STORE, "by": "colour"}}, f"'customer': 'by' must be a field, not 'colour'; {SUITABLE}"),
        ({"customer": {**STORE, "by": ["ip"]}}, f"'customer': 'by' must be a field, not an array; {SUITABLE}"),
        ({"customer": {**STORE, "by": None}}, f"'customer': 'by' must be a field, not null; {SUITABLE}"),
        ({"customer": {**STORE, "by": "x" * 1_000}}, f"'by' must be a field, not '{'x' * 64}'; {SUITABLE}"),
        ({"customer": {**STORE, "distinct": 1}}, f"'customer': 'distinct' must be a field, not a number; {SUITABLE}"),
        ({"customer": {**STORE, "distinct": "customer.count_1h"}}, "must be a field, not 'customer.count_1h'; "),
        *(
            (
                {"customer": {**STORE, role: name}},
                f"History 'customer': '{role}' must be a field of type string or integer, and {name!r} is a {kind}",
            )
            for role in ("by", "distinct")
            for name, kind in {"amount": "number", "timestamp": "time", "paid": "boolean", "at": "time"}.items()
        ),
        (
            {"customer": {"by": "store", "distinct": "store"}},
            "History 'customer': 'by' and 'distinct' must be different fields, not both 'store'",
        ),
        ({"a": STORE, "b": STORE}, "Histories 'a' and 'b' have the same 'by' and 'distinct'"),
        ({"a": STORE, "ip": {"by": "ip", "distinct": "store"}, "b": STORE}, "Histories 'a' and 'b' have the same"),
    ],
)
def test_invalid_history(histories: Any, message: str) -> None:
    assert message in error_of(changed(fields=OWN, histories=histories))


def test_histories() -> None:
    histories = {
        "customer": STORE,
        "ip": {"by": "ip", "distinct": "items"},
        "a" * 40: {"by": "hour", "distinct": "customer_id"},
    }
    rule_set = rules_loader.from_document(changed(fields=OWN, histories=histories))
    assert rule_set.histories == (
        History("customer", "customer_id", "store"),
        History("ip", "ip", "items"),
        History("a" * 40, "hour", "customer_id"),
    )
    assert rules_loader.from_document(changed(histories={})).histories == ()
    assert fields_loader.MAX_COUNT == profiles.MAX_ENTRIES


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        # Fields of histories
        (compare("customer.count_2h", ">", value=1), "'customer.count_2h'; known are customer.amount_ratio, "),
        (compare("customer.", ">", value=1), "unknown field 'customer.'; known are customer.amount_ratio, "),
        (compare("ip.count_1h", ">", value=1), "unknown field 'ip.count_1h'; known are amount, at, "),
        (compare("customer.count_1h.x", ">", value=1), "unknown field 'customer.count_1h.x'; known are "),
        (compare("Customer.count_1h", ">", value=1), "unknown field 'Customer.count_1h'; known are "),
        (compare("amount", ">", other="customer.sum_1h"), "unknown field 'customer.sum_1h'; known are customer."),
        (compare("customer.count_1h", ">", value="1"), "the value must be a number, not '1'"),
        (compare("customer.count_1h", "contains", value="1"), "operator 'contains' does not apply to a number"),
        (compare("customer.is_new", ">", value=True), "operator '>' does not apply to a boolean"),
        (compare("customer.is_new", "==", value=1), "the value must be true or false, not a number"),
        (compare("customer.count_1h", ">", of="hour", value=1), "'of' applies to times only, not to 'customer.count"),
        (compare("customer.is_new", "==", other="amount"), "'customer.is_new' is a boolean and 'amount' is a number"),
        (compare("customer.max_24h", ">", other="amount", times=0), "'times' must be a finite number greater than 0"),
        (compare("customer.is_new", "==", other="paid", times=2), "'times' applies to numbers only, not to 'paid'"),
        (compare("customer.is_new", "is missing", value=True), "operator 'is missing' excludes 'value'"),
        # Lists
        (compare("amount", "in list", value="blocked"), "operator 'in list' does not apply to a number"),
        (compare("items", "not in list", value="blocked"), "operator 'not in list' does not apply to a number"),
        (compare("hour", "in list", value="blocked"), "operator 'in list' does not apply to an hour"),
        (compare("paid", "in list", value="blocked"), "operator 'in list' does not apply to a boolean"),
        (compare("at", "not in list", value="blocked"), "operator 'not in list' does not apply to a time"),
        (compare("at", "in list", of="weekday", value="blocked"), "operator 'in list' does not apply to a weekday"),
        (compare("customer.count_1h", "in list", value="blocked"), "operator 'in list' does not apply to a number"),
        (compare("country", "in list"), "the condition lacks 'value' or 'other'"),
        (compare("country", "in list", other="ip"), "operator 'in list' does not compare two fields that are strings"),
        (compare("country", "in list", value="blocked", other="ip"), "'other' excludes 'value'"),
        (compare("country", "in list", value="blocked", times=2), "'times' needs 'other'"),
        (compare("country", "in list", of="hour", value="blocked"), "'of' applies to times only, not to 'country'"),
        (compare("country", "in list", value=["PL"]), "of operator 'in list' must be the name of a list, not an array"),
        (compare("country", "not in list", value=None), "'not in list' must be the name of a list, not null"),
        (compare("country", "in list", value=7), "operator 'in list' must be the name of a list, not a number"),
        *(
            (compare("country", "in list", value=name), f"list {name[:64]!r}: {NAME}")
            for name in ("", "Blocked", "_x", "7", "a" * 41, "a" * 1_000, "blocked customers", "a-b", "a.b", "x\n", "é")
        ),
    ],
)
def test_invalid_condition_on_history_or_list(condition: Any, message: str) -> None:
    error = error_of(changed(fields=OWN, rules=[{"label": "R", "points": 1, "when": [nested(0), condition]}]))
    assert error.startswith("Rule 'R' when[1]: ")
    assert message in error


def test_number_of_a_history_is_no_field_of_a_transaction() -> None:
    name = "customer.count_1h"
    assert error_of(changed(fields={name: {"type": "integer"}})) == f"Field {name!r}: {NAME}"
    assert error_of(changed(defaults={name: 1})) == f"The rule set's 'defaults' has an unknown name {name!r}"
    transaction = rules_loader.from_document(DOCUMENT).fields.read({"amount": 1, name: 9})
    assert (name in transaction.facts, transaction.unknown) == (False, (name,))


def with_lists(*conditions: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return a rule set with a rule for each condition; every second one is disabled."""
    rules = [
        {"label": f"R{number}", "points": 1, "enabled": number % 2 == 0, "when": [condition]}
        for number, condition in enumerate(conditions)
    ]
    return changed(fields={**OWN, **fields}, rules=rules)


EMAIL = {"type": "string", "case": "ignore"}


def test_lists() -> None:
    blocked, trusted = compare("ip", "in list", value="blocked"), compare("ip", "not in list", value="trusted")
    email = compare("email", "in list", value="mail")
    other = compare("store", "in list", value="blocked")
    groups = {"any": [blocked, {"not": {"all": [trusted, email]}}, blocked]}
    rule_set = rules_loader.from_document(
        with_lists(groups, compare("store", "in list", value="unused"), other, other, blocked, email=EMAIL)
    )
    expected = [("blocked", "ip"), ("trusted", "ip"), ("mail", "email"), ("blocked", "store")]
    assert rule_set.lists == tuple(ListCheck(*pair) for pair in expected)
    assert [check.fact for check in rule_set.lists][:2] == ["ip in list blocked", "ip in list trusted"]
    fields = {name: [field.name for field in fields] for name, fields in rule_set.list_fields.items()}
    assert fields == {"blocked": ["ip", "store"], "trusted": ["ip"], "mail": ["email"], "unused": ["store"]}
    folds = {name: fields[0].ignores_case for name, fields in rule_set.list_fields.items()}
    assert folds == {"blocked": False, "trusted": False, "mail": True, "unused": False}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_fields_of_a_list_agree_on_case(order: tuple[int, int]) -> None:
    conditions = [compare("email", "in list", value="blocked"), compare("ip", "not in list", value="blocked")]
    error = error_of(with_lists(*[conditions[index] for index in order], email=EMAIL))
    assert error == (
        "List 'blocked': 'email' ignores case and 'ip' does not; all fields that are searched for in a list must agree"
    )


def test_maximum_number_of_lists() -> None:
    conditions = [compare("ip", "in list", value=f"list{number}") for number in range(rules_loader.MAX_LIST_CHECKS)]
    assert len(rules_loader.from_document(with_lists(*conditions, *conditions)).list_fields) == len(conditions)
    error = error_of(with_lists(*conditions, compare("store", "in list", value="list1")))
    assert error == "All rules must have at most 50 different pairs of a list and a field together"


def wide(count: int) -> dict[str, Any]:
    return {"any": [nested(0)] * count}


def fastest_refusal(file: Path) -> float:
    """Return the processor time in seconds of the fastest of three refusals, since other tests share the processor."""
    seconds = []
    for _ in range(3):
        start = time.process_time()
        with pytest.raises(RuleSetError) as caught:
            rules_loader.from_file(str(file))
        seconds.append(time.process_time() - start)
        assert len(str(caught.value)) < 500
    return min(seconds)


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param({"when": [wide(12_000)]}, id="wide"),
        pytest.param({"when": [{"all": [wide(49)] * 300}]}, id="wide at two levels"),
        pytest.param({"when": [nested(400)]}, id="deep"),
        pytest.param({"when": [compare("country", "==", value="x" * 900_000)], "note": 1}, id="a long string"),
        pytest.param({"when": [compare("amount", "in", value=[*range(100_000), "x"])]}, id="a long list"),
        pytest.param({"when": [compare("amount", "==", value=10**4_000)]}, id="a huge number"),
        pytest.param({"when": [compare("x" * 900_000, "is missing")]}, id="a long field"),
        pytest.param({"when": [nested(0)], **{f"name {number}": 1 for number in range(60_000)}}, id="many names"),
        pytest.param({"when": [nested(0)], "tags": ["x"] * 200_000}, id="many tags"),
        pytest.param({"when": [nested(0)], "label": "x" * 900_000}, id="a long label"),
    ],
)
def test_hostile_rule_set_is_refused_fast(tmp_path: Path, rule: dict[str, Any]) -> None:
    file = tmp_path / "rules.json"
    document = changed(fields=OWN, rules=[{"label": "R", "points": 1, **rule}])
    file.write_text(json.dumps(document, separators=(",", ":")), encoding="utf-8")
    assert fastest_refusal(file) < MAX_REFUSAL_SECONDS


def test_hostile_fields_are_refused_fast(tmp_path: Path) -> None:
    file = tmp_path / "rules.json"
    for fields in (
        {f"f{number}": {"type": "string"} for number in range(25_000)},
        {"f": {"type": "string", "one_of": [f"{number}" for number in range(80_000)] + ["0"]}},
    ):
        file.write_text(json.dumps(changed(fields=fields)), encoding="utf-8")
        assert fastest_refusal(file) < MAX_REFUSAL_SECONDS


def test_hostile_transaction_is_assessed_fast() -> None:
    """Every condition searches the largest text, which almost matches."""
    searches = [
        compare("country", sign, value="a" * 998 + "b")
        for sign in ("contains", "starts with", "ends with")
        for _ in "ab"
    ]
    rules = [{"label": f"R{number}", "points": 1, "when": [{"any": searches}]} for number in range(200)]
    rule_set = rules_loader.from_document(
        changed(fields={"country": {"type": "string", "case": "ignore"}}, rules=rules)
    )
    start = time.process_time()
    transaction = rule_set.fields.read({"amount": 1, "country": "a" * 65_000})
    assert rule_set.assess(transaction).triggered_rules == ()
    # 400 searches in 65,000 characters
    assert time.process_time() - start < 0.5


def repeating(member: str) -> bytes:
    """Return a file in which one object contains a member twice."""
    return json.dumps(DOCUMENT).replace(member, f"{member}, {member}", 1).encode()


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "The file is empty"),
        (b" \n", "The file is empty"),
        (b"{", "The file is not valid JSON: Expecting property name enclosed in double quotes (line 1 column 2)"),
        (b"\xef\xbb\xbf{}", "The file is not valid JSON: it starts with a byte order mark"),
        (b'{"version": NaN}', "The file is not valid JSON: NaN is not a number in JSON"),
        (b'{"version": ' + b"1" * 4301 + b"}", "The file is not valid JSON: a number has too many digits"),
        (b"[" * 100_000, "The file is nested too deeply"),
        (b'{"version": "1", "version": "2"}', "The rule set has the name 'version' more than once"),
        (repeating('"points": 3'), f"Rule '{R1}' has the name 'points' more than once"),
        (repeating('"value": 3000'), f"{WHEN}: the condition has the name 'value' more than once"),
        (repeating('"HIGH": 3'), "The rule set's 'levels' has the name 'HIGH' more than once"),
        (repeating('"hour": 12'), "The rule set's 'defaults' has the name 'hour' more than once"),
        (b'{"version": "\xff"}', "The file is not valid UTF-8, from byte 13 on"),
        ('{"version": "1"}'.encode("utf-16"), "The file is not valid UTF-8, from byte 0 on"),
        (b" " * 1_000_001, "The file is larger than 1000000 bytes"),
        (b"[]", "The rule set must be an object"),
        (b"{}", "The rule set lacks 'levels'"),
        (
            json.dumps(with_rule(points=10**6 + 1)).encode(),
            f"Rule '{R1}': 'points' must be an integer from -1000000 to 1000000",
        ),
    ],
)
def test_invalid_file(tmp_path: Path, content: bytes, error: str) -> None:
    file = tmp_path / "rules.json"
    file.write_bytes(content)
    with pytest.raises(RuleSetError) as caught:
        rules_loader.from_file(str(file))
    assert str(caught.value) == f"rules.json: {error}"


def test_unreadable_file(tmp_path: Path) -> None:
    for path, reason in {tmp_path: "Is a directory", tmp_path / "none.json": "No such file or directory"}.items():
        with pytest.raises(RuleSetError) as caught:
            rules_loader.from_file(str(path))
        assert str(caught.value) == f"{path.name}: The file cannot be read: {reason}"


def test_file_of_the_maximum_size(tmp_path: Path) -> None:
    file = tmp_path / "rules.json"
    file.write_bytes(json.dumps(DOCUMENT).encode().ljust(rules_loader.MAX_FILE_BYTES))
    assert rules_loader.from_file(str(file)).version == DOCUMENT["version"]


def test_guide_states_the_limits() -> None:
    guide = (ROOT / "functions" / "README.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"### Limits\n\n\| limit \| \|\n\|---\|---\|\n((?:\|.*\n)+)", guide)
    stated = [int(number.replace(",", "")) for number in re.findall(r"\| ([\d,]+)[^|]*\|\n", table)]
    assert stated == [
        rules_loader.MAX_FILE_BYTES,
        fields_loader.MAX_FIELDS,
        fields_loader.MAX_HISTORIES,
        rules_loader.MAX_LIST_CHECKS,
        fields_loader.MAX_TEXT_LENGTH,
        rules_loader.MAX_RULES,
        conditions_loader.MAX_CONDITIONS,
        conditions_loader.MAX_DEPTH,
        rules_loader.MAX_POINTS,
        conditions_loader.MAX_SEARCHED_LENGTH,
        rules_loader.MAX_VERSION_LENGTH,
        rules_loader.MAX_LABEL_LENGTH,
        rules_loader.MAX_LABELS_LENGTH,
        fields_loader.MAX_DESCRIPTION_LENGTH,
        rules_loader.MAX_DESCRIPTION_LENGTH,
        rules_loader.MAX_OWNER_LENGTH,
        rules_loader.MAX_TAGS,
        rules_loader.MAX_TAG_LENGTH,
        strict_json.SHOWN_LENGTH,
        rules.MAX_QUOTED_VALUES,
        decision.MAX_WARNINGS,
    ]
