"""The request body as a pydantic model, for the baselines that validate with it."""

from typing import Annotated

from pydantic import BaseModel, Field


class TransactionBody(BaseModel):
    amount: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    hour: Annotated[int | None, Field(ge=0, le=23)] = None
    category: str | None = None
    store: str | None = None
    tx_id: Annotated[str | None, Field(min_length=1, max_length=128)] = None
