"""``POST /score``: judge one transaction, record the decision once, answer with its reasons."""

from typing import Any

from scoring import aws, ledger, outbox, telemetry, web
from scoring.decision import Decision, decide
from scoring.errors import StoreUnavailable
from scoring.ledger import Recorded

LEDGER = ledger.connect()
OUTBOX = outbox.connect()


@web.endpoint
def lambda_handler(event: web.Event, context: Any) -> web.Response:
    deadline = aws.deadline(context)
    recorded = _record(decide(web.json_body(event), web.decision_id(event, context)), deadline)
    telemetry.log_decision(recorded.answer, replayed=recorded.replayed)
    return web.json_response(recorded.answer, headers={"Idempotent-Replayed": "true"} if recorded.replayed else None)


def _record(decision: Decision, deadline: float) -> Recorded:
    try:
        return LEDGER.record(decision, deadline - aws.CALL_SECONDS)  # the outbox may need as long
    except StoreUnavailable:
        OUTBOX.send(decision, deadline)
        return Recorded(decision.answer() | {"recorded": False}, replayed=False)
