"""``GET /health``: 200 if the function starts and its rule set is valid. Calls no other service."""

from typing import Any

from scoring import http_api, scorers

SCORER = scorers.load()


@http_api.endpoint
def lambda_handler(event: http_api.Event, context: Any) -> http_api.Response:
    return http_api.json_response({"status": "ok", "version": SCORER.version})
