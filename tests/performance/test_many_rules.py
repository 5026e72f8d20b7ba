"""A large rule set decides and loads fast."""

from scoring.scorers import rules_loader
from tests.performance import many_rules

# Multiples of the time in which the lab's three rules decide, since machines differ
MAX_RATIO = 60
MAX_RATIO_MOST_HITS = 100
MAX_RATIO_LOAD = 5_000


def test_200_rules_are_fast() -> None:
    found = many_rules.measure()
    print(many_rules.report(found))
    assert found.ratio <= MAX_RATIO
    assert found.ratio_most_hits <= MAX_RATIO_MOST_HITS
    assert found.ratio_load <= MAX_RATIO_LOAD


def test_rule_set_is_large_and_hits() -> None:
    rules = rules_loader.from_document(many_rules.document())
    hits = [len(rules.assess(rules.fields.read(tx)).triggered_rules) for tx in many_rules.transactions()]
    assert len(rules.rules) == many_rules.RULES
    assert min(hits) == 0
    assert max(hits) > 30
