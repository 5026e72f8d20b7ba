"""The real ``sam build``, ``sam deploy`` and ``sam delete``, and every route of what they deploy.

MiniStack is the AWS, without Docker: CloudFormation, S3, IAM, Lambda, API Gateway, DynamoDB, SQS. It verifies
signatures, and holds callers to their policies and functions to their roles. The tests run in order: what is deployed
is used, then updated, then deleted.
"""

import fnmatch
import itertools
import json
import os
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import requests
import yaml
from botocore.exceptions import ClientError

from scoring import score_transaction, scorers
from scoring.ledger.outbox import encode
from tests import corpus
from tests.corpus import INJECTED, Case
from tests.e2e import deployment, http_api, tokens
from tests.e2e.deployment import Caller, Deployment
from tests.e2e.tokens import Issuer
from tests.integration.service import TIMEOUT_SECONDS, Service

# These run here too, with the service below.
from tests.integration.test_exactly_once import (  # noqa: F401
    test_the_key_with_another_body_is_422,
    test_the_same_key_twice_is_one_decision,
    test_without_a_key_every_request_is_a_decision_of_its_own,
)
from tests.integration.test_lab import *  # noqa: F403
from tests.local import account, emulator
from tests.local.cloudformation import Stack
from tests.local.processes import free_port
from tests.local.template import ROOT
from tests.rule_set import DOCUMENT, decide
from tests.sending import Answer, check, decisions, moved, send


@dataclass(frozen=True)
class Kept:
    """What must be as it was after an update."""

    url: str
    stats: dict[str, Any]
    decisions: dict[str, Any]


OPEN_ROUTES = {"GET /health", "$default"}
DOCS_ROUTES = {"GET /docs", "GET /docs/{file}", "GET /openapi.json"}
KEPT = {"DecisionsTable", "StatsTable", "OutboxQueue", "OutboxDeadLetterQueue"}
ORIGIN = "https://dashboard.example.com"
AUDIENCE = "risk-scoring-callers"
THREADS = 8
# What the server and its stand-in for API Gateway add.
CASES = corpus.decided_by(scorers.load())
GATEWAY_HEADERS = {"date", "Connection", "Content-Length", "apigw-requestid"}


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Issuer]:
    with tokens.running(tmp_path_factory.mktemp("issuer")) as issuer:
        yield issuer


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory, issuer: Issuer) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("emulator")
    with (
        (folder / "log").open("wb") as log,
        emulator.started(
            log=log,
            AUTH="true",
            LAMBDA_EXECUTOR="local",
            LOG_LEVEL="INFO",  # the functions read it too
            SSL_CERT_FILE=str(issuer.certificate),
            TMPDIR=str(folder),
        ) as endpoint,
    ):
        yield endpoint
    assert b"Traceback" not in (folder / "log").read_bytes()


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory, endpoint: str) -> Deployment:
    made = Deployment(deployment.checkout(tmp_path_factory.mktemp("deploy") / "checkout"), endpoint)
    made.build()
    printed = made.deploy()
    assert "Deploy this changeset? [y/N]" in printed
    assert f"Successfully created/updated stack - {made.name}" in printed
    return made


@pytest.fixture(scope="module")
def caller(deployed: Deployment) -> Caller:
    return deployed.caller("caller", "*")


@pytest.fixture(scope="module")
def service(deployed: Deployment, caller: Caller) -> Service:
    return Service(deployed.url, auth=caller)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def example(route: str) -> tuple[str, str]:
    """A method and a path that the route takes."""
    method, path = ("GET", "/nowhere") if route == "$default" else route.split(" ")
    return method, path.replace("{tx_id}", "TX003").replace("{file}", "index.css")


