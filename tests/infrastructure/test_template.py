"""The template, as CloudFormation gets it after the SAM transform."""

import json
import re
from typing import Any

import pytest
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

from functions.fallback.app import ROUTES
from scoring import aws, ledger
from tests.local import template
from tests.local.template import ROOT

# The transform writes "/$default" where FailOnWarnings is asked for.
DEFAULT = "/$default"
OPEN_ROUTES = {("get", "/health"), ("x-amazon-apigateway-any-method", DEFAULT)}
DOCS_ROUTES = {("get", "/docs"), ("get", "/docs/{file}"), ("get", "/openapi.json")}
# What $context offers and a log may hold: nothing of the body, of headers, or of the path behind the route.
LOGGED = {
    "requestTime",
    "requestId",
    "routeKey",
    "status",
    "responseLatency",
    "integrationLatency",
    "identity.sourceIp",
    "identity.caller",
    "authorizer.claims.sub",
    "authorizer.error",
    "error.message",
    "integration.status",
    "integration.requestId",
}


def transformed(document: dict[str, Any]) -> dict[str, Any]:
    """Resources of the template after the SAM transform, with the code where ``sam build`` would have put it."""
    for resource in document["Resources"].values():
        for name in ("CodeUri", "ContentUri"):
            if name in resource.get("Properties", {}):
                resource["Properties"][name] = "s3://bucket/key"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
        resources: dict[str, Any] = Translator({}, Parser()).translate(document, {})["Resources"]
    return resources


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    return transformed(template.load())


def evaluated(value: Any, *conditions: str) -> Any:
    """A value with each ``Fn::If`` decided, given the conditions that hold; None for ``AWS::NoValue``."""
    if isinstance(value, list):
        return [evaluated(item, *conditions) for item in value]
    if not isinstance(value, dict):
        return value
    if value == {"Ref": "AWS::NoValue"}:
        return None
    if "Fn::If" in value:
        condition, then, otherwise = value["Fn::If"]
        return evaluated(then if condition in conditions else otherwise, *conditions)
    return {name: evaluated(item, *conditions) for name, item in value.items()}


def of_type(resources: dict[str, Any], kind: str) -> dict[str, Any]:
    found = {name: resource for name, resource in resources.items() if resource["Type"] == kind}
    assert found
    return found


def api_body(resources: dict[str, Any], *conditions: str) -> dict[str, Any]:
    """The OpenAPI document that API Gateway imports, given the conditions that hold."""
    (api,) = of_type(resources, "AWS::ApiGatewayV2::Api").values()
    body: dict[str, Any] = evaluated(api["Properties"]["Body"], *conditions)
    return body


def operations(resources: dict[str, Any], *conditions: str) -> dict[tuple[str, str], Any]:
    """``(method, path)`` of every route of the API, with its OpenAPI operation."""
    return {
        (method, path): operation
        for path, item in api_body(resources, *conditions)["paths"].items()
        for method, operation in item.items()
    }


def open_routes(resources: dict[str, Any], scheme: str, *conditions: str) -> set[tuple[str, str]]:
    """The routes that ask for something else than the scheme, or for nothing."""
    return {
        route
        for route, operation in operations(resources, *conditions).items()
        if operation["security"] != [{scheme: []}]
    }


def test_the_routes_are_those_that_the_fallback_knows(resources: dict[str, Any]) -> None:
    routes = {(path, method.upper()) for method, path in operations(resources) if path != DEFAULT}
    assert routes == set(ROUTES.items())
    default = operations(resources)["x-amazon-apigateway-any-method", DEFAULT]
    assert default["isDefaultRoute"] is True


def test_every_route_but_two_asks_for_a_signed_request(resources: dict[str, Any]) -> None:
    assert open_routes(resources, "AWS_IAM") == OPEN_ROUTES
    schemes = api_body(resources)["components"]["securitySchemes"]
    assert schemes["AWS_IAM"]["x-amazon-apigateway-authtype"] == "awsSigv4"
    assert schemes["JWT"] is None


def test_with_an_issuer_every_route_but_two_asks_for_its_token(resources: dict[str, Any]) -> None:
    assert open_routes(resources, "JWT", "TakesTokens") == OPEN_ROUTES
    authorizer = api_body(resources, "TakesTokens")["components"]["securitySchemes"]["JWT"]
    assert authorizer["x-amazon-apigateway-authorizer"] == {
        "type": "jwt",
        "identitySource": "$request.header.Authorization",
        "jwtConfiguration": {"issuer": {"Ref": "JwtIssuer"}, "audience": {"Ref": "JwtAudience"}},
    }


