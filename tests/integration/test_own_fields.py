"""A new field and a rule on it are an edit of ``rules.json`` alone, served with the next request."""

import copy
import json
from pathlib import Path

from tests.rule_set import DOCUMENT, R1
from tests.service import started

RULES = "functions/layer/scoring/scorers/rules.json"
ABROAD = "R4: abroad"
PAYMENT = {"tx_id": "TX1", "amount": 5000, "country": "DE"}


def test_new_field_and_rule_are_served_with_the_next_request(checkout: Path, tmp_path: Path) -> None:
    document = copy.deepcopy(DOCUMENT)
    document["version"] = "1.1-tests"
    document["fields"] = {"country": {"type": "string", "max_length": 2}}
    rule = {"label": ABROAD, "points": 2, "when": [{"field": "country", "operator": "!=", "value": "PL"}]}
    document["rules"].append(rule)
    r1 = {"rule": R1, "points": 3, "because": {"amount": 5000}}
    abroad = {"rule": ABROAD, "points": 2, "because": {"country": "DE"}}

    with started(tmp_path / "stack.log", checkout) as stack:
        before = stack.post("/score", json=PAYMENT, headers={"Idempotency-Key": "k1"}).json()
        assert (before["version"], before["risk_level"], before["reasons"]) == ("1.0-tests", "HIGH", [r1])
        assert before["warnings"] == ["Unknown field 'country' was ignored"]

        (checkout / RULES).write_text(json.dumps(document), encoding="utf-8")
        refused = stack.post("/score", json={**PAYMENT, "country": "DEU"})
        assert (refused.status_code, refused.json()) == (
            400,
            {"error": "Field 'country' must have at most 2 characters"},
        )
        after = stack.post("/score", json=PAYMENT).json()
        assert (after["version"], after["risk_level"], after["reasons"]) == ("1.1-tests", "CRITICAL", [r1, abroad])
        assert "warnings" not in after
        assert stack.post("/score", json=PAYMENT, headers={"Idempotency-Key": "k1"}).json() == before
        assert stack.get("/transaction/TX1").json()["decisions"] == [
            after | {"transaction": PAYMENT},
            before | {"transaction": {"tx_id": "TX1", "amount": 5000}},
        ]
        assert stack.get("/health").json()["version"] == "1.1-tests"
        assert stack.stats()["by_rule"][ABROAD] == 1
        assert '"country"' in stack.get("/openapi.json").text

        rule["when"] = [{"field": "contry", "operator": "!=", "value": "PL"}]
        (checkout / RULES).write_text(json.dumps(document), encoding="utf-8")
        for broken in (stack.post("/score", json=PAYMENT), stack.get("/health")):
            assert broken.status_code == 503
            error = f"rules.json: Rule '{ABROAD}' when[0]: unknown field 'contry'; known are amount, category, country"
            assert broken.json()["error"].startswith(error)
        # Neither needs the rules.
        assert stack.stats()["total"] == 2
        assert len(stack.get("/transaction/TX1").json()["decisions"]) == 2

        (checkout / RULES).write_text(json.dumps(DOCUMENT), encoding="utf-8")
        assert stack.post("/score", json=PAYMENT).json()["version"] == "1.0-tests"
    assert "Traceback" not in (tmp_path / "stack.log").read_text()
