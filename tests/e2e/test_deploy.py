"""The real ``sam build``, ``sam deploy`` and ``sam delete``, and every route of the deployed stack.

MiniStack emulates AWS without Docker: CloudFormation, S3, IAM, Lambda, API Gateway, DynamoDB, SQS. It verifies
signatures and enforces the policies of callers and the roles of functions. The tests run in order: they use the stack,
update it, then delete it.
"""

import fnmatch
import itertools
import json
import os
import re
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import jmespath  # type: ignore[import-untyped]  # of boto3
import pytest
import requests
import yaml
from botocore.exceptions import ClientError

from scoring.ledger.outbox import encode
from scoring.scorers import rules_loader
from scoring.scorers.forest import model_file
from scoring.scorers.forest.scorer import ForestScorer
from tests import corpus, forests
from tests.corpus import INJECTED, Case
from tests.e2e import deployment, openapi_import, tokens
from tests.e2e.deployment import Caller, Deployment
from tests.e2e.tokens import Issuer
from tests.integration import test_batches, test_corpus, test_exactly_once, test_lab, test_lists
from tests.local import account, emulator
from tests.local.cloudformation import Stack
from tests.local.processes import free_port
from tests.local.template import ROOT
from tests.rule_set import DOCUMENT, assess, decide
from tests.sending import RawResponse, check, decisions, level_changes
from tests.service import TIMEOUT_SECONDS, RunningService

OPERATIONS = "functions/OPERATIONS.md"
OPEN_ROUTES = {"GET /health", "$default"}
DOCS_ROUTES = {"GET /docs", "GET /docs/{file}", "GET /openapi.json"}
TABLES = {"DecisionsTable", "StatsTable", "ProfilesTable", "ListsTable"}
RETAINED = TABLES | {"OutboxQueue", "OutboxDeadLetterQueue"}
ORIGIN = "https://dashboard.example.com"
KAFKA = {
    "KafkaBootstrapServers": "b1.example.com:9096,b2.example.com:9096",
    "KafkaTopic": "transactions",
    "KafkaGroup": "risk-scoring",
    "KafkaAuthentication": "SASL_SCRAM_512_AUTH",
    "KafkaSecret": "arn:aws:secretsmanager:us-east-1:000000000000:secret:scoring-1a2b3c",
    "KafkaMinPollers": "1",
    "KafkaMaxPollers": "4",
}
AUDIENCE = "risk-scoring-callers"
THREADS = 8
REPLAY = (sys.executable, str(ROOT / "events" / "replay.py"))
REPLACED_UTF_8 = "MiniStack decodes every JSON body and replaces invalid UTF-8; API Gateway passes it on in base64"
OPTIONS = "MiniStack responds to OPTIONS itself; API Gateway does so only for an API with CORS"
NO_LINE_BREAK = "MiniStack's wildcards in a policy do not match a line break"
DIFFERENCES = {
    "cut off in a character": REPLACED_UTF_8,
    "UTF-16": REPLACED_UTF_8,
    "UTF-32": REPLACED_UTF_8,
    "Latin-1": REPLACED_UTF_8,
    "an overlong encoding": REPLACED_UTF_8,
    "an encoded lone surrogate": REPLACED_UTF_8,
    "a byte that is never valid in UTF-8": REPLACED_UTF_8,
    "gzip": REPLACED_UTF_8,
    "OPTIONS /score": OPTIONS,
    "OPTIONS /stats": OPTIONS,
    "OPTIONS /openapi.json": OPTIONS,
    "a CORS preflight": OPTIONS,
    "a line break, encoded": NO_LINE_BREAK,
    "%0d%0aX:INJECTED of the docs": NO_LINE_BREAK,
}

REPEATED_PARAMETER = "MiniStack calculates another signature if a query parameter is repeated"
LIST_DIFFERENCES = {
    "UTF-16": REPLACED_UTF_8,
    "a name with a line break": NO_LINE_BREAK,
    "an entry with a line break": NO_LINE_BREAK,
    "a customer with a line break": NO_LINE_BREAK,
    "limit twice": REPEATED_PARAMETER,
    "after twice": REPEATED_PARAMETER,
}


@dataclass(frozen=True)
class Snapshot:
    """Data that an update must preserve."""

    url: str
    stats: dict[str, Any]
    decisions: dict[str, Any]


