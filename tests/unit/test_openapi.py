"""The OpenAPI document matches the code: routes, limits, examples and responses."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
import schemathesis

from functions.fallback.app import ALLOWED
from scoring import batches, contract, http_api, lists, strict_json, transaction
from scoring.assessment import RISK_LEVELS
from scoring.decision import MAX_WARNINGS
from scoring.errors import HttpError, InvalidRequest
from scoring.fields import BUILT_IN, KEY_FIELD
from scoring.ledger import reader
from scoring.lookups import MAX_ENTRY_LENGTH
from scoring.scorer import Scorer
from scoring.scorers import rules_loader
from scoring.transaction import check_id
from tests import batch_corpus, card_rules, corpus, events
from tests.batch_corpus import ARRAY, FORMATS, Format
from tests.card_corpus import CARD_CASES, REFUSING_CASES, REFUSING_DOCUMENT
from tests.corpus import Case
from tests.expected import RESPONSES
from tests.generated import OPENAPI_FILE
from tests.lists_corpus import CASES as LIST_CASES
from tests.local import template
from tests.rule_set import R1, R2, R3, RULE_SET
from tests.unit.conftest import FOREST, Functions
from tests.unit.json_parts import parts

DOCUMENT: dict[str, Any] = json.loads(OPENAPI_FILE.read_text(encoding="utf-8"))
COMPONENTS = DOCUMENT["components"]
SCHEMAS = COMPONENTS["schemas"]
# Responses of API Gateway itself: to unauthorized callers, and to everybody.
UNKNOWN = {"401", "403"}
REFUSALS = UNKNOWN | {"429", "500"}
# API Gateway's own 503; routes that need the store have another one, too.
GATEWAY_503 = {"$ref": "#/components/responses/FunctionUnavailable"}
# Path parameters that match slashes, too
GREEDY = {"entry", "customer_id"}
# Tokens that may score must not change lists.
SIGNED_PATHS = {"/lists/{name}", "/lists/{name}/{entry}", "/customer/{customer_id}"}
OF_MODEL = {"fraud": "boolean", "fraud_probability": "number", "unseen": "array", "contributions": "array"}
STORE_503 = {"$ref": "#/components/responses/StoreUnavailable"}


def resolved(value: dict[str, Any]) -> dict[str, Any]:
    """Return the target of a reference, or the value itself."""
    while "$ref" in value:
        found: Any = DOCUMENT
        for name in value["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        value = found
    return value


def validator(schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator({**schema, "components": COMPONENTS}, validate_formats=True)


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield path, method and operation."""
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


def operation_of(path: str, method: str = "") -> dict[str, Any]:
    """Return the operation of a requested path with this method, or the first one of the path."""
    path = path.partition("?")[0]
    for known, methods in DOCUMENT["paths"].items():
        pattern = re.sub(r"{(\w+)}", lambda name: ".+" if name[1] in GREEDY else "[^/]+", known)
        if re.fullmatch(pattern, path):
            return dict(methods.get(method.lower()) or next(iter(methods.values())))
    return {}


def test_document_is_valid() -> None:
    schemathesis.openapi.from_dict(DOCUMENT).validate()
    for schema in SCHEMAS.values():
        jsonschema_rs.meta.validate({**schema, "$schema": "https://json-schema.org/draft/2020-12/schema"})


def test_references_resolve_and_components_are_used() -> None:
    references = {value for name, value in parts(DOCUMENT) if name == "$ref"}
    components = {
        f"#/components/{kind}/{name}" for kind in COMPONENTS if kind != "securitySchemes" for name in COMPONENTS[kind]
    }
    assert references == components


def test_routes_match_the_fallback() -> None:
    routes = {route.replace("+}", "}") for route in template.routes()}
    assert {f"{method} {path}" for path, method, _ in operations()} | {"$default"} == routes
    greedy = {name for route in template.routes() for name in re.findall(r"{(\w+)\+}", route)}
    parameters = [value for _, value in parts(DOCUMENT) if isinstance(value, dict) and value.get("in") == "path"]
    assert {one["name"] for one in parameters if one.get("x-greedy")} == greedy == GREEDY
    assert set(COMPONENTS["responses"]["MethodNotAllowed"]["headers"]["Allow"]["schema"]["enum"]) == set(
        ALLOWED.values()
    )


