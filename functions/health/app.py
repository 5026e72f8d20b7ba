"""``GET /health``: the function starts and its rule set is valid. Touches no other service."""

from typing import Any

from scoring import web
from scoring.rules import RULE_SET


@web.endpoint
def lambda_handler(event: web.Event, context: Any) -> web.Response:
    return web.json_response({"status": "ok", "version": RULE_SET.version})
