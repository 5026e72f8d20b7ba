"""``DELETE /customer/{customer_id}``: forget a customer."""

from typing import Any

from scoring import deadlines, forgetting, http_api, lists, scorers
from scoring.transaction import check_id

RULES = scorers.load_rules()
CUSTOMERS = forgetting.connect()


@http_api.endpoint
def lambda_handler(event: http_api.Event, context: Any) -> http_api.Response:
    customer_id = check_id("customer_id", http_api.path_parameter(event, "customer_id"))
    lists.read_query(event)
    forgotten = CUSTOMERS.forget(customer_id, RULES, deadlines.of(context))
    return http_api.json_response({"customer_id": customer_id, **forgotten._asdict()})