def test_an_issuer_that_cannot_be_read_fails_the_deployment(resources: dict[str, Any]) -> None:
    """Else API Gateway leaves out the routes that ask for its tokens, and says so to nobody."""
    (api,) = of_type(resources, "AWS::ApiGatewayV2::Api").values()
    assert evaluated(api["Properties"]["FailOnWarnings"], "TakesTokens") is True
    assert evaluated(api["Properties"]["FailOnWarnings"]) is False


@pytest.mark.parametrize(("scheme", "conditions"), [("AWS_IAM", ()), ("JWT", ("TakesTokens",))])
def test_the_documentation_can_be_opened_and_nothing_else(
    resources: dict[str, Any], scheme: str, conditions: tuple[str, ...]
) -> None:
    assert open_routes(resources, scheme, *conditions, "DocsAreOpen") == OPEN_ROUTES | DOCS_ROUTES


def test_a_route_that_is_added_without_a_thought_is_closed() -> None:
    document = template.load()
    document["Resources"]["LabFunction"]["Properties"]["Events"]["New"] = {
        "Type": "HttpApi",
        "Properties": {"ApiId": {"Ref": "Api"}, "Method": "GET", "Path": "/new"},
    }
    assert open_routes(transformed(document), "AWS_IAM") == OPEN_ROUTES


def test_nothing_is_open_unless_a_parameter_says_so() -> None:
    document = template.load()
    defaults = {name: parameter["Default"] for name, parameter in document["Parameters"].items()}
    assert {name: defaults[name] for name in ("JwtIssuer", "JwtAudience", "OpenDocs", "AllowedOrigin")} == {
        "JwtIssuer": "",
        "JwtAudience": "",
        "OpenDocs": "false",
        "AllowedOrigin": "",
    }
    assert {name: defaults[name] for name in ("KeepData", "ThrottleRate", "ThrottleBurst", "LogDays")} == {
        "KeepData": "true",
        "ThrottleRate": 1000,
        "ThrottleBurst": 500,
        "LogDays": 30,
    }
    assert document["Rules"]["TokensHaveAnAudience"] == {
        "RuleCondition": document["Conditions"]["TakesTokens"],
        "Assertions": [
            {
                "Assert": {"Fn::Not": [{"Fn::Contains": [{"Ref": "JwtAudience"}, ""]}]},
                "AssertDescription": "JwtIssuer needs JwtAudience, one audience or several joined by commas",
            }
        ],
    }
    assert document["Conditions"] == {
        "TakesTokens": {"Fn::Not": [{"Fn::Equals": [{"Ref": "JwtIssuer"}, ""]}]},
        "DocsAreOpen": {"Fn::Equals": [{"Ref": "OpenDocs"}, "true"]},
        "HasOrigin": {"Fn::Not": [{"Fn::Equals": [{"Ref": "AllowedOrigin"}, ""]}]},
        "ReservesConcurrency": {"Fn::Not": [{"Fn::Equals": [{"Ref": "ScoreConcurrency"}, "0"]}]},
        "KeepsData": {"Fn::Equals": [{"Ref": "KeepData"}, "true"]},
        "HasAlarmEmail": {"Fn::Not": [{"Fn::Equals": [{"Ref": "AlarmEmail"}, ""]}]},
    }


@pytest.mark.parametrize(
    ("parameter", "right", "wrong"),
    [
        ("JwtIssuer", ["", "https://login.example.com/tenant/v2.0"], ["http://login.example.com", "https://a b", "x"]),
        (
            "AllowedOrigin",
            ["", "https://a.example.com", "http://localhost:3000"],
            ["*", "https://*.a.b", "https://a/b"],
        ),
        ("AlarmEmail", ["", "fraud@example.com"], ["fraud", "a@b c"]),
    ],
)
def test_a_parameter_takes_what_it_should(parameter: str, right: list[str], wrong: list[str]) -> None:
    pattern = re.compile(template.load()["Parameters"][parameter]["AllowedPattern"])
    assert all(pattern.search(value) for value in right)
    assert not any(pattern.search(value) for value in wrong)


