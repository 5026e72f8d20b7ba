"""``POST /score`` on FastAPI, behind Mangum."""

from typing import Any

import boto3
from fastapi import FastAPI, Request
from mangum import Mangum

from lab_records import decide, transact_items
from transaction_body import TransactionBody

dynamodb = boto3.client("dynamodb")
app = FastAPI()


# Not a coroutine, because boto3 blocks; FastAPI runs it in a thread.
@app.post("/score")
def score(transaction: TransactionBody, request: Request) -> dict[str, Any]:
    request_id = request.scope["aws.event"]["requestContext"]["requestId"]
    fields = transaction.model_dump(exclude_unset=True)
    response = decide(fields, request.headers.get("idempotency-key") or request_id)
    dynamodb.transact_write_items(TransactItems=transact_items(fields, response))
    return response


lambda_handler = Mangum(app, lifespan="off")
