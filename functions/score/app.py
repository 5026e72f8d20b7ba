"""``POST /score``: judge one transaction, record the decision once, answer with its reasons."""

from typing import Any

from scoring import ledger, telemetry, web
from scoring.decision import decide

LEDGER = ledger.connect()


@web.endpoint
def lambda_handler(event: web.Event, context: Any) -> web.Response:
    decision = decide(web.json_body(event), web.decision_id(event, context))
    recorded = LEDGER.record(decision)
    telemetry.log_decision(decision, replayed=recorded.replayed)
    return web.json_text_response(recorded.answer, {"Idempotent-Replayed": "true"} if recorded.replayed else None)