# Headers that the server and its emulation of API Gateway add
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
            SSL_CERT_FILE=str(issuer.authority),
            TMPDIR=str(folder),
        ) as endpoint,
    ):
        yield endpoint
    assert b"Traceback" not in (folder / "log").read_bytes()


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory, endpoint: str) -> Deployment:
    made = Deployment(deployment.deployable_copy(tmp_path_factory.mktemp("deploy") / "checkout"), endpoint)
    made.build()
    printed = made.deploy()
    assert "Deploy this changeset? [y/N]" in printed
    assert f"Successfully created/updated stack - {made.name}" in printed
    return made


@pytest.fixture(scope="module")
def caller(deployed: Deployment) -> Caller:
    return deployed.caller("caller", "*")


@pytest.fixture(scope="module")
def service(deployed: Deployment, caller: Caller) -> RunningService:
    return RunningService(deployed.url, caller)


def wait_until(condition: Callable[[], bool]) -> None:
    # The emulator starts a process for each invocation, which takes seconds on a busy machine.
    deadline = time.monotonic() + 3 * TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def example(route: str) -> tuple[str, str]:
    """Return a method and a path that match the route."""
    method, path = ("GET", "/nowhere") if route == "$default" else route.split(" ")
    values = {"tx_id": "TX003", "file": "index.css", "name": "examples", "entry+": "a/b", "customer_id+": "C-1"}
    return method, re.sub(r"{([\w+]+)}", lambda name: values[name[1]], path)


class TestDeployedLab(test_lab.TestLab):
    """The lab's requests to the deployed stack."""


class TestDeployedBatch(test_batches.TestBatch):
    """Batches on the deployed stack."""


class TestDeployedLists(test_lists.TestCorpus):
    """Lists on the deployed stack."""

    server_headers = GATEWAY_HEADERS
    differences = LIST_DIFFERENCES


class TestDeployedIdempotencyKey(test_exactly_once.TestIdempotencyKey):
    """Idempotency keys on the deployed stack."""


def test_all_routes_but_two_require_iam(deployed: Deployment) -> None:
    stack = deployed.stack
    ((api, api_id),) = stack.of_type("AWS::ApiGatewayV2::Api").items()
    routes = openapi_import.routes(stack, api)
    assert {key for key, route in routes.items() if route.authorization == "NONE"} == OPEN_ROUTES
    assert {route.authorization for route in routes.values()} == {"NONE", "AWS_IAM"}
    made = deployed.client("apigatewayv2").get_routes(ApiId=api_id)["Items"]
    assert {one["RouteKey"]: one["AuthorizationType"] for one in made} == {
        key: route.authorization for key, route in routes.items()
    }
    assert stack.outputs["ApiUrl"].startswith(f"https://{api_id}.execute-api.us-east-1.")


def test_api_gateway_may_invoke_the_function_of_each_route(deployed: Deployment) -> None:
    """AWS enforces this permission; MiniStack does not."""
    stack = deployed.stack
    ((api, api_id),) = stack.of_type("AWS::ApiGatewayV2::Api").items()
    for key, route in openapi_import.routes(stack, api).items():
        policy = deployed.client("lambda").get_policy(FunctionName=route.function)["Policy"]
        source = f"arn:aws:execute-api:us-east-1:000000000000:{api_id}/$default/{key.replace(' ', '')}"
        allowed = [
            statement["Condition"]["ArnLike"]["AWS:SourceArn"]
            for statement in json.loads(policy)["Statement"]
            if statement["Principal"] == {"Service": "apigateway.amazonaws.com"}
        ]
        assert [one for one in allowed if fnmatch.fnmatchcase(source, one)], (key, allowed)


def test_unsigned_request_is_403_unless_the_route_is_open(deployed: Deployment, caller: Caller) -> None:
    stack = deployed.stack
    (api,) = stack.of_type("AWS::ApiGatewayV2::Api")
    for route in openapi_import.routes(stack, api):
        method, path = example(route)
        unsigned = requests.request(method, deployed.url + path, timeout=TIMEOUT_SECONDS)
        signed = requests.request(method, deployed.url + path, auth=caller, timeout=TIMEOUT_SECONDS)
        assert signed.status_code not in {401, 403}, route
        if route in OPEN_ROUTES:
            assert unsigned.status_code == signed.status_code
        else:
            assert (unsigned.status_code, unsigned.json()) == (403, {"message": "Forbidden"}), route