def test_every_route_but_health_requires_authorization() -> None:
    """``tests/infrastructure`` checks the same of the template."""
    assert DOCUMENT["security"] == [{"signature": []}, {"token": []}]
    assert {path: operation["security"] for path, _, operation in operations() if "security" in operation} == {
        "/health": [],
        **{path: [{"signature": []}] for path in SIGNED_PATHS},
    }
    signature = COMPONENTS["securitySchemes"]["signature"]
    assert signature["x-amazon-apigateway-authtype"] == "awsSigv4"
    token = COMPONENTS["securitySchemes"]["token"]
    assert (token["type"], token["scheme"], token["bearerFormat"]) == ("http", "bearer", "JWT")
    for path, _, operation in operations():
        without = UNKNOWN if path == "/health" else {"401"} if path in SIGNED_PATHS else set()
        expected = REFUSALS - without
        assert REFUSALS & operation["responses"].keys() == expected


def test_server_is_relative_to_the_document() -> None:
    """The content security policy of the page allows no other server."""
    assert [server["url"] for server in DOCUMENT["servers"]] == ["."]


def test_error_statuses_match_the_error_classes() -> None:
    statuses = {status for _, _, operation in operations() for status in operation["responses"]}
    assert statuses == {"200"} | REFUSALS | {str(error.status) for error in HttpError.__subclasses__()}


def test_every_function_response_has_the_common_headers() -> None:
    for _, _, operation in operations():
        for status, response in operation["responses"].items():
            headers = resolved(response).get("headers", {})
            of_function = status not in REFUSALS and response != GATEWAY_503
            if of_function:
                assert {"Cache-Control", "X-Content-Type-Options"} <= headers.keys()
            assert ("Retry-After" in headers) == (of_function and status == "503")
            assert ("Allow" in headers) == (status == "405")


def test_every_route_documents_the_503_of_api_gateway() -> None:
    assert {path for path, _, operation in operations() if operation["responses"]["503"] == STORE_503} == {
        "/score",
        "/score/batch",
        "/stats",
        "/transaction/{tx_id}",
        *SIGNED_PATHS,
    }
    for _, _, operation in operations():
        response = operation["responses"]["503"]
        assert response in (GATEWAY_503, STORE_503)
        schema = validator(resolved(response)["content"]["application/json"]["schema"])
        assert schema.is_valid({"message": "Service Unavailable"})
        assert schema.is_valid({"error": "Later"}) == (response == STORE_503)
        # A response of API Gateway has no headers of the functions.
        headers = resolved(response).get("headers", {}).values()
        assert not any(resolved(header).get("required") for header in headers)


def test_limits_match_the_code() -> None:
    for path in ("/score", "/echo"):
        body = DOCUMENT["paths"][path]["post"]["requestBody"]
        assert f"{http_api.MAX_BODY_BYTES // 1024} KiB ({http_api.MAX_BODY_BYTES} bytes)" in body["description"]
    batch = DOCUMENT["paths"]["/score/batch"]["post"]
    description = batch["requestBody"]["description"]
    assert f"1 to {batches.MAX_ITEMS:,} transactions" in description
    assert f"{batches.MAX_BATCH_BYTES // 2**20} MiB ({batches.MAX_BATCH_BYTES} bytes)" in description
    assert f"each is at most {http_api.MAX_BODY_BYTES // 1024} KiB" in description
    array = batch["requestBody"]["content"]["application/json"]["schema"]
    for schema in (array, SCHEMAS["BatchResponse"]["properties"]["results"]):
        assert (schema["minItems"], schema["maxItems"]) == (1, batches.MAX_ITEMS)
    key = COMPONENTS["parameters"]["IdempotencyKey"]["schema"]
    item_key = SCHEMAS["BatchItem"]["properties"][KEY_FIELD]
    for schema in (key, item_key):
        assert (schema["minLength"], schema["maxLength"]) == (1, http_api.MAX_KEY_LENGTH)
    (batch_key,) = batch["parameters"]
    assert (batch_key["schema"]["minLength"], batch_key["schema"]["maxLength"]) == (1, batches.MAX_BATCH_KEY_LENGTH)
    assert key["pattern"] == item_key["pattern"] == batch_key["schema"]["pattern"]
    (tx_id,) = DOCUMENT["paths"]["/transaction/{tx_id}"]["get"]["parameters"]
    for schema in (tx_id["schema"], SCHEMAS["Transaction"]["properties"]["tx_id"]):
        assert (schema["minLength"], schema["maxLength"]) == (1, transaction.MAX_ID_LENGTH)
    assert SCHEMAS["Lookup"]["properties"]["decisions"]["maxItems"] == reader.MAX_FOUND
    lookup = DOCUMENT["paths"]["/transaction/{tx_id}"]["get"]["description"]
    assert f"newest {reader.MAX_FOUND} " in lookup
    assert f"{reader.MAX_FOUND_BYTES / 1e6} MB" in lookup
    labels = SCHEMAS["Decision"]["properties"]["triggered_rules"]["items"]
    assert labels["maxLength"] == rules_loader.MAX_LABEL_LENGTH


