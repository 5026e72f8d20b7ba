"""``POST /score``: judge one transaction, record the decision once, answer with its reasons."""

from typing import Any

from scoring import aws, recorder, telemetry, web
from scoring.decision import decide

RECORDER = recorder.connect()


@web.endpoint
def lambda_handler(event: web.Event, context: Any) -> web.Response:
    deadline = aws.deadline(context)
    recorded = RECORDER.record(decide(web.json_body(event), web.decision_id(event, context)), deadline)
    telemetry.log_decision(recorded.answer, replayed=recorded.replayed)
    return web.json_response(recorded.answer, headers={"Idempotent-Replayed": "true"} if recorded.replayed else None)
