"""``POST /score`` on Flask, behind apig-wsgi."""

from typing import Any

import boto3
from apig_wsgi import make_lambda_handler
from flask import Flask, request

from lab_records import decide, transact_items

dynamodb = boto3.client("dynamodb")
app = Flask(__name__)


@app.post("/score")
def score() -> tuple[dict[str, Any], int]:
    transaction = request.get_json()
    if not isinstance(transaction, dict) or "amount" not in transaction:
        return {"error": "Missing required field 'amount'"}, 400
    if isinstance(transaction["amount"], bool) or not isinstance(transaction["amount"], int | float):
        return {"error": "Field 'amount' must be a number"}, 400
    request_id = request.environ["apig_wsgi.request_context"]["requestId"]
    response = decide(transaction, request.headers.get("Idempotency-Key") or request_id)
    dynamodb.transact_write_items(TransactItems=transact_items(transaction, response))
    return response, 200


lambda_handler = make_lambda_handler(app)
