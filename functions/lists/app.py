"""``PUT``, ``DELETE /lists/{name}/{entry}`` and ``GET /lists/{name}``: change and read the lists that rules search."""

import time
from typing import Any

from scoring import deadlines, http_api, lists, scorers

RULES = scorers.load_rules()
LISTS = lists.connect()


@http_api.endpoint
def lambda_handler(event: http_api.Event, context: Any) -> http_api.Response:
    method = event["requestContext"]["http"]["method"]
    name, deadline = lists.read_name(event), deadlines.of(context)
    if method == "GET":
        return http_api.json_response(_page(event, name, deadline))
    lists.read_query(event)
    entry = lists.read_entry(event, RULES.list_fields.get(name, ()))
    change = _delete if method == "DELETE" else _put
    return http_api.json_response(change(event, name, entry, deadline))


def _put(event: http_api.Event, name: str, entry: str, deadline: float) -> dict[str, Any]:
    added = lists.read_details(event, entry, int(time.time()))
    LISTS.put(name, added, deadline)
    response = {"list": name, **added.document()}
    if name not in RULES.list_fields:
        response["warnings"] = [f"No rule of version {RULES.version!r} uses the list {name!r}"]
    return response


def _delete(event: http_api.Event, name: str, entry: str, deadline: float) -> dict[str, Any]:
    # An entry that was added before its fields ignored case is stored as it was sent.
    stored = dict.fromkeys([entry, lists.read_entry(event, ())])
    deleted = [LISTS.delete(name, one, deadline) for one in stored]
    return {"list": name, "entry": entry, "deleted": any(deleted)}


def _page(event: http_api.Event, name: str, deadline: float) -> dict[str, Any]:
    page = LISTS.page(name, *lists.read_range(event), deadline)
    return {
        "list": name,
        "entries": [entry.document() for entry in page.entries],
        **({} if page.next is None else {"next": page.next}),
    }