def test_invalid_signature_is_403(deployed: Deployment, caller: Caller) -> None:
    headers = {"Content-Type": "application/json"}
    body, other = b'{"amount": 1}', b'{"amount": 10000}'
    url = f"{deployed.url}/score"
    signature = dict(caller.sign("POST", url, body))
    responses = [
        requests.post(url, other, headers=headers | signature, timeout=TIMEOUT_SECONDS),
        requests.post(f"{deployed.url}/echo", body, headers=headers | signature, timeout=TIMEOUT_SECONDS),
        requests.post(url, body, headers=headers, auth=caller.with_another_secret(), timeout=TIMEOUT_SECONDS),
    ]
    assert [response.status_code for response in responses] == [403] * 3
    assert requests.post(url, body, headers=headers | signature, timeout=TIMEOUT_SECONDS).status_code == 200


def test_caller_is_limited_to_its_policy(deployed: Deployment) -> None:
    reader = RunningService(deployed.url, deployed.caller("reader", "GET/stats", "GET/transaction/*"))
    assert reader.get("/stats").status_code == 200
    assert reader.get("/transaction/nobody").status_code == 404
    assert reader.get("/status").status_code == 403
    assert reader.post("/score", json={"amount": 1}).status_code == 403


class TestDeployedCorpus(test_corpus.TestCorpus):
    """The corpus against the deployed stack; a difference that MiniStack has removed fails its strict xfail."""

    server_headers = GATEWAY_HEADERS
    differences = DIFFERENCES


def test_differences_name_cases_of_the_corpus() -> None:
    assert DIFFERENCES.keys() <= {case.name for case in test_corpus.CASES}


@pytest.mark.parametrize(
    "case",
    [case for case in test_corpus.CASES if case.name in DIFFERENCES and not case.only_http],
    ids=lambda case: case.name,
)
def test_difference_is_handled_as_api_gateway_would_send_it(deployed: Deployment, case: Case) -> None:
    function, event = corpus.event_of(case, f"request of {case.name}")
    invoked = deployed.client("lambda").invoke(
        FunctionName=deployed.stack.resources[function], Payload=json.dumps(event).encode()
    )
    response = json.loads(invoked["Payload"].read())
    check(
        RawResponse(response["statusCode"], list(response["headers"].items()), response["body"].encode()), case, set()
    )


def test_100_concurrent_requests_are_all_counted(service: RunningService) -> None:
    before = service.stats()

    def score(number: int) -> tuple[int, str]:
        response = service.post(
            "/score", json={"tx_id": f"TX-many-{number}", "amount": number * 60, "hour": number % 24}
        )
        return response.status_code, response.json().get("risk_level")

    with ThreadPoolExecutor(THREADS) as pool:
        responses = Counter(pool.map(score, range(100)))
    assert {status for status, _ in responses} == {200}
    assert level_changes(before, service.stats()) == {level: count for (_, level), count in responses.items()}
    (found,) = service.get("/transaction/TX-many-99").json()["decisions"]
    assert found.items() >= {"tx_id": "TX-many-99", **assess({"amount": 99 * 60, "hour": 3})}.items()


def documented(file: str, introduction: str) -> str:
    """Return the code block that follows these words in a file of the documentation."""
    _, found, rest = (ROOT / file).read_text(encoding="utf-8").partition(f"{introduction}\n\n")
    assert found
    lines = itertools.takewhile(lambda line: not line or line.startswith("    "), rest.splitlines())
    return textwrap.dedent("\n".join(lines))


def run(*command: str, **variables: str) -> str:
    """Run a command as a reader of the documentation would; return its output."""
    environment = {**os.environ, "AWS_REGION": account.REGION, "AWS_SESSION_TOKEN": "", **variables}
    result = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_replay_signs_the_samples(deployed: Deployment, service: RunningService, caller: Caller) -> None:
    before = service.stats()["total"]
    run(*REPLAY, "--url", deployed.url, "--sign", **caller.variables)
    assert service.stats()["total"] == before + 10


def test_documented_signed_requests(deployed: Deployment, caller: Caller) -> None:
    curl = documented("README.md", "environment, and the output `ApiUrl` as `$API`:")
    # curl and AWS sign `$default` in a path differently; URLs on AWS do not contain it.
    (api_id,) = deployed.stack.of_type("AWS::ApiGatewayV2::Api").values()
    address = deployed.endpoint.replace("127.0.0.1", f"{api_id}.execute-api.localhost")
    decided = assess({"amount": 20})
    assert json.loads(run("bash", "-c", curl, API=address, **caller.variables)).items() >= decided.items()
    python = f"api = {deployed.url!r}\n" + documented(OPERATIONS, "and the output `ApiUrl` in `api`:")
    assert f"'risk_level': '{decided['risk_level']}'" in run(sys.executable, "-c", python, **caller.variables)