def test_limits_of_lists_match_the_code() -> None:
    details, entry = SCHEMAS["ListEntryDetails"]["properties"], COMPONENTS["parameters"]["ListEntry"]["schema"]
    _, after, limit = DOCUMENT["paths"]["/lists/{name}"]["get"]["parameters"]
    for schema in (entry, after["schema"], SCHEMAS["ListEntry"]["properties"]["entry"]):
        assert (schema["minLength"], schema["maxLength"]) == (1, MAX_ENTRY_LENGTH)
    for schema in (details["reason"], SCHEMAS["ListEntry"]["properties"]["reason"]):
        assert (schema["minLength"], schema["maxLength"]) == (1, lists.MAX_REASON_LENGTH)
    assert limit["schema"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": lists.MAX_LIMIT,
        "default": lists.DEFAULT_LIMIT,
    }
    assert SCHEMAS["ListPage"]["properties"]["entries"]["maxItems"] == lists.MAX_LIMIT
    page = DOCUMENT["paths"]["/lists/{name}"]["get"]["description"]
    assert f"{lists.MAX_PAGE_BYTES / 1e6} MB" in page
    (customer_id,) = DOCUMENT["paths"]["/customer/{customer_id}"]["delete"]["parameters"]
    assert customer_id["schema"]["maxLength"] == transaction.MAX_ID_LENGTH
    for character in [*map(chr, range(0x300)), "€", "\u2028", "🂡"]:
        valid = passes(check_id, "entry", character)
        for schema in (entry, customer_id["schema"]):
            assert validator(schema).is_valid(character) == (valid and character != "/")
            assert validator(schema).is_valid(f"a{character}") == valid
        for schema in (after["schema"], details["reason"]):
            assert validator(schema).is_valid(character) == valid


def test_fields_levels_and_labels_match_the_code() -> None:
    assert SCHEMAS["Transaction"]["properties"].keys() == {field.name for field in BUILT_IN}
    assert SCHEMAS["Transaction"]["required"] == [field.name for field in BUILT_IN if field.required]
    assert SCHEMAS["Reason"]["properties"]["level"]["enum"] == list(rules_loader.LEVEL_LIMITS)
    assert SCHEMAS["Decision"]["properties"]["warnings"]["maxItems"] == MAX_WARNINGS + 1
    levels = list(RISK_LEVELS)
    assert SCHEMAS["RiskLevel"]["enum"] == levels
    assert SCHEMAS["Stats"]["properties"]["by_risk_level"]["required"] == levels
    assert list(SCHEMAS["Stats"]["properties"]["by_risk_level"]["properties"]) == levels
    labels = set(RULE_SET.labels)
    examples = [value for name, value in parts(DOCUMENT) if name in {"example", "value"}]
    assert {label for name, value in parts(examples) if name == "triggered_rules" for label in value} == labels
    assert [value.keys() for name, value in parts(examples) if name == "by_rule"] == [labels]
    # All examples have the same version of the rules; the lab and the document itself have other versions.
    versions = {value["version"] for _, value in parts(examples) if isinstance(value, dict) and "version" in value}
    assert versions - {"1.0", DOCUMENT["info"]["version"]} == {
        *SCHEMAS["Decision"]["properties"]["version"]["examples"]
    }
    assert len(SCHEMAS["Decision"]["properties"]["version"]["examples"]) == 1