def test_the_routes_are_those_of_the_template_and_closed_but_for_two(deployed: Deployment) -> None:
    stack = deployed.stack
    ((api, api_id),) = stack.of_type("AWS::ApiGatewayV2::Api").items()
    routes = http_api.routes(stack, api)
    assert {key for key, route in routes.items() if route.authorization == "NONE"} == OPEN_ROUTES
    assert {route.authorization for route in routes.values()} == {"NONE", "AWS_IAM"}
    made = deployed.client("apigatewayv2").get_routes(ApiId=api_id)["Items"]
    assert {one["RouteKey"]: one["AuthorizationType"] for one in made} == {
        key: route.authorization for key, route in routes.items()
    }
    assert stack.outputs["ApiUrl"].startswith(f"https://{api_id}.execute-api.us-east-1.")


def test_api_gateway_may_invoke_the_function_of_each_route(deployed: Deployment) -> None:
    """On AWS; MiniStack does not ask."""
    stack = deployed.stack
    ((api, api_id),) = stack.of_type("AWS::ApiGatewayV2::Api").items()
    for key, route in http_api.routes(stack, api).items():
        policy = deployed.client("lambda").get_policy(FunctionName=route.function)["Policy"]
        source = f"arn:aws:execute-api:us-east-1:000000000000:{api_id}/$default/{key.replace(' ', '')}"
        granted = [
            statement["Condition"]["ArnLike"]["AWS:SourceArn"]
            for statement in json.loads(policy)["Statement"]
            if statement["Principal"] == {"Service": "apigateway.amazonaws.com"}
        ]
        assert [one for one in granted if fnmatch.fnmatchcase(source, one)], (key, granted)


def test_a_call_without_a_signature_is_refused(deployed: Deployment, caller: Caller) -> None:
    stack = deployed.stack
    (api,) = stack.of_type("AWS::ApiGatewayV2::Api")
    for route in http_api.routes(stack, api):
        method, path = example(route)
        unsigned = requests.request(method, deployed.url + path, timeout=TIMEOUT_SECONDS)
        signed = requests.request(method, deployed.url + path, auth=caller, timeout=TIMEOUT_SECONDS)
        assert signed.status_code not in {401, 403}, route
        if route in OPEN_ROUTES:
            assert unsigned.status_code == signed.status_code
        else:
            assert (unsigned.status_code, unsigned.json()) == (403, {"message": "Forbidden"}), route


def test_a_signature_that_is_not_right_is_refused(deployed: Deployment, caller: Caller) -> None:
    headers = {"Content-Type": "application/json"}
    body, other = b'{"amount": 1}', b'{"amount": 10000}'
    url = f"{deployed.url}/score"
    signature = dict(caller.sign("POST", url, body))
    answers = [
        requests.post(url, other, headers=headers | signature, timeout=TIMEOUT_SECONDS),
        requests.post(f"{deployed.url}/echo", body, headers=headers | signature, timeout=TIMEOUT_SECONDS),
        requests.post(url, body, headers=headers, auth=caller.with_another_secret(), timeout=TIMEOUT_SECONDS),
    ]
    assert [answer.status_code for answer in answers] == [403] * 3
    assert requests.post(url, body, headers=headers | signature, timeout=TIMEOUT_SECONDS).status_code == 200


def test_a_caller_may_call_what_its_policy_says(deployed: Deployment) -> None:
    reader = Service(deployed.url, auth=deployed.caller("reader", "GET/stats", "GET/transaction/*"))
    assert reader.get("/stats").status_code == 200
    assert reader.get("/transaction/nobody").status_code == 404
    assert reader.get("/status").status_code == 403
    assert reader.post("/score", json={"amount": 1}).status_code == 403