def test_browsers_of_other_sites_may_call_only_from_the_origin_of_the_parameter(resources: dict[str, Any]) -> None:
    assert api_body(resources)["x-amazon-apigateway-cors"] is None
    assert api_body(resources, "HasOrigin")["x-amazon-apigateway-cors"] == {
        "allowOrigins": [{"Ref": "AllowedOrigin"}],
        "allowMethods": ["GET", "POST"],
        "allowHeaders": [
            *("authorization", "content-type", "idempotency-key"),
            *("x-amz-content-sha256", "x-amz-date", "x-amz-security-token"),
        ],
        "exposeHeaders": ["idempotent-replayed", "retry-after"],
        "maxAge": 600,
    }


def test_every_route_is_throttled_and_the_open_ones_apart(resources: dict[str, Any]) -> None:
    (stage,) = (one["Properties"] for one in of_type(resources, "AWS::ApiGatewayV2::Stage").values())
    assert stage["DefaultRouteSettings"] == {
        "ThrottlingRateLimit": {"Ref": "ThrottleRate"},
        "ThrottlingBurstLimit": {"Ref": "ThrottleBurst"},
    }
    limits = {"ThrottlingRateLimit": 20, "ThrottlingBurstLimit": 20}
    assert stage["RouteSettings"] == dict.fromkeys(
        ("GET /health", "$default", "GET /docs", "GET /docs/{file}", "GET /openapi.json"), limits
    )


def test_the_access_log_is_json_and_holds_nothing_of_a_payload(resources: dict[str, Any]) -> None:
    (stage,) = (one["Properties"] for one in of_type(resources, "AWS::ApiGatewayV2::Stage").values())
    settings = stage["AccessLogSettings"]
    assert settings["DestinationArn"] == {"Fn::GetAtt": ["AccessLogGroup", "Arn"]}
    assert "\n" not in settings["Format"]
    fields = json.loads(settings["Format"])
    assert {value.removeprefix("$context.") for value in fields.values()} == LOGGED


def test_api_gateway_may_invoke_the_function_of_every_route(resources: dict[str, Any]) -> None:
    sources = {
        resource["Properties"]["SourceArn"]["Fn::Sub"][0].partition("${__Stage__}/")[2]
        for resource in of_type(resources, "AWS::Lambda::Permission").values()
    }
    # The transform leaves some path parameters as they are, and an ARN has no braces.
    routes = {method + re.sub(r"{\w+}", "*", path) for path, method in ROUTES.items()}
    assert sources == routes | {"*"}