def test_examples_match_their_schemas() -> None:
    checked = 0
    for _, part in parts(DOCUMENT):
        if not isinstance(part, dict) or not isinstance(part.get("schema"), dict):
            continue
        examples = [example["value"] for example in part.get("examples", {}).values()]
        for example in examples + ([part["example"]] if "example" in part else []):
            validator(part["schema"]).validate(example)
            checked += 1
    for schema in (*SCHEMAS["Transaction"]["properties"].values(), *SCHEMAS["Decision"]["properties"].values()):
        for example in schema.get("examples", []):
            validator(schema).validate(example)
    assert checked >= 20


def test_every_body_and_response_has_an_example() -> None:
    contents = [
        (path, status, content)
        for path, _, operation in operations()
        for status, holder in [("body", operation.get("requestBody", {})), *operation["responses"].items()]
        for content in resolved(holder).get("content", {}).values()
    ]
    assert [(path, status) for path, status, content in contents if not {"example", "examples"} & content.keys()] == []
    assert {(path, status) for path, status, _ in contents} >= {
        (path, status) for path, _, operation in operations() for status in operation["responses"]
    }


def test_page_prefills_a_transaction_that_every_rule_hits_and_no_key() -> None:
    """Swagger UI fills in the first example of a body and any of a parameter. A key that users share would conflict."""
    body = DOCUMENT["paths"]["/score"]["post"]["requestBody"]["content"]["application/json"]
    first = next(iter(body["examples"].values()))["value"]
    assert RULE_SET.assess(RULE_SET.fields.read(first))[:3] == (7, "CRITICAL", (R1, R2, R3))
    key = COMPONENTS["parameters"]["IdempotencyKey"]
    assert not {"example", "examples", "default"} & (key.keys() | key["schema"].keys())


def passes(check: Any, *arguments: Any) -> bool:
    try:
        check(*arguments)
    except InvalidRequest:
        return False
    return True


def test_patterns_of_id_and_key_match_the_code() -> None:
    (lookup,) = DOCUMENT["paths"]["/transaction/{tx_id}"]["get"]["parameters"]
    tx_id, segment, key = (
        validator(schema)
        for schema in (
            SCHEMAS["Transaction"]["properties"]["tx_id"],
            lookup["schema"],
            COMPONENTS["parameters"]["IdempotencyKey"]["schema"],
        )
    )
    for character in [*map(chr, range(0x300)), "€", "\u2028", "\ufeff", "🂡"]:
        assert tx_id.is_valid(character) == passes(check_id, "tx_id", character)
        assert segment.is_valid(character) == (character != "/" and passes(check_id, "tx_id", character))
        event = events.post("{}")
        event["headers"]["idempotency-key"] = character
        assert key.is_valid(character) == passes(http_api.decision_id, event, None)


# JSON Schema has one type for 3 and 3.0, validators ignore "int64", and RFC 3339 has a year 0 and leap seconds.
ACCEPTED_BY_SCHEMA_ALONE = {
    *("attempts_last_hour 3.0", "attempts_last_hour 1e1", "installments 3.0"),
    *("attempts_last_hour 2^63", "attempts_last_hour of 400 digits"),
    *("local_time in the year 0", "local_time with a leap second"),
}


@pytest.mark.parametrize(
    ("scorer", "cases", "disagreed"),
    [
        (
            RULE_SET,
            corpus.CASES,
            {
                *("amount of 400 digits", "hour 3.0", "hour 3e0"),
                *("timestamp in the year 0", "timestamp with a leap second"),
            },
        ),
        (card_rules.RULE_SET, CARD_CASES, ACCEPTED_BY_SCHEMA_ALONE),
        (rules_loader.from_document(REFUSING_DOCUMENT), REFUSING_CASES, set()),
    ],
    ids=["lab", "card", "refusing"],
)
def test_schema_and_validation_agree_on_the_corpus(scorer: Scorer, cases: list[Case], disagreed: set[str]) -> None:
    components = json.loads(contract.document_with(scorer.fields))["components"]
    schema = jsonschema_rs.Draft202012Validator(
        {"$ref": "#/components/schemas/Transaction", "components": components}, validate_formats=True
    )
    agreed, found = 0, set()
    for case in cases:
        try:
            document = strict_json.parse(case.body.decode())
            json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
        except (InvalidRequest, UnicodeError, ValueError):
            continue  # not JSON, or not JSON that the validator can read
        if schema.is_valid(document) == passes(scorer.fields.read, document):
            agreed += 1
        else:
            found.add(case.name)
    assert found == disagreed
    assert agreed >= 10


