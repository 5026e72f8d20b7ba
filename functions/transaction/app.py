"""``GET /transaction/{tx_id}``: the decisions about a transaction."""

from typing import Any

from scoring import deadlines, http_api
from scoring.errors import NotFound
from scoring.ledger import reader
from scoring.transaction import check_id

READER = reader.connect()


@http_api.endpoint
def lambda_handler(event: http_api.Event, context: Any) -> http_api.Response:
    tx_id = check_id("tx_id", http_api.path_parameter(event, "tx_id"))
    decisions = READER.find(tx_id, deadlines.of(context))
    if not decisions:
        raise NotFound(f"No decision is stored for tx_id {tx_id!r}")
    return http_api.json_response({"tx_id": tx_id, "status": "found", "decisions": decisions})
