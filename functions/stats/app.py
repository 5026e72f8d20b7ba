"""``GET /stats``: exact counts of all decisions."""

from typing import Any

from scoring import aws, reports, web
from scoring.rules import RULE_SET

REPORTS = reports.connect()


@web.endpoint
def lambda_handler(event: web.Event, context: Any) -> web.Response:
    totals = REPORTS.totals(aws.deadline(context))
    return web.json_response(
        {
            "total": totals.total,
            "high": totals.high,
            "by_risk_level": totals.by_risk_level,
            # The rules in force come first, those that never hit with 0; rules that are gone keep their counts.
            "by_rule": {rule.label: 0 for rule in RULE_SET.rules} | totals.by_rule,
        }
    )