def test_every_statement_allows_single_actions_on_named_resources(resources: dict[str, Any]) -> None:
    granted: dict[str, set[tuple[str, str]]] = {}
    for name, role in of_type(resources, "AWS::IAM::Role").items():
        assert "ManagedPolicyArns" not in role["Properties"]
        assert role["Properties"]["AssumeRolePolicyDocument"]["Statement"] == [
            {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ]
        (policy,) = role["Properties"]["Policies"]
        for statement in policy["PolicyDocument"]["Statement"]:
            assert statement["Effect"] == "Allow"
            assert isinstance(statement["Action"], str)
            assert "*" not in statement["Action"]
            resource, attribute = statement["Resource"]["Fn::GetAtt"]
            assert attribute == "Arn"
            granted.setdefault(name.removesuffix("Role"), set()).add((statement["Action"], resource))
    for name, actions in granted.items():
        log = {("logs:CreateLogStream", f"{name}LogGroup"), ("logs:PutLogEvents", f"{name}LogGroup")}
        assert log <= actions
        granted[name] = actions - log
    assert {name: actions for name, actions in granted.items() if actions} == {
        "Score": {
            ("dynamodb:PutItem", "DecisionsTable"),
            ("dynamodb:UpdateItem", "StatsTable"),
            ("sqs:SendMessage", "OutboxQueue"),
        },
        "Reconcile": {
            ("dynamodb:PutItem", "DecisionsTable"),
            ("dynamodb:UpdateItem", "StatsTable"),
            ("sqs:ReceiveMessage", "OutboxQueue"),
            ("sqs:DeleteMessage", "OutboxQueue"),
            ("sqs:GetQueueAttributes", "OutboxQueue"),
        },
        "Stats": {("dynamodb:BatchGetItem", "StatsTable")},
        "Transaction": {("dynamodb:Query", "DecisionsTable")},
    }


def test_every_function_has_its_folder_its_role_and_its_log_group(resources: dict[str, Any]) -> None:
    functions = of_type(resources, "AWS::Lambda::Function")
    folders = {path.parent.name for path in (ROOT / "functions").glob("*/app.py")}
    assert {name.removesuffix("Function").lower() for name in functions} == folders
    for name, function in functions.items():
        properties = function["Properties"]
        assert properties["Handler"] == "app.lambda_handler"
        assert properties["Role"] == {"Fn::GetAtt": [name.replace("Function", "Role"), "Arn"]}
        assert properties["LoggingConfig"]["LogGroup"]["Ref"] == name.replace("Function", "LogGroup")
    groups = of_type(resources, "AWS::Logs::LogGroup")
    assert len(groups) == len(functions) + 1
    for group in groups.values():
        assert group["Properties"]["RetentionInDays"] == {"Ref": "LogDays"}


def test_only_scoring_has_environments_of_its_own(resources: dict[str, Any]) -> None:
    for name, function in of_type(resources, "AWS::Lambda::Function").items():
        reserved = function["Properties"].get("ReservedConcurrentExecutions")
        assert evaluated(reserved) is None
        assert (evaluated(reserved, "ReservesConcurrency") == {"Ref": "ScoreConcurrency"}) == (name == "ScoreFunction")


KEPT = {"Fn::If": ["KeepsData", "Retain", "Delete"]}


def test_tables_are_kept_encrypted_and_recoverable(resources: dict[str, Any]) -> None:
    tables = of_type(resources, "AWS::DynamoDB::Table")
    assert tables.keys() == {"DecisionsTable", "StatsTable"}
    for table in tables.values():
        assert table["DeletionPolicy"] == table["UpdateReplacePolicy"] == KEPT
        properties = table["Properties"]
        assert properties["DeletionProtectionEnabled"] == {"Fn::If": ["KeepsData", True, False]}
        assert properties["BillingMode"] == "PAY_PER_REQUEST"
        assert properties["SSESpecification"] == {"SSEEnabled": True}
        assert "ResourcePolicy" not in properties
        assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}


def test_a_function_outlives_its_patience_with_the_ledger_and_a_call_of_the_outbox(resources: dict[str, Any]) -> None:
    for function in of_type(resources, "AWS::Lambda::Function").values():
        assert function["Properties"]["Timeout"] > ledger._PATIENCE + 2 * aws.CALL_SECONDS + aws._MARGIN


def test_the_outbox_is_tried_for_an_hour_then_set_aside_and_seen(resources: dict[str, Any]) -> None:
    outbox, dead_letters = (resources[name]["Properties"] for name in ("OutboxQueue", "OutboxDeadLetterQueue"))
    redrive = outbox["RedrivePolicy"]
    assert redrive["deadLetterTargetArn"] == {"Fn::GetAtt": ["OutboxDeadLetterQueue", "Arn"]}
    assert redrive["maxReceiveCount"] * outbox["VisibilityTimeout"] == 3600
    assert outbox["VisibilityTimeout"] == 6 * resources["ReconcileFunction"]["Properties"]["Timeout"]
    for queue in of_type(resources, "AWS::SQS::Queue").values():
        assert queue["Properties"]["SqsManagedSseEnabled"] is True
        assert queue["DeletionPolicy"] == queue["UpdateReplacePolicy"] == KEPT
    # The age of a message counts from when it was first sent, also in the dead-letter queue.
    assert outbox["MessageRetentionPeriod"] < dead_letters["MessageRetentionPeriod"] == 14 * 86_400


def test_a_decision_outlives_every_message_about_it() -> None:
    """Else one that was recorded, though its reply was lost, would be counted again when its message is sent back."""
    document = template.load()
    a_life = document["Resources"]["OutboxDeadLetterQueue"]["Properties"]["MessageRetentionPeriod"]
    # Sent back, a message starts anew.
    assert document["Parameters"]["DecisionDays"]["MinValue"] * 86_400 >= 2 * a_life