NO_UTF_8 = "MiniStack decodes every JSON body, and replaces what is no UTF-8; API Gateway hands it on in base64"
OPTIONS = "MiniStack answers OPTIONS itself; API Gateway does so for an API that has CORS"
NO_LINE_BREAK = "MiniStack's wildcards in a policy do not stand for a line break"
# Each must fail here: what MiniStack learns is to be taken out.
DIFFERENT = {
    "cut off in a character": NO_UTF_8,
    "UTF-16": NO_UTF_8,
    "UTF-32": NO_UTF_8,
    "Latin-1": NO_UTF_8,
    "a character in more bytes than it takes": NO_UTF_8,
    "half a surrogate pair in bytes": NO_UTF_8,
    "a byte that UTF-8 never has": NO_UTF_8,
    "gzip": NO_UTF_8,
    "OPTIONS /score": OPTIONS,
    "OPTIONS /stats": OPTIONS,
    "OPTIONS /openapi.json": OPTIONS,
    "a browser asks whether it may": OPTIONS,
    "a line break, encoded": NO_LINE_BREAK,
    "%0d%0aX:INJECTED of the docs": NO_LINE_BREAK,
    "encoded twice": "MiniStack leaves a path parameter that was encoded twice as it is",
}


def of_corpus(case: Case) -> Any:
    reason = DIFFERENT.get(case.name)
    return pytest.param(case, id=case.name, marks=pytest.mark.xfail(reason=reason) if reason else ())


@dataclass
class Tally:
    """What was counted before, and what was answered since."""

    before: dict[str, Any]
    levels: Counter[str] = field(default_factory=Counter)
    sent: int = 0


@pytest.fixture(scope="module")
def tally(service: Service) -> Tally:
    return Tally(service.stats())


@pytest.mark.parametrize("case", [of_corpus(case) for case in CASES if not case.only_event])
def test_a_request_of_the_corpus(deployed: Deployment, caller: Caller, tally: Tally, case: Case) -> None:
    answer = send(deployed.url, case, caller.sign)
    if case.path == "/score" and answer.status == 200:
        tally.levels[json.loads(answer.body)["risk_level"]] += 1
    tally.sent += 1
    check(answer, case, GATEWAY_HEADERS)


def test_what_the_corpus_was_answered_was_counted(service: Service, tally: Tally) -> None:
    assert moved(tally.before, service.stats()) == tally.levels


def test_every_difference_is_in_the_corpus() -> None:
    assert DIFFERENT.keys() <= {case.name for case in CASES if not case.only_event}


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.name in DIFFERENT and not case.only_http], ids=lambda case: case.name
)
def test_what_the_stand_in_for_api_gateway_alters_as_api_gateway_sends_it(deployed: Deployment, case: Case) -> None:
    function, event = corpus.event_of(case, f"request of {case.name}")
    invoked = deployed.client("lambda").invoke(
        FunctionName=deployed.stack.resources[function], Payload=json.dumps(event).encode()
    )
    response = json.loads(invoked["Payload"].read())
    check(Answer(response["statusCode"], list(response["headers"].items()), response["body"].encode()), case, set())


def test_100_requests_from_many_threads_are_100_more(service: Service) -> None:
    before = service.stats()

    def score(number: int) -> tuple[int, str]:
        response = service.post(
            "/score", json={"tx_id": f"TX-many-{number}", "amount": number * 60, "hour": number % 24}
        )
        return response.status_code, response.json().get("risk_level")

    with ThreadPoolExecutor(THREADS) as pool:
        answers = Counter(pool.map(score, range(100)))
    assert {status for status, _ in answers} == {200}
    assert moved(before, service.stats()) == {level: count for (_, level), count in answers.items()}
    (found,) = service.get("/transaction/TX-many-99").json()["decisions"]
    assert found.items() >= {"tx_id": "TX-many-99", **score_transaction({"amount": 99 * 60, "hour": 3})}.items()


