"""``POST /score``: judge one transaction, record the decision once, answer with its reasons."""

import time
from typing import Any

from scoring import aws, recorder, telemetry, web
from scoring.decision import decide
from scoring.rules import RULE_SET

RECORDER = recorder.connect()


@web.endpoint
@telemetry.counting_rejections
def lambda_handler(event: web.Event, context: Any) -> web.Response:
    start = time.perf_counter()
    deadline = aws.deadline(context)
    decision = decide(web.json_body(event), web.decision_id(event, context), RULE_SET)
    recorded = RECORDER.record(decision, deadline)
    telemetry.decided(
        recorded.answer,
        replayed=recorded.replayed,
        request_id=event["requestContext"]["requestId"],
        seconds=time.perf_counter() - start,
    )
    return web.json_response(recorded.answer, headers={"Idempotent-Replayed": "true"} if recorded.replayed else None)
