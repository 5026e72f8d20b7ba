"""``GET /transaction/{tx_id}``: what was decided about a transaction."""

from typing import Any

from scoring import aws, reports, web
from scoring.errors import NotFound
from scoring.transaction import check_tx_id

REPORTS = reports.connect()


@web.endpoint
def lambda_handler(event: web.Event, context: Any) -> web.Response:
    tx_id = check_tx_id((event.get("pathParameters") or {}).get("tx_id"))
    decisions = REPORTS.find(tx_id, aws.deadline(context))
    if not decisions:
        raise NotFound(f"No decision is stored for tx_id {tx_id!r}")
    return web.json_response({"tx_id": tx_id, "status": "found", "decisions": decisions})
