"""``GET /stats``: exact counts of all decisions."""

from typing import Any

from scoring import deadlines, http_api, scorers
from scoring.errors import RuleSetError
from scoring.ledger import reader

READER = reader.connect()


@http_api.endpoint
def lambda_handler(event: http_api.Event, context: Any) -> http_api.Response:
    totals = READER.totals(deadlines.of(context))
    return http_api.json_response(
        {
            "total": totals.total,
            "high": totals.high,
            "by_risk_level": totals.by_risk_level,
            # Current rules come first, with 0 if they never hit; removed rules keep their counts.
            "by_rule": dict.fromkeys(_current_labels(), 0) | totals.by_rule,
        }
    )


def _current_labels() -> tuple[str, ...]:
    try:
        return scorers.load_rules().labels
    except RuleSetError:
        # Counts can be read without a valid rule set; /health and /score report the error.
        return ()