def test_function_fails_without_its_role_policy(deployed: Deployment, service: RunningService) -> None:
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


def test_outbox_message_is_recorded_once(deployed: Deployment, service: RunningService) -> None:
    sqs, queue = deployed.client("sqs"), deployed.stack.resources["OutboxQueue"]
    before = service.stats()["total"]
    message = encode(decide({"tx_id": "TX-outbox", "amount": 5000}, "k1"))
    last = encode(decide({"tx_id": "TX-outbox-last", "amount": 5000}, "k2"))
    for body in ("no decision", message, message, last):
        sqs.send_message(QueueUrl=queue, MessageBody=body)
    wait_until(lambda: service.get("/transaction/TX-outbox-last").status_code == 200)
    wait_until(lambda: queue_depth(sqs, queue) == (0, 1))
    (decision,) = service.get("/transaction/TX-outbox").json()["decisions"]
    assert (decision["decision_id"], decision["risk_level"]) == ("k1", "HIGH")
    assert service.stats()["total"] == before + 2
    # The invalid message becomes visible again after its visibility timeout.
    sqs.purge_queue(QueueUrl=queue)


def queue_depth(sqs: Any, queue: str) -> tuple[int, int]:
    """Return the number of visible messages and of those in flight or failed."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
    return int(attributes[names[0]]), int(attributes[names[1]])


def test_scores_without_the_store_and_records_later(deployed: Deployment, service: RunningService) -> None:
    function = {"FunctionName": deployed.stack.resources["ScoreFunction"]}
    lambda_client = deployed.client("lambda")
    variables = lambda_client.get_function_configuration(**function)["Environment"]["Variables"]
    unreachable = {"AWS_ENDPOINT_URL_DYNAMODB": f"http://127.0.0.1:{free_port()}"}
    before = service.stats()
    headers = {"Idempotency-Key": "outage"}
    transaction = {"tx_id": "TX-outage", "amount": 4500.0, "hour": 3}
    lambda_client.update_function_configuration(**function, Environment={"Variables": variables | unreachable})
    try:
        responses = [service.post("/score", json=transaction, headers=headers) for _ in range(3)]
    finally:
        lambda_client.update_function_configuration(**function, Environment={"Variables": variables})
    assert [(one.status_code, one.json().get("recorded")) for one in responses] == [(200, False)] * 3

    wait_until(lambda: service.stats() != before)
    wait_until(lambda: queue_depth(deployed.client("sqs"), deployed.stack.resources["OutboxQueue"]) == (0, 0))
    assert level_changes(before, service.stats()) == {assess(transaction)["risk_level"]: 1}
    again = service.post("/score", json=transaction, headers=headers)
    assert (again.status_code, again.headers.get("Idempotent-Replayed")) == (200, "true")
    assert again.json() in [
        {name: value for name, value in one.json().items() if name != "recorded"} for one in responses
    ]


def test_critical_decision_arrives_in_a_subscribed_queue(deployed: Deployment, service: RunningService) -> None:
    sqs, sns = deployed.client("sqs"), deployed.client("sns")
    queue = sqs.create_queue(QueueName="subscriber")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    attributes = {"RawMessageDelivery": "true", "FilterPolicy": json.dumps({"category": ["electronics"]})}
    topic = deployed.stack.outputs["AlertTopicArn"]
    may_send = {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": topic}},
    }
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": deployment.policy(may_send)})
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes=attributes)
    transaction = {"tx_id": "TX-alert", "amount": 4500.0, "category": "electronics", "hour": 3}
    # Two that are not alerted, one that the filter policy excludes, and a replay of the first
    headers = {"Idempotency-Key": "alert"}
    scored = service.post("/score", json=transaction, headers=headers).json()
    for other in ({"amount": 20}, {"amount": 1600, "category": "electronics"}, {"amount": 4500, "category": "food"}):
        assert service.post("/score", json=other).status_code == 200
    assert service.post("/score", json=transaction, headers=headers).headers["Idempotent-Replayed"] == "true"
    # The last alert of the shard: all before it have been published, too.
    last = service.post("/score", json={"amount": 5000, "category": "electronics"}).json()

    alerts: dict[str, Any] = {}

    def received_the_last() -> bool:
        for message in sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []):
            alert = json.loads(message["Body"])
            alerts[alert["decision_id"]] = alert
        return last["decision_id"] in alerts

    wait_until(received_the_last)
    assert alerts.keys() == {"alert", last["decision_id"]}
    names = ("tx_id", "decision_id", "risk_level", "score", "triggered_rules", "version", "evaluated_at")
    assert re.fullmatch("[0-9a-f]{32}", alerts["alert"].pop("alert_id"))
    assert alerts["alert"] == {**{name: scored[name] for name in names}, "transaction": transaction}
    assert scored["risk_level"] == "CRITICAL"


def test_documented_query_selects_the_records_to_alert_again(deployed: Deployment, service: RunningService) -> None:
    stack, streams = deployed.stack, deployed.client("dynamodbstreams")
    table = deployed.client("dynamodb").describe_table(TableName=stack.resources["DecisionsTable"])["Table"]
    stream = {"StreamArn": table["LatestStreamArn"]}
    shard = streams.describe_stream(**stream)["StreamDescription"]["Shards"][0]["ShardId"]
    start = streams.get_shard_iterator(**stream, ShardId=shard, ShardIteratorType="LATEST")["ShardIterator"]
    scored = [service.post("/score", json={"amount": amount, "hour": 3}).json() for amount in (20, 4500, 5000)]
    records = streams.get_records(ShardIterator=start)

    commands = documented(OPERATIONS, "with the ARN of the queue in `DEAD_LETTERS`:")
    (query,) = re.findall(r'--query "({Records: .+})"', commands)
    event = jmespath.search(query, records)
    selected = [record["dynamodb"]["Keys"]["decision_id"]["S"] for record in event["Records"]]
    assert selected == [one["decision_id"] for one in scored if one["risk_level"] in {"HIGH", "CRITICAL"}]
    assert (len(records["Records"]), len(selected)) == (3, 2)
    invoked = deployed.client("lambda").invoke(
        FunctionName=stack.resources["AlertFunction"], Payload=json.dumps(event, default=str).encode()
    )
    assert json.loads(invoked["Payload"].read()) == {"batchItemFailures": []}


def test_logs_hold_decisions_and_no_traceback(deployed: Deployment) -> None:
    log = deployed.log()
    assert "Traceback" not in log
    assert len(decisions(log)) > 100
    assert INJECTED not in str(decisions(log))
    assert "outbox message not recorded" in log


@pytest.fixture(scope="module")
def updated(deployed: Deployment, service: RunningService) -> Snapshot:
    """Deploy the stack again with another rule and in shadow mode; return its data from before."""
    snapshot = Snapshot(deployed.url, service.stats(), service.get("/transaction/TX-outbox").json())
    file = deployed.folder / "functions" / "layer" / "scoring" / "scorers" / "rules.json"
    rules = [
        {"label": "R4: amount > 2000", "points": 5, "when": [{"field": "amount", "operator": ">", "value": 2000}]},
        {
            "label": "blocked customer",
            "level": "at least CRITICAL",
            "when": [{"field": "customer_id", "operator": "in list", "value": "blocked_customers"}],
        },
    ]
    file.write_text(json.dumps(DOCUMENT | {"version": "1.1-tests", "rules": rules}), encoding="utf-8")
    deployed.build()
    deployed.deploy(Scorer="shadow")
    return snapshot


def test_update_serves_the_new_rules_and_keeps_the_data(
    deployed: Deployment, updated: Snapshot, service: RunningService
) -> None:
    assert deployed.stack.outputs["ApiUrl"].split(".")[0].endswith(updated.url.split("/")[-2])
    assert service.get("/health").json() == {"status": "ok", "version": "1.1-tests"}
    assert level_changes(updated.stats, service.stats()) == {}
    found = service.get("/transaction/TX-outbox").json()
    for one in found["decisions"]:
        one.pop("shadow", None)  # decisions of the last hour get an opinion as well
    assert found == updated.decisions
    scored = service.post("/score", json={"amount": 2500}).json()
    assert (scored["score"], scored["risk_level"], scored["version"]) == (5, "CRITICAL", "1.1-tests")
    assert scored["triggered_rules"] == ["R4: amount > 2000"]
    assert level_changes(updated.stats, service.stats()) == {"CRITICAL": 1}
    assert requests.get(f"{deployed.url}/stats", timeout=TIMEOUT_SECONDS).status_code == 403


def test_model_gives_its_opinion_in_shadow_mode(updated: Snapshot, service: RunningService) -> None:
    assert updated
    transaction = {"tx_id": "TX-shadow", "amount": 950, "category": "shopping_net", "hour": 23, "customer_id": "C-2"}
    scored = service.post("/score", json=transaction).json()
    assert (scored["risk_level"], "fraud" in scored) == ("LOW", False)

    def found() -> dict[str, Any]:
        (decision,) = service.get("/transaction/TX-shadow").json()["decisions"]
        return dict(decision)

    wait_until(lambda: "shadow" in found())
    decision = found()
    opinion = decision.pop("shadow")
    assert decision == {**scored, "transaction": transaction}
    # The shipped model, on a kind of fraud that it was trained on
    assert opinion["version"].startswith("1.1-tests+")
    assert opinion["fraud"] is True
    assert opinion["contributions"]


def test_listed_customer_is_critical_with_the_next_request(updated: Snapshot, service: RunningService) -> None:
    assert updated
    entry, transaction = f"{service.url}/lists/blocked_customers/C-1", {"amount": 5, "customer_id": "C-1"}

    def scored() -> dict[str, Any]:
        response = service.post("/score", json=transaction)
        assert response.status_code == 200, response.text
        decision: dict[str, Any] = response.json()
        return decision

    levels, counts = [], []
    for method in (None, "PUT", "DELETE"):
        if method:
            changed = requests.request(method, entry, auth=service.auth, timeout=TIMEOUT_SECONDS)
            assert changed.status_code == 200, changed.text
        decision = scored()
        levels.append(decision["risk_level"])
        counts.append(decision["history"]["customer"]["count_1h"])
    assert levels == ["LOW", "CRITICAL", "LOW"]
    assert counts == [0, 1, 2]
    forgotten = requests.delete(f"{service.url}/customer/C-1", auth=service.auth, timeout=TIMEOUT_SECONDS)
    assert forgotten.json() == {"customer_id": "C-1", "profiles": 1, "list_entries": 0}
    assert scored()["history"]["customer"]["count_1h"] == 0


@pytest.fixture(scope="module")
def other(deployed: Deployment, issuer: Issuer) -> Deployment:
    """A second stack of the same build: tokens instead of signatures, open docs, and a model that decides."""
    made = replace(deployed, other_name="dashboard")
    made.deploy(
        JwtIssuer=issuer.url,
        JwtAudience=f"{AUDIENCE},others",
        OpenDocs="true",
        AllowedOrigin=ORIGIN,
        AlarmEmail="fraud@example.com",
        AlertLevel="CRITICAL",
        Scorer="forest",
        **KAFKA,
    )
    return made


def test_topic_is_read_by_the_stream_function(other: Deployment) -> None:
    """MiniStack creates the mapping, and does not poll the brokers."""
    stack = other.stack
    described = other.client("lambda").get_event_source_mapping(UUID=stack.resources["KafkaMapping"])
    assert described["FunctionArn"].endswith(f":function:{stack.resources['StreamFunction']}")
    assert stack.outputs["StreamDeadLetterQueueArn"].endswith(_last(stack.resources["StreamDeadLetterQueue"]))
    assert "MskMapping" not in stack.resources


def test_topic_of_msk_is_read_by_the_stream_function(deployed: Deployment) -> None:
    cluster = "arn:aws:kafka:us-east-1:000000000000:cluster/my-cluster/6cc0432b-8618-4f44-bccc-e1fbd8fb7c4d-2"
    made = replace(deployed, other_name="msk")
    made.deploy(KafkaCluster=cluster, KafkaTopic="transactions", KafkaGroup="risk-scoring", KafkaAuthentication="IAM")
    stack = made.stack
    described = made.client("lambda").get_event_source_mapping(UUID=stack.resources["MskMapping"])
    assert described["EventSourceArn"] == cluster
    assert described["FunctionArn"].endswith(f":function:{stack.resources['StreamFunction']}")
    assert "KafkaMapping" not in stack.resources
    made.delete()


def test_invalid_combination_of_parameters_creates_no_stack(deployed: Deployment) -> None:
    made = replace(deployed, other_name="wrong")
    with pytest.raises(AssertionError, match="KafkaCluster and KafkaBootstrapServers need KafkaGroup"):
        made.deploy(KafkaBootstrapServers="b1.example.com:9096", KafkaTopic="transactions")


def test_stack_without_kafka_parameters_has_no_stream_function(deployed: Deployment) -> None:
    stack = deployed.stack
    assert not {name for name in stack.resources if name.startswith(("Stream", "Kafka", "Msk"))}
    assert "StreamDeadLetterQueueArn" not in stack.outputs


def test_issuer_makes_routes_require_its_token(other: Deployment, issuer: Issuer) -> None:
    stack = other.stack
    (api,) = stack.of_type("AWS::ApiGatewayV2::Api")
    for key, route in openapi_import.routes(stack, api).items():
        is_open = key in OPEN_ROUTES | DOCS_ROUTES
        assert (route.authorization == "NONE") == is_open
        method, path = example(key)
        response = requests.request(method, other.url + path, timeout=TIMEOUT_SECONDS)
        # Lists and customers take signatures in place of tokens.
        assert (response.status_code in {401, 403}) == (not is_open), key
        assert (response.status_code == 403) == (route.authorization == "AWS_IAM"), key
    now = int(time.time())
    claims_and_statuses: dict[str, tuple[dict[str, Any], int]] = {
        "valid": ({"aud": AUDIENCE}, 200),
        "one of several": ({"aud": ["somebody", "others"]}, 200),
        "as client_id": ({"client_id": AUDIENCE}, 200),
        "no audience": ({}, 401),
        "another audience": ({"aud": "somebody"}, 401),
        "expired": ({"aud": AUDIENCE, "exp": now - 1}, 401),
        "not yet": ({"aud": AUDIENCE, "nbf": now + 100}, 401),
        "another issuer": ({"aud": AUDIENCE, "iss": "https://issuer.example.com"}, 401),
    }
    for name, (claims, status) in claims_and_statuses.items():
        assert stats_status(other, issuer.token(**claims)) == status, name


def test_tampered_token_is_401(other: Deployment, issuer: Issuer, caller: Caller) -> None:
    head, _, signature = issuer.token(aud="somebody").split(".")
    _, claims, right_signature = issuer.token(aud=AUDIENCE).split(".")
    assert stats_status(other, f"{head}.{claims}.{right_signature}") == 200
    assert stats_status(other, f"{head}.{claims}.{signature}") == 401
    assert stats_status(other, f"{head}.{claims}.") == 401
    assert requests.get(f"{other.url}/stats", auth=caller, timeout=TIMEOUT_SECONDS).status_code == 401


def stats_status(service: Deployment, token: str) -> int:
    """Return the status code of ``GET /stats`` with this token."""
    headers = {"Authorization": f"Bearer {token}"}
    return requests.get(f"{service.url}/stats", headers=headers, timeout=TIMEOUT_SECONDS).status_code


def test_documented_request_with_a_token(other: Deployment, issuer: Issuer) -> None:
    curl = documented(OPERATIONS, "With a token, as a mobile app or a dashboard does:")
    scored = json.loads(run("bash", "-c", curl, API=other.url, TOKEN=issuer.token(aud=AUDIENCE)))
    assert (scored["tx_id"], scored["version"].partition("+")[0]) == ("unknown", "1.1-tests")


def test_deployed_model_decides(deployed: Deployment, other: Deployment, issuer: Issuer) -> None:
    api = requests.Session()
    api.headers["Authorization"] = f"Bearer {issuer.token(aud=AUDIENCE)}"

    def get(path: str) -> Any:
        return api.get(other.url + path, timeout=TIMEOUT_SECONDS).json()

    scorers = deployed.folder / "functions" / "layer" / "scoring" / "scorers"
    scorer = ForestScorer(
        rules_loader.from_file(str(scorers / "rules.json")), model_file.from_file(str(scorers / "forest.model"))
    )
    before = get("/stats")
    assert get("/health") == {"status": "ok", "version": scorer.version}
    # A kind of fraud that the shipped model was trained on
    payment = {"amount": 950.0, "category": "shopping_net", "hour": 23, "customer_id": "C-1", "store": "Kraków"}
    transactions = [{"tx_id": f"TX-forest-{number}", **payment} for number in range(6)]
    headers = {"Idempotency-Key": "forest"}
    first, again = (
        [api.post(f"{other.url}/score", json=one, headers=headers, timeout=TIMEOUT_SECONDS) for one in transactions[:3]]
        for _ in range(2)
    )
    batch = api.post(f"{other.url}/score/batch", json=transactions[3:], timeout=TIMEOUT_SECONDS)
    assert {response.status_code for response in [*first, *again, batch]} == {200}
    assert [response.content for response in again] == [response.content for response in first]

    decided = [*(response.json() for response in first), *batch.json()["results"]]
    for transaction, decision in zip(transactions, decided, strict=True):
        assert decision == forests.decide_again(scorer, transaction, decision)
        assert decision["contributions"]
        (found,) = get(f"/transaction/{transaction['tx_id']}")["decisions"]
        assert found == {**decision, "transaction": transaction}
    assert [one["history"]["customer"]["count_1h"] for one in decided] == list(range(6))
    assert level_changes(before, get("/stats")) == Counter(one["risk_level"] for one in decided)


def test_replay_sends_the_samples_with_a_token(other: Deployment, issuer: Issuer) -> None:
    command = (*REPLAY, "--url", other.url, "--token")
    assert "failed          0" in run(*command, TOKEN=issuer.token(aud=AUDIENCE))
    with pytest.raises(AssertionError, match=r"refuses the request \(401"):
        run(*command, TOKEN=issuer.token(aud="somebody"))
    with pytest.raises(AssertionError, match="environment variable TOKEN"):
        run(*command, TOKEN="")


def test_cors_allows_one_origin(deployed: Deployment, other: Deployment) -> None:
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


def test_alarms_notify_the_email_parameter(deployed: Deployment, other: Deployment) -> None:
    topic = other.stack.outputs["AlarmTopicArn"]
    subscriptions = other.client("sns").list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert [(one["Protocol"], one["Endpoint"], one["TopicArn"]) for one in subscriptions] == [
        ("email", "fraud@example.com", topic)
    ]
    for made in (deployed, other):
        alarms = set(made.stack.of_type("AWS::CloudWatch::Alarm").values())
        described = made.client("cloudwatch").describe_alarms(AlarmNames=sorted(alarms))["MetricAlarms"]
        assert {one["AlarmName"] for one in described} == alarms
        assert {action for one in described for action in one["AlarmActions"]} == {made.stack.outputs["AlarmTopicArn"]}


def test_deleted_stack_retains_its_data(deployed: Deployment, service: RunningService) -> None:
    stack, total = deployed.stack, service.stats()["total"]
    deployed.delete()
    assert remaining(deployed, stack.resources) == RETAINED
    items = deployed.client("dynamodb").scan(TableName=stack.resources["StatsTable"])["Items"]
    assert sum(int(item["total"]["N"]) for item in items) == total


def test_events_of_a_deleted_stack_name_its_retained_resources(other: Deployment) -> None:
    """The documented clean-up commands rely on these events."""
    stack = other.stack
    other.delete()
    with pytest.raises(ClientError, match="does not exist"):
        Stack.read(other.client("cloudformation"), other.name)
    retained = RETAINED | {"StreamDeadLetterQueue"}
    assert remaining(other, stack.resources) == retained
    assert with_event(other, stack.arn, "DELETE_SKIPPED") == {name: stack.resources[name] for name in retained}


def test_failed_first_deployment_retains_only_the_tables(deployed: Deployment) -> None:
    made = replace(deployed, other_name="failed")
    built = made.folder / ".aws-sam" / "build" / "template.yaml"
    document = yaml.safe_load(built.read_text(encoding="utf-8"))
    document["Resources"]["Wrong"] = {
        "Type": "AWS::Logs::MetricFilter",
        "DependsOn": [*RETAINED, "OutboxMapping"],
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
    assert created.keys() > RETAINED
    assert remaining(made, created) == TABLES


def with_event(deployed: Deployment, stack: str, status: str) -> dict[str, str]:
    """Return the physical ids of the resources with this status, by logical id; deleted stacks go by their ARN."""
    pages = deployed.client("cloudformation").get_paginator("describe_stack_events").paginate(StackName=stack)
    return {
        event["LogicalResourceId"]: event["PhysicalResourceId"]
        for page in pages
        for event in page["StackEvents"]
        if event["ResourceStatus"] == status
    }


def remaining(deployed: Deployment, resources: dict[str, str]) -> set[str]:
    """Return the logical ids of the resources that still exist, given physical ids by logical id."""
    existing = {
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
    return {logical_id for logical_id, physical_id in resources.items() if _last(physical_id) in existing}


def _last(name: str) -> str:
    """Return the name of a queue from its URL, whose host varies; other ids are unchanged."""
    return name.rpartition("/")[2]