def test_the_samples_are_replayed_by_a_caller_that_signs(deployed: Deployment, caller: Caller) -> None:
    before = Service(deployed.url, auth=caller).stats()["total"]
    result = subprocess.run(
        [sys.executable, ROOT / "events" / "replay.py", "--url", deployed.url, "--sign"],
        env={**os.environ, **caller.variables},
        check=False,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert Service(deployed.url, auth=caller).stats()["total"] == before + 10


def of_readme(introduction: str) -> str:
    """The code that the README shows after these words."""
    _, found, rest = (ROOT / "README.md").read_text(encoding="utf-8").partition(f"{introduction}\n\n")
    assert found
    lines = itertools.takewhile(lambda line: not line or line.startswith("    "), rest.splitlines())
    return textwrap.dedent("\n".join(lines))


def run(*command: str, **variables: str) -> str:
    """What a command prints in the environment of somebody who reads the README."""
    environment = {**os.environ, "AWS_REGION": account.REGION, "AWS_SESSION_TOKEN": "", **variables}
    result = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_calls_of_the_readme(deployed: Deployment, caller: Caller) -> None:
    curl = of_readme("With curl, by the credentials in the environment:")
    # curl signs `$default` in a path otherwise than AWS does; there is none in the address on AWS.
    (api_id,) = deployed.stack.of_type("AWS::ApiGatewayV2::Api").values()
    address = deployed.endpoint.replace("127.0.0.1", f"{api_id}.execute-api.localhost")
    decided = score_transaction({"amount": 20})
    assert json.loads(run("bash", "-c", curl, API=address, **caller.variables)).items() >= decided.items()
    python = f"api = {deployed.url!r}\n" + of_readme("and `api` for that address:")
    assert f"'risk_level': '{decided['risk_level']}'" in run(sys.executable, "-c", python, **caller.variables)


def test_a_function_may_do_what_its_role_says_and_no_more(deployed: Deployment, service: Service) -> None:
    stack, iam = deployed.stack, deployed.client("iam")
    configuration = deployed.client("lambda").get_function_configuration(FunctionName=stack.resources["StatsFunction"])
    role = configuration["Role"].rpartition("/")[2]
    (name,) = iam.list_role_policies(RoleName=role)["PolicyNames"]
    document = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
    iam.delete_role_policy(RoleName=role, PolicyName=name)
    try:
        assert service.get("/stats").status_code == 503
    finally:
        iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(document))
    assert service.get("/stats").status_code == 200


def test_a_decision_of_the_outbox_is_recorded_once(deployed: Deployment, service: Service) -> None:
    sqs, queue = deployed.client("sqs"), deployed.stack.resources["OutboxQueue"]
    before = service.stats()["total"]
    message = encode(decide({"tx_id": "TX-outbox", "amount": 5000}, "k1"))
    last = encode(decide({"tx_id": "TX-outbox-last", "amount": 5000}, "k2"))
    for body in ("no decision", message, message, last):
        sqs.send_message(QueueUrl=queue, MessageBody=body)
    until(lambda: service.get("/transaction/TX-outbox-last").status_code == 200)
    until(lambda: waiting(sqs, queue) == (0, 1))
    (decision,) = service.get("/transaction/TX-outbox").json()["decisions"]
    assert (decision["decision_id"], decision["risk_level"]) == ("k1", "HIGH")
    assert service.stats()["total"] == before + 2
    # What could not be recorded comes back, alone, when its visibility timeout is over.
    sqs.purge_queue(QueueUrl=queue)


