"""``POST /score``: score one transaction, record the decision once, and respond with score and reasons."""

import time
from typing import Any

from scoring import deadlines, http_api, scorers, telemetry
from scoring.decision import decide
from scoring.ledger import recorder

SCORER = scorers.load()
RECORDER = recorder.connect()


@http_api.endpoint
@telemetry.count_rejections
def lambda_handler(event: http_api.Event, context: Any) -> http_api.Response:
    start = time.perf_counter()
    deadline = deadlines.of(context)
    decision = decide(http_api.json_body(event), http_api.decision_id(event, context), SCORER)
    response, replayed = RECORDER.record_one(decision, deadline)
    telemetry.emit_decision(
        response,
        replayed=replayed,
        request_id=event["requestContext"]["requestId"],
        seconds=time.perf_counter() - start,
    )
    return http_api.json_response(response, headers={"Idempotent-Replayed": "true"} if replayed else None)
