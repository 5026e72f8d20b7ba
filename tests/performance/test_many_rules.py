"""A large rule set decides and loads fast."""

from scoring.scorers import rules_loader
from tests.performance import many_rules

MAX_RATIO = 60
# About twice what a machine with a processor of 2020 takes.
MAX_MICROSECONDS = 500
MAX_LOAD_MILLISECONDS = 20


def test_200_rules_are_fast() -> None:
    found = many_rules.measure()
    print(many_rules.report(found))
    assert found.ratio <= MAX_RATIO
    assert found.many <= found.most_hits <= MAX_MICROSECONDS
    assert found.load <= MAX_LOAD_MILLISECONDS


def test_rule_set_is_large_and_hits() -> None:
    rules = rules_loader.from_document(many_rules.document())
    hits = [len(rules.assess(rules.fields.read(tx)).triggered_rules) for tx in many_rules.transactions()]
    assert len(rules.rules) == many_rules.RULES
    assert min(hits) == 0
    assert max(hits) > 30
