"""``POST /score/batch``: score up to 1,000 transactions, record the decisions once, and respond to each in order."""

import time
from typing import Any

from scoring import batches, deadlines, http_api, scorers, telemetry
from scoring.decision import Decision
from scoring.errors import HttpError, StoreUnavailable
from scoring.ledger import recorder
from scoring.ledger.writer import Outcome, Recorded

SCORER = scorers.load()
RECORDER = recorder.connect()


@http_api.endpoint
@telemetry.count_rejections
def lambda_handler(event: http_api.Event, context: Any) -> http_api.Response:
    start = time.perf_counter()
    deadline = deadlines.of(context)
    decided = batches.decide(batches.read(event, context), SCORER)
    recorded = iter(RECORDER.record([one for one in decided if isinstance(one, Decision)], deadline))
    outcomes = [next(recorded) if isinstance(one, Decision) else one for one in decided]
    telemetry.emit_batch(
        [one for one in outcomes if isinstance(one, Recorded)],
        [one for one in outcomes if isinstance(one, HttpError)],
        request_id=event["requestContext"]["requestId"],
        seconds=time.perf_counter() - start,
    )
    response = http_api.json_response({"results": [_result(one) for one in outcomes]})
    # A replay returns the stored response, which can be larger than that of the new decision.
    batches.check_response(response["body"])
    return response


def _result(outcome: Outcome | HttpError) -> dict[str, Any]:
    """Return the result of one item.

    Raises
    ------
    StoreUnavailable
        The decision is neither recorded nor in the outbox: the caller has to repeat the batch.
    """
    if isinstance(outcome, StoreUnavailable):
        raise outcome
    if isinstance(outcome, HttpError):
        return {"error": str(outcome)}
    return {**outcome.response, "replayed": True} if outcome.replayed else {**outcome.response}
