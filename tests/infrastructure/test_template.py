"""The template, as CloudFormation gets it after the SAM transform."""

import re
from typing import Any

import pytest
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

from functions.fallback.app import ROUTES
from scoring import aws, ledger
from tests.local import template
from tests.local.template import ROOT

OPEN_ROUTES = {("get", "/health"), ("x-amazon-apigateway-any-method", "$default")}
BASIC_EXECUTION = "AWSLambdaBasicExecutionRole"


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    """Resources of the transformed template, with the code where ``sam build`` would have put it."""
    document = template.load()
    for resource in document["Resources"].values():
        for name in ("CodeUri", "ContentUri"):
            if name in resource["Properties"]:
                resource["Properties"][name] = "s3://bucket/key"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
        translator = Translator({BASIC_EXECUTION: f"arn:aws:iam::aws:policy/service-role/{BASIC_EXECUTION}"}, Parser())
        transformed: dict[str, Any] = translator.translate(document, {})["Resources"]
    return transformed


def of_type(resources: dict[str, Any], kind: str) -> dict[str, Any]:
    found = {name: resource for name, resource in resources.items() if resource["Type"] == kind}
    assert found
    return found


def operations(resources: dict[str, Any]) -> dict[tuple[str, str], Any]:
    """``(method, path)`` of every route of the API, with its OpenAPI operation."""
    (api,) = of_type(resources, "AWS::ApiGatewayV2::Api").values()
    return {
        (method, path): operation
        for path, item in api["Properties"]["Body"]["paths"].items()
        for method, operation in item.items()
    }


def test_the_routes_are_those_that_the_fallback_knows(resources: dict[str, Any]) -> None:
    routes = {(path, method.upper()) for method, path in operations(resources) if path != "$default"}
    assert routes == set(ROUTES.items())
    assert ("x-amazon-apigateway-any-method", "$default") in operations(resources)


def test_every_route_but_two_asks_for_a_signed_request(resources: dict[str, Any]) -> None:
    signed = {
        route for route, operation in operations(resources).items() if operation.get("security") == [{"AWS_IAM": []}]
    }
    assert operations(resources).keys() - signed == OPEN_ROUTES


def test_api_gateway_may_invoke_the_function_of_every_route(resources: dict[str, Any]) -> None:
    sources = {
        resource["Properties"]["SourceArn"]["Fn::Sub"][0].partition("${__Stage__}/")[2]
        for resource in of_type(resources, "AWS::Lambda::Permission").values()
    }
    # The transform leaves some path parameters as they are, and an ARN has no braces.
    routes = {f"{method}{re.sub('{.*?}', '*', path)}" for path, method in ROUTES.items()}
    assert sources == routes | {"*"}


def test_every_statement_allows_single_actions_on_named_resources(resources: dict[str, Any]) -> None:
    granted: dict[str, set[tuple[str, str]]] = {}
    for name, role in of_type(resources, "AWS::IAM::Role").items():
        properties = role["Properties"]
        assert properties["ManagedPolicyArns"] == [f"arn:aws:iam::aws:policy/service-role/{BASIC_EXECUTION}"]
        for policy in properties.get("Policies", []):
            for statement in policy["PolicyDocument"]["Statement"]:
                assert statement["Effect"] == "Allow"
                assert isinstance(statement["Action"], str)
                assert "*" not in statement["Action"]
                table, attribute = statement["Resource"]["Fn::GetAtt"]
                assert attribute == "Arn"
                granted.setdefault(name.removesuffix("FunctionRole"), set()).add((statement["Action"], table))
    assert granted == {
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
        assert properties["Role"] == {"Fn::GetAtt": [f"{name}Role", "Arn"]}
        group = resources[properties["LoggingConfig"]["LogGroup"]["Ref"]]
        assert group["Properties"]["RetentionInDays"]
        assert properties["LoggingConfig"]["LogGroup"]["Ref"] == name.replace("Function", "LogGroup")


def test_tables_are_kept_encrypted_and_recoverable(resources: dict[str, Any]) -> None:
    tables = of_type(resources, "AWS::DynamoDB::Table")
    assert tables.keys() == {"DecisionsTable", "StatsTable"}
    for table in tables.values():
        assert table["DeletionPolicy"] == table["UpdateReplacePolicy"] == "Retain"
        properties = table["Properties"]
        assert properties["BillingMode"] == "PAY_PER_REQUEST"
        assert properties["SSESpecification"] == {"SSEEnabled": True}
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
    for name in ("OutboxQueue", "OutboxDeadLetterQueue"):
        assert resources[name]["Properties"]["SqsManagedSseEnabled"] is True
        assert resources[name]["DeletionPolicy"] == resources[name]["UpdateReplacePolicy"] == "Retain"
    # The age of a message counts from when it was first sent, also in the dead-letter queue.
    assert outbox["MessageRetentionPeriod"] < dead_letters["MessageRetentionPeriod"] == 14 * 86_400

    (alarm,) = (one["Properties"] for one in of_type(resources, "AWS::CloudWatch::Alarm").values())
    assert (alarm["Namespace"], alarm["MetricName"]) == ("AWS/SQS", "ApproximateNumberOfMessagesVisible")
    assert alarm["Dimensions"] == [
        {"Name": "QueueName", "Value": {"Fn::GetAtt": ["OutboxDeadLetterQueue", "QueueName"]}}
    ]
    assert (alarm["Statistic"], alarm["ComparisonOperator"], alarm["Threshold"]) == (
        "Maximum",
        "GreaterThanThreshold",
        0,
    )
    assert alarm["TreatMissingData"] == "notBreaching"


def test_a_decision_outlives_every_message_about_it() -> None:
    """Else one that was recorded, though its reply was lost, would be counted again when its message is sent back."""
    document = template.load()
    a_life = document["Resources"]["OutboxDeadLetterQueue"]["Properties"]["MessageRetentionPeriod"]
    # Sent back, a message starts anew.
    assert document["Parameters"]["DecisionDays"]["MinValue"] * 86_400 >= 2 * a_life


def test_one_bad_message_fails_alone_and_many_do_not_come_at_once(resources: dict[str, Any]) -> None:
    (mapping,) = (one["Properties"] for one in of_type(resources, "AWS::Lambda::EventSourceMapping").values())
    assert mapping["EventSourceArn"] == {"Fn::GetAtt": ["OutboxQueue", "Arn"]}
    assert mapping["FunctionName"] == {"Ref": "ReconcileFunction"}
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["BatchSize"] == 10
    assert mapping["ScalingConfig"] == {"MaximumConcurrency": 10}


def test_nothing_has_a_physical_name(resources: dict[str, Any]) -> None:
    names = {
        "AWS::DynamoDB::Table": "TableName",
        "AWS::IAM::Role": "RoleName",
        "AWS::Lambda::Function": "FunctionName",
        "AWS::Logs::LogGroup": "LogGroupName",
        "AWS::SQS::Queue": "QueueName",
        "AWS::CloudWatch::Alarm": "AlarmName",
    }
    for kind, name in names.items():
        for logical_id, resource in of_type(resources, kind).items():
            assert name not in resource["Properties"], logical_id