def check_response(operation: dict[str, Any], response: dict[str, Any]) -> None:
    """Check a response against what the document says of its status."""
    described = resolved(operation["responses"][str(response["statusCode"])])
    headers = dict(response["headers"])
    content_type = headers.pop("Content-Type")
    content = described["content"][content_type]
    body = json.loads(response["body"]) if content_type == "application/json" else response["body"]
    validator(content["schema"]).validate(body)
    known = {name: resolved(header) for name, header in described["headers"].items()}
    assert {name for name, header in known.items() if header.get("required")} <= headers.keys() <= known.keys()
    for name, value in headers.items():
        schema = known[name]["schema"]
        validator(schema).validate(int(value) if schema["type"] == "integer" else value)


def test_responses_to_sample_events(invoke: Functions, subtests: pytest.Subtests) -> None:
    for name, expected in RESPONSES.items():
        if expected.status is None:
            continue
        with subtests.test(name):
            event = events.load(name)
            response = invoke(expected.function, event)
            operation = operation_of(event["rawPath"], event["requestContext"]["http"]["method"])
            if not operation:
                assert response["statusCode"] == 404
                validator(SCHEMAS["Error"]).validate(json.loads(response["body"]))
                continue
            check_response(operation, response)
            # An invalid transaction in a batch is no error of the request.
            unchecked = {"score-malformed-body", "batch-array", "batch-json-lines", "lists-bad-name"}
            if "requestBody" in operation and expected.status != 405 and name not in unchecked:
                schema = operation["requestBody"]["content"]["application/json"]["schema"]
                assert validator(schema).is_valid(http_api.json_body(event)) == (expected.status == 200)


def test_responses_to_the_corpus(invoke: Functions) -> None:
    statuses = set()
    for number, case in enumerate(corpus.CASES):
        operation = operation_of(case.path, case.method)
        if case.only_http or not operation:
            continue
        response = invoke(*corpus.event_of(case, f"request-{number}"))
        check_response(operation, response)
        statuses.add(response["statusCode"])
    assert statuses == {200, 400, 404, 405, 413, 415}


def test_responses_to_the_corpus_of_lists(invoke: Functions, subtests: pytest.Subtests) -> None:
    for case in (case for case in LIST_CASES if not case.only_event):
        with subtests.test(case.name):
            check_response(operation_of(case.path, case.method), invoke(*case.event()))


def test_responses_to_the_card_corpus(invoke: Functions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invoke.modules["ScoreFunction"], "SCORER", card_rules.RULE_SET)
    for number, case in enumerate(CARD_CASES):
        check_response(operation_of(case.path), invoke(*corpus.event_of(case, f"request-{number}")))


def test_responses_of_a_model_to_the_corpus(invoke: Functions, monkeypatch: pytest.MonkeyPatch) -> None:
    for function in ("ScoreFunction", "BatchFunction"):
        monkeypatch.setattr(invoke.modules[function], "SCORER", FOREST)
    cases = [case for case in corpus.CASES if case.counted and not case.only_http]
    added = Counter[str]()
    for number, case in enumerate(cases):
        response = invoke(*corpus.event_of(case, f"request-{number}"))
        check_response(operation_of(case.path), response)
        added.update(json.loads(response["body"]).keys() & OF_MODEL.keys())
    body = batch_corpus.body(batch_corpus.carried(cases, ARRAY), ARRAY)
    check_response(operation_of("/score/batch"), invoke("BatchFunction", events.post(body)))
    assert added.keys() == OF_MODEL.keys()
    for name, kind in OF_MODEL.items():
        assert SCHEMAS["Decision"]["properties"][name]["type"] == kind