def waiting(sqs: Any, queue: str) -> tuple[int, int]:
    """Messages that are waiting, and that are being worked on or failed."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
    return int(attributes[names[0]]), int(attributes[names[1]])


def test_without_the_store_scoring_goes_on_and_the_decisions_are_recorded_later(
    deployed: Deployment, service: Service
) -> None:
    function = {"FunctionName": deployed.stack.resources["ScoreFunction"]}
    lambda_client = deployed.client("lambda")
    variables = lambda_client.get_function_configuration(**function)["Environment"]["Variables"]
    nobody = {"AWS_ENDPOINT_URL_DYNAMODB": f"http://127.0.0.1:{free_port()}"}
    before = service.stats()
    headers = {"Idempotency-Key": "outage"}
    transaction = {"tx_id": "TX-outage", "amount": 4500.0, "hour": 3}
    lambda_client.update_function_configuration(**function, Environment={"Variables": variables | nobody})
    try:
        answers = [service.post("/score", json=transaction, headers=headers) for _ in range(3)]
    finally:
        lambda_client.update_function_configuration(**function, Environment={"Variables": variables})
    assert [(answer.status_code, answer.json().get("recorded")) for answer in answers] == [(200, False)] * 3

    until(lambda: service.stats() != before)
    until(lambda: waiting(deployed.client("sqs"), deployed.stack.resources["OutboxQueue"]) == (0, 0))
    assert moved(before, service.stats()) == {score_transaction(transaction)["risk_level"]: 1}
    again = service.post("/score", json=transaction, headers=headers)
    assert (again.status_code, again.headers.get("Idempotent-Replayed")) == (200, "true")
    assert again.json() in [
        {name: value for name, value in one.json().items() if name != "recorded"} for one in answers
    ]


def test_what_the_functions_log(deployed: Deployment) -> None:
    log = deployed.log()
    assert "Traceback" not in log
    assert len(decisions(log)) > 100
    assert INJECTED not in str(decisions(log))
    assert "outbox message not recorded" in log


@pytest.fixture(scope="module")
def updated(deployed: Deployment, service: Service) -> Kept:
    """The stack, deployed again with another rule."""
    kept = Kept(deployed.url, service.stats(), service.get("/transaction/TX-outbox").json())
    file = deployed.folder / "functions" / "layer" / "scoring" / "scorers" / "rules.json"
    rule = {"label": "R4: amount > 2000", "points": 5, "when": [{"field": "amount", "operator": ">", "value": 2000}]}
    file.write_text(json.dumps(DOCUMENT | {"version": "1.1-tests", "rules": [rule]}), encoding="utf-8")
    deployed.build()
    deployed.deploy()
    return kept


def test_a_changed_rule_is_served_after_an_update_and_nothing_is_lost(
    deployed: Deployment, updated: Kept, service: Service
) -> None:
    assert deployed.stack.outputs["ApiUrl"].split(".")[0].endswith(updated.url.split("/")[-2])
    assert service.get("/health").json() == {"status": "ok", "version": "1.1-tests"}
    assert moved(updated.stats, service.stats()) == {}
    assert service.get("/transaction/TX-outbox").json() == updated.decisions
    answer = service.post("/score", json={"amount": 2500}).json()
    assert (answer["score"], answer["risk_level"], answer["version"]) == (5, "CRITICAL", "1.1-tests")
    assert answer["triggered_rules"] == ["R4: amount > 2000"]
    assert moved(updated.stats, service.stats()) == {"CRITICAL": 1}
    assert requests.get(f"{deployed.url}/stats", timeout=TIMEOUT_SECONDS).status_code == 403


@pytest.fixture(scope="module")
def other(deployed: Deployment, issuer: Issuer) -> Deployment:
    """A second stack of the same build, for a dashboard: tokens in the place of signatures, and open docs."""
    made = replace(deployed, other_name="dashboard")
    made.deploy(
        JwtIssuer=issuer.url,
        JwtAudience=f"{AUDIENCE},others",
        OpenDocs="true",
        AllowedOrigin=ORIGIN,
        AlarmEmail="fraud@example.com",
    )
    return made


def test_with_an_issuer_a_call_needs_its_token(other: Deployment, issuer: Issuer) -> None:
    stack = other.stack
    (api,) = stack.of_type("AWS::ApiGatewayV2::Api")
    for key, route in http_api.routes(stack, api).items():
        is_open = key in OPEN_ROUTES | DOCS_ROUTES
        assert (route.authorization == "NONE") == is_open
        method, path = example(key)
        response = requests.request(method, other.url + path, timeout=TIMEOUT_SECONDS)
        assert (response.status_code == 401) == (not is_open), key
    now = int(time.time())
    tokens_and_answers: dict[str, tuple[dict[str, Any], int]] = {
        "right": ({"aud": AUDIENCE}, 200),
        "one of several": ({"aud": ["somebody", "others"]}, 200),
        "as client_id": ({"client_id": AUDIENCE}, 200),
        "no audience": ({}, 401),
        "of another audience": ({"aud": "somebody"}, 401),
        "expired": ({"aud": AUDIENCE, "exp": now - 1}, 401),
        "not yet": ({"aud": AUDIENCE, "nbf": now + 100}, 401),
        "of another issuer": ({"aud": AUDIENCE, "iss": "https://issuer.example.com"}, 401),
    }
    for name, (claims, status) in tokens_and_answers.items():
        assert stats(other, issuer.token(**claims)) == status, name


def test_a_token_is_taken_only_as_it_was_signed(other: Deployment, issuer: Issuer, caller: Caller) -> None:
    head, _, signature = issuer.token(aud="somebody").split(".")
    _, claims, right_signature = issuer.token(aud=AUDIENCE).split(".")
    assert stats(other, f"{head}.{claims}.{right_signature}") == 200
    assert stats(other, f"{head}.{claims}.{signature}") == 401
    assert stats(other, f"{head}.{claims}.") == 401
    assert requests.get(f"{other.url}/stats", auth=caller, timeout=TIMEOUT_SECONDS).status_code == 401


def stats(service: Deployment, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    return requests.get(f"{service.url}/stats", headers=headers, timeout=TIMEOUT_SECONDS).status_code


def test_the_call_with_a_token_of_the_readme(other: Deployment, issuer: Issuer) -> None:
    curl = of_readme("With `JwtIssuer`, as a mobile app or a dashboard does:")
    answer = json.loads(run("bash", "-c", curl, API=other.url, TOKEN=issuer.token(aud=AUDIENCE)))
    assert (answer["tx_id"], answer["version"]) == ("unknown", "1.1-tests")


def test_the_samples_are_replayed_by_a_caller_with_a_token(other: Deployment, issuer: Issuer) -> None:
    command = (sys.executable, str(ROOT / "events" / "replay.py"), "--url", other.url, "--token")
    assert "failed          0" in run(*command, TOKEN=issuer.token(aud=AUDIENCE))
    with pytest.raises(AssertionError, match=r"refuses the request \(401"):
        run(*command, TOKEN=issuer.token(aud="somebody"))
    with pytest.raises(AssertionError, match="environment variable TOKEN"):
        run(*command, TOKEN="")


def test_pages_of_one_origin_may_call_from_a_browser(deployed: Deployment, other: Deployment) -> None:
    headers = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,idempotency-key",
    }
    allowed = requests.options(f"{other.url}/score", headers=headers, timeout=TIMEOUT_SECONDS)
    assert allowed.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert {"authorization", "content-type", "idempotency-key"} <= set(
        allowed.headers["Access-Control-Allow-Headers"].lower().replace(" ", "").split(",")
    )
    headers["Origin"] = "https://elsewhere.example.com"
    for service in (deployed, other):
        refused = requests.options(f"{service.url}/score", headers=headers, timeout=TIMEOUT_SECONDS)
        assert "Access-Control-Allow-Origin" not in refused.headers


def test_the_alarms_go_to_the_address_of_the_parameter(deployed: Deployment, other: Deployment) -> None:
    subscriptions = other.client("sns").list_subscriptions()["Subscriptions"]
    assert [(one["Protocol"], one["Endpoint"], one["TopicArn"]) for one in subscriptions] == [
        ("email", "fraud@example.com", other.stack.outputs["AlarmTopicArn"])
    ]
    for made in (deployed, other):
        alarms = set(made.stack.of_type("AWS::CloudWatch::Alarm").values())
        described = made.client("cloudwatch").describe_alarms(AlarmNames=sorted(alarms))["MetricAlarms"]
        assert {one["AlarmName"] for one in described} == alarms
        assert {action for one in described for action in one["AlarmActions"]} == {made.stack.outputs["AlarmTopicArn"]}


def test_a_deleted_stack_leaves_its_data(deployed: Deployment, service: Service) -> None:
    stack, total = deployed.stack, service.stats()["total"]
    deployed.delete()
    assert remaining(deployed, stack.resources) == KEPT
    items = deployed.client("dynamodb").scan(TableName=stack.resources["StatsTable"])["Items"]
    assert sum(int(item["total"]["N"]) for item in items) == total


def test_the_events_of_a_deleted_stack_tell_what_it_left_behind(other: Deployment) -> None:
    """The README has commands that delete it."""
    stack = other.stack
    other.delete()
    with pytest.raises(ClientError, match="does not exist"):
        Stack.read(other.client("cloudformation"), other.name)
    assert remaining(other, stack.resources) == KEPT
    assert with_event(other, stack.arn, "DELETE_SKIPPED") == {name: stack.resources[name] for name in KEPT}


def test_a_first_deployment_that_fails_leaves_only_the_tables(deployed: Deployment) -> None:
    made = replace(deployed, other_name="failed")
    built = made.folder / ".aws-sam" / "build" / "template.yaml"
    document = yaml.safe_load(built.read_text(encoding="utf-8"))
    document["Resources"]["Wrong"] = {
        "Type": "AWS::Logs::MetricFilter",
        "DependsOn": [*KEPT, "OutboxMapping"],
        "Properties": {
            "LogGroupName": "no-such-group",
            "FilterPattern": "",
            "MetricTransformations": [{"MetricNamespace": "Wrong", "MetricName": "Wrong", "MetricValue": "1"}],
        },
    }
    built.write_text(yaml.safe_dump(document), encoding="utf-8")
    with pytest.raises(AssertionError, match="ROLLBACK_COMPLETE"):
        made.deploy()
    created = with_event(made, made.name, "CREATE_COMPLETE")
    assert created.keys() > KEPT
    assert remaining(made, created) == {"DecisionsTable", "StatsTable"}


def with_event(deployed: Deployment, stack: str, status: str) -> dict[str, str]:
    """Physical id of each resource that had this status, by logical id; a deleted stack is given by its own id."""
    pages = deployed.client("cloudformation").get_paginator("describe_stack_events").paginate(StackName=stack)
    return {
        event["LogicalResourceId"]: event["PhysicalResourceId"]
        for page in pages
        for event in page["StackEvents"]
        if event["ResourceStatus"] == status
    }


def remaining(deployed: Deployment, resources: dict[str, str]) -> set[str]:
    """Logical ids of the resources that exist, given the physical id of each."""
    there = {
        *deployed.client("dynamodb").list_tables()["TableNames"],
        *map(_last, deployed.client("sqs").list_queues().get("QueueUrls", [])),
        *(one["FunctionName"] for one in deployed.client("lambda").list_functions()["Functions"]),
        *(one["ApiId"] for one in deployed.client("apigatewayv2").get_apis()["Items"]),
        *(one["RoleName"] for one in deployed.client("iam").list_roles()["Roles"]),
        *(one["logGroupName"] for one in deployed.client("logs").describe_log_groups()["logGroups"]),
        *(
            version["LayerVersionArn"]
            for layer in deployed.client("lambda").list_layers()["Layers"]
            for version in deployed.client("lambda").list_layer_versions(LayerName=layer["LayerName"])["LayerVersions"]
        ),
        *(one["UUID"] for one in deployed.client("lambda").list_event_source_mappings()["EventSourceMappings"]),
    }
    return {logical_id for logical_id, physical_id in resources.items() if _last(physical_id) in there}


def _last(name: str) -> str:
    """Of the address of a queue its name, which is the same under every host."""
    return name.rpartition("/")[2]