def test_one_bad_message_fails_alone_and_many_do_not_come_at_once(resources: dict[str, Any]) -> None:
    (mapping,) = (one["Properties"] for one in of_type(resources, "AWS::Lambda::EventSourceMapping").values())
    assert mapping == {
        "EventSourceArn": {"Fn::GetAtt": ["OutboxQueue", "Arn"]},
        "FunctionName": {"Ref": "ReconcileFunction"},
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "BatchSize": 10,
        "ScalingConfig": {"MaximumConcurrency": 5},
    }


def test_the_environment_of_the_functions() -> None:
    assert template.load()["Globals"]["Function"]["Environment"]["Variables"] == {
        "DECISIONS_TABLE": {"Ref": "DecisionsTable"},
        "STATS_TABLE": {"Ref": "StatsTable"},
        "STATS_SHARDS": {"Ref": "StatsShards"},
        "DECISION_DAYS": {"Ref": "DecisionDays"},
        "OUTBOX_URL": {"Ref": "OutboxQueue"},
        # The dimension of the metrics, by which alarms and dashboard know the stack
        "POWERTOOLS_SERVICE_NAME": {"Ref": "AWS::StackName"},
        "AWS_ENDPOINT_URL_DYNAMODB": "",
        "AWS_ENDPOINT_URL_SQS": "",
    }


def test_decisions_expire(resources: dict[str, Any]) -> None:
    assert resources["DecisionsTable"]["Properties"]["TimeToLiveSpecification"] == {
        "AttributeName": "expires_at",
        "Enabled": True,
    }
    assert "TimeToLiveSpecification" not in resources["StatsTable"]["Properties"]


def test_there_is_nothing_of_another_kind(resources: dict[str, Any]) -> None:
    """Whatever could open the stack in another way than those above: other APIs and routes, function URLs, policies."""
    assert {resource["Type"] for resource in resources.values()} == {
        "AWS::ApiGatewayV2::Api",
        "AWS::ApiGatewayV2::Stage",
        "AWS::CloudWatch::Alarm",
        "AWS::CloudWatch::Dashboard",
        "AWS::DynamoDB::Table",
        "AWS::IAM::Role",
        "AWS::Lambda::EventSourceMapping",
        "AWS::Lambda::Function",
        "AWS::Lambda::LayerVersion",
        "AWS::Lambda::Permission",
        "AWS::Logs::LogGroup",
        "AWS::SNS::Subscription",
        "AWS::SNS::Topic",
        "AWS::SQS::Queue",
    }
    assert len(of_type(resources, "AWS::ApiGatewayV2::Api")) == 1


def test_old_versions_of_the_layer_go(resources: dict[str, Any]) -> None:
    (layer,) = of_type(resources, "AWS::Lambda::LayerVersion").values()
    assert layer["DeletionPolicy"] == "Delete"


def test_the_access_log_begins_as_api_gateway_asks_for(resources: dict[str, Any]) -> None:
    name = resources["AccessLogGroup"]["Properties"]["LogGroupName"]
    assert name == {"Fn::Sub": "/aws/vendedlogs/${AWS::StackName}/access"}


def test_the_transforms_come_in_the_order_that_aws_asks_for() -> None:
    assert template.load()["Transform"] == ["AWS::LanguageExtensions", "AWS::Serverless-2016-10-31"]


def test_an_address_for_the_alarms_is_subscribed(resources: dict[str, Any]) -> None:
    assert resources["AlarmSubscription"] == {
        "Type": "AWS::SNS::Subscription",
        "Condition": "HasAlarmEmail",
        "Properties": {"TopicArn": {"Ref": "AlarmTopic"}, "Protocol": "email", "Endpoint": {"Ref": "AlarmEmail"}},
    }


def test_nothing_has_a_physical_name(resources: dict[str, Any]) -> None:
    names = {
        "AWS::DynamoDB::Table": "TableName",
        "AWS::IAM::Role": "RoleName",
        "AWS::Lambda::Function": "FunctionName",
        "AWS::Logs::LogGroup": "LogGroupName",
        "AWS::SQS::Queue": "QueueName",
        "AWS::CloudWatch::Alarm": "AlarmName",
        "AWS::CloudWatch::Dashboard": "DashboardName",
        "AWS::SNS::Topic": "TopicName",
    }
    for kind, name in names.items():
        for logical_id, resource in of_type(resources, kind).items():
            if logical_id != "AccessLogGroup":  # the template says why
                assert name not in resource.get("Properties", {}), logical_id