def test_405_example_of_score_is_the_actual_response(invoke: Functions) -> None:
    event = events.load("wrong-method")
    event["rawPath"] = event["requestContext"]["http"]["path"] = "/score"
    content = resolved(operation_of("/score")["responses"]["405"])["content"]["application/json"]
    assert content["example"] == json.loads(invoke("FallbackFunction", event)["body"])


def test_responses_after_earlier_requests(invoke: Functions) -> None:
    operation = operation_of("/score")
    first, again, conflict = (
        invoke("ScoreFunction", events.post(body, idempotency_key="k"))
        for body in ('{"tx_id": "TX1", "amount": 1}', '{"tx_id": "TX1", "amount": 1}', '{"tx_id": "TX1", "amount": 2}')
    )
    for response in (first, again, conflict):
        check_response(operation, response)
    assert (again["headers"]["Idempotent-Replayed"], conflict["statusCode"]) == ("true", 422)


@pytest.mark.parametrize("how", FORMATS)
def test_responses_to_batches(invoke: Functions, how: Format) -> None:
    operation = operation_of("/score/batch")
    for cases in batch_corpus.batched(batch_corpus.carried(corpus.CASES, how)):
        event = events.post(batch_corpus.body(cases, how), content_type=how.content_type)
        response = invoke("BatchFunction", event)
        check_response(operation, response)
        assert response["statusCode"] == 200
    keyed = '{"amount": 1, "idempotency_key": "k"}'
    again = invoke("BatchFunction", events.post(f"[{keyed}, {keyed}, 5]"))
    check_response(operation, again)
    assert ["replayed" in result for result in json.loads(again["body"])["results"]] == [False, True, False]
    for body, headers, status in (
        ("{}", {}, 400),
        (" " * (batches.MAX_BATCH_BYTES + 1), {}, 413),
        ("[]", {"content_type": "text/plain"}, 415),
    ):
        response = invoke("BatchFunction", events.post(body, **headers))
        check_response(operation, response)
        assert response["statusCode"] == status


def test_examples_of_batches_are_actual_responses(invoke: Functions) -> None:
    operation = operation_of("/score/batch")
    array, lines = (
        http_example["value"]
        for content in operation["requestBody"]["content"].values()
        for http_example in content["examples"].values()
    )
    assert [json.loads(line) for line in lines.splitlines()] == array
    item = validator(SCHEMAS["BatchItem"])
    assert all(map(item.is_valid, array))
    examples = {
        example["value"]["error"]
        for status in ("400", "413", "415")
        for content in operation["responses"][status]["content"].values()
        for example in [*content.get("examples", {}).values(), {"value": content.get("example")}]
        if example["value"]
    }
    found = {
        json.loads(invoke("BatchFunction", events.post(body, content_type=content_type))["body"])["error"]
        for body, content_type in (
            ("{}", "application/json"),
            ("[]", "application/json"),
            ("[{},\n{}\n{}]", "application/json"),
            (" " * (batches.MAX_BATCH_BYTES + 1), "application/json"),
            ("[]", "text/plain"),
        )
    }
    too_large = f"The response would be larger than {batches.MAX_DECIDED_BYTES} bytes; send fewer transactions"
    assert examples - found == {f"{too_large} in one batch"}
    assert found <= examples


def test_responses_without_the_store(invoke: Functions) -> None:
    for left, score_status in ((1, 503), (6_500, 200)):
        invoke.context.get_remaining_time_in_millis = lambda left=left: left
        response = invoke("ScoreFunction", events.post('{"amount": 1}'))
        check_response(operation_of("/score"), response)
        assert response["statusCode"] == score_status
        assert ("recorded" in json.loads(response["body"])) == (score_status == 200)
        assert ("Retry-After" in response["headers"]) == (score_status == 503)
        response = invoke("BatchFunction", events.post('[{"amount": 1}]'))
        check_response(operation_of("/score/batch"), response)
        assert response["statusCode"] == score_status
    invoke.context.get_remaining_time_in_millis = lambda: 1
    for name in ("stats", "transaction"):
        event = events.load(name)
        response = invoke(RESPONSES[name].function, event)
        check_response(operation_of(event["rawPath"]), response)
        assert response["statusCode"] == 503
        # The document cannot require these, since API Gateway's own 503 has none of them.
        assert {"Cache-Control", "X-Content-Type-Options", "Retry-After"} <= response["headers"].keys()
