"""``POST /score``: judge one transaction, record the decision once, answer with its reasons."""

from typing import Any

from scoring import ledger, telemetry, web
from scoring.decision import decide

LEDGER = ledger.connect()


@web.endpoint
def lambda_handler(event: web.Event, context: Any) -> web.Response:
    recorded = LEDGER.record(decide(web.json_body(event), web.decision_id(event, context)))
    telemetry.log_decision(recorded.answer, replayed=recorded.replayed)
    return web.json_response(recorded.answer, headers={"Idempotent-Replayed": "true"} if recorded.replayed else None)
