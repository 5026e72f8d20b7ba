"""``POST /score`` on FastAPI, behind Mangum."""

from typing import Annotated, Any

import boto3
from fastapi import FastAPI, Request
from mangum import Mangum
from pydantic import BaseModel, Field

from lab_records import decide, transact_items

dynamodb = boto3.client("dynamodb")
app = FastAPI()


class Transaction(BaseModel):
    amount: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    hour: Annotated[int | None, Field(ge=0, le=23)] = None
    category: str | None = None
    store: str | None = None
    tx_id: Annotated[str | None, Field(min_length=1, max_length=128)] = None


# No coroutine, since boto3 blocks; FastAPI runs it in a thread.
@app.post("/score")
def score(transaction: Transaction, request: Request) -> dict[str, Any]:
    request_id = request.scope["aws.event"]["requestContext"]["requestId"]
    fields = transaction.model_dump(exclude_unset=True)
    answer = decide(fields, request.headers.get("idempotency-key") or request_id)
    dynamodb.transact_write_items(TransactItems=transact_items(fields, answer))
    return answer


lambda_handler = Mangum(app, lifespan="off")
