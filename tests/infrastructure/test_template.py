"""Tests of the template as CloudFormation sees it, after its transforms."""

import itertools
import json
import re
from typing import Any, NamedTuple

import pytest

from scoring import contract, deadlines
from scoring.aws import client
from scoring.ledger import writer
from tests.e2e import openapi_import
from tests.infrastructure import stacks
from tests.infrastructure.stacks import TransformError
from tests.local import template
from tests.local.cloudformation import Stack
from tests.local.template import ROOT

# Route keys of the OpenAPI document, which has no notation for path parameters that match slashes, too
ROUTES = {
    f"{method.upper()} {path}".replace("{entry}", "{entry+}").replace("{customer_id}", "{customer_id+}")
    for path, methods in json.loads(contract.DOCUMENT)["paths"].items()
    for method in methods
}
# The transform writes "/$default" because the API has FailOnWarnings.
DEFAULT = "/$default"
# Tokens that may score must not change lists.
SIGNED_ROUTES = {
    "GET /lists/{name}",
    "PUT /lists/{name}/{entry+}",
    "DELETE /lists/{name}/{entry+}",
    "DELETE /customer/{customer_id+}",
}
# Tokens that may score must not change lists.
SIGNED_ROUTES = {
    "GET /lists/{name}",
    "PUT /lists/{name}/{entry+}",
    "DELETE /lists/{name}/{entry+}",
    "DELETE /customer/{customer_id+}",
}
OPEN_ROUTES = {"GET /health", "$default"}
DOCS_ROUTES = {"GET /docs", "GET /docs/{file}", "GET /openapi.json"}
ISSUER = "https://login.example.com"
ORIGIN = "https://dashboard.example.com"
# Actions for which IAM accepts no resource ("Service Authorization Reference")
ANY_RESOURCE = {"dynamodb:ListStreams"}
OF_STREAMS = {"dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"}
# Variables of $context that the access log may contain: none of them has body, headers or the full path.
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


class Options(NamedTuple):
    """The parameters of a deployment that change who may call it."""

    tokens: bool = False
    docs: bool = False
    origin: bool = False

    def parameters(self) -> dict[str, str]:
        """Return the parameters that differ from the defaults."""
        return {
            **({"JwtIssuer": ISSUER, "JwtAudience": "callers,others"} if self.tokens else {}),
            **({"OpenDocs": "true"} if self.docs else {}),
            **({"AllowedOrigin": ORIGIN} if self.origin else {}),
        }


ALL_OPTIONS = [Options(*chosen) for chosen in itertools.product((False, True), repeat=3)]


@pytest.fixture(scope="module")
def deployed() -> dict[Options, Stack]:
    """Make a stack for each combination of options."""
    made = stacks.make(template.load(), *(options.parameters() for options in ALL_OPTIONS))
    return dict(zip(ALL_OPTIONS, made, strict=True))


@pytest.fixture(scope="module")
def resources(deployed: dict[Options, Stack]) -> dict[str, Any]:
    """Return the resources of a deployment with the defaults; conditions are not evaluated."""
    found: dict[str, Any] = deployed[Options()].template["Resources"]
    return found


def of_type(resources: dict[str, Any], kind: str) -> dict[str, Any]:
    found = {name: resource for name, resource in resources.items() if resource["Type"] == kind}
    assert found
    return found


def api_body(stack: Stack) -> dict[str, Any]:
    """Return the OpenAPI document that API Gateway imports."""
    (api,) = of_type(stack.template["Resources"], "AWS::ApiGatewayV2::Api")
    body: dict[str, Any] = stack.properties(api)["Body"]
    return body


def operations(stack: Stack) -> dict[str, Any]:
    """Return the OpenAPI operation of each route, by route key."""
    return {
        "$default" if path == DEFAULT else f"{method.upper()} {path}": operation
        for path, item in api_body(stack)["paths"].items()
        for method, operation in item.items()
    }


def security(stack: Stack) -> dict[str, Any]:
    """Return the security requirement of each route, by route key; None for an open route."""
    return {key: operation.get("security") for key, operation in operations(stack).items()}


def expected_security(stack: Stack, options: Options) -> dict[str, Any]:
    """Return the security requirement that each route of a stack should have."""
    scheme = "JWT" if options.tokens else "AWS_IAM"
    opened = OPEN_ROUTES | (DOCS_ROUTES if options.docs else set())
    closed: dict[str, Any] = {key: [{"AWS_IAM" if key in SIGNED_ROUTES else scheme: []}] for key in operations(stack)}
    return {key: None if key in opened else required for key, required in closed.items()}


def test_routes_match_the_openapi_document(deployed: dict[Options, Stack]) -> None:
    for stack in deployed.values():
        assert operations(stack).keys() == ROUTES | {"$default"}
        assert operations(stack)["$default"]["isDefaultRoute"] is True


@pytest.mark.parametrize("options", ALL_OPTIONS, ids=str)
def test_authorization_of_every_route(deployed: dict[Options, Stack], options: Options) -> None:
    """Every route requires either a token or a signature, except those that are open."""
    stack = deployed[options]
    assert security(stack) == expected_security(stack, options)
    # openapi_import fails on anything else that could open or close a route.
    opened = {key for key, route in openapi_import.routes(stack, "Api").items() if route.authorization == "NONE"}
    assert opened == OPEN_ROUTES | (DOCS_ROUTES if options.docs else set())


def test_language_extensions_would_close_open_routes() -> None:
    """``AWS::LanguageExtensions`` drops ``AWS::NoValue``, so the SAM transform adds its default authorizer."""
    document = template.load() | {"Transform": ["AWS::LanguageExtensions", "AWS::Serverless-2016-10-31"]}
    options = Options(tokens=True, docs=True)
    (stack,) = stacks.make(document, options.parameters())
    changed = {key for key, one in security(stack).items() if one != expected_security(stack, options)[key]}
    assert changed == OPEN_ROUTES | DOCS_ROUTES
    assert {str(security(stack)[key]) for key in changed} == {"[{'AWS_IAM': []}]"}


def test_unknown_transform_is_an_error() -> None:
    document = template.load() | {"Transform": ["AWS::Serverless-2016-10-31", "AWS::Include"]}
    with pytest.raises(TransformError, match="KeyError: 'AWS::Include'"):
        stacks.make(document, {})


def test_authorization_is_by_signature_by_default(deployed: dict[Options, Stack]) -> None:
    schemes = api_body(deployed[Options()])["components"]["securitySchemes"]
    assert schemes.keys() == {"AWS_IAM"}
    assert schemes["AWS_IAM"]["x-amazon-apigateway-authtype"] == "awsSigv4"


def test_tokens_must_have_the_issuer_and_an_audience(deployed: dict[Options, Stack]) -> None:
    authorizer = api_body(deployed[Options(tokens=True)])["components"]["securitySchemes"]["JWT"]
    assert authorizer["x-amazon-apigateway-authorizer"] == {
        "type": "jwt",
        "identitySource": "$request.header.Authorization",
        "jwtConfiguration": {"issuer": ISSUER, "audience": ["callers", "others"]},
    }


def test_unreachable_issuer_fails_the_deployment(deployed: dict[Options, Stack]) -> None:
    """Otherwise API Gateway silently leaves out the routes that require its tokens."""
    for options, stack in deployed.items():
        assert stack.properties("Api")["FailOnWarnings"] is options.tokens


def test_path_parameters_are_declared(deployed: dict[Options, Stack]) -> None:
    """The import may warn of an undeclared one, which would fail a deployment with FailOnWarnings."""
    found = set()
    for key, operation in operations(deployed[Options(tokens=True)]).items():
        declared = {one["name"]: one for one in operation.get("parameters", [])}
        assert declared.keys() == set(re.findall(r"{(\w+\+?)}", key))
        for name, parameter in declared.items():
            assert parameter == {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            found.add(name)
    assert found == {"tx_id", "file", "name", "entry+", "customer_id+"}


def test_new_route_requires_a_signature_by_default() -> None:
    document = template.load()
    document["Resources"]["LabFunction"]["Properties"]["Events"]["New"] = {
        "Type": "HttpApi",
        "Properties": {"ApiId": {"Ref": "Api"}, "Method": "GET", "Path": "/new"},
    }
    for options, stack in zip(
        ALL_OPTIONS, stacks.make(document, *(options.parameters() for options in ALL_OPTIONS)), strict=True
    ):
        assert security(stack) == expected_security(stack, options) | {"GET /new": [{"AWS_IAM": []}]}


def test_defaults_open_nothing() -> None:
    document = template.load()
    defaults = {name: parameter["Default"] for name, parameter in document["Parameters"].items()}
    assert {name: defaults[name] for name in ("JwtIssuer", "JwtAudience", "OpenDocs", "AllowedOrigin")} == {
        "JwtIssuer": "",
        "JwtAudience": "",
        "OpenDocs": "false",
        "AllowedOrigin": "",
    }
    assert {name: defaults[name] for name in ("ThrottleRate", "ThrottleBurst", "LogDays")} == {
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
    conditions = document["Conditions"]
    assert {name: conditions[name] for name in ("TakesTokens", "DocsAreOpen", "HasOrigin")} == {
        "TakesTokens": {"Fn::Not": [{"Fn::Equals": [{"Ref": "JwtIssuer"}, ""]}]},
        "DocsAreOpen": {"Fn::Equals": [{"Ref": "OpenDocs"}, "true"]},
        "HasOrigin": {"Fn::Not": [{"Fn::Equals": [{"Ref": "AllowedOrigin"}, ""]}]},
    }


@pytest.mark.parametrize(
    ("parameter", "valid", "invalid"),
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
def test_allowed_values_of_parameters(parameter: str, valid: list[str], invalid: list[str]) -> None:
    pattern = re.compile(template.load()["Parameters"][parameter]["AllowedPattern"])
    assert all(pattern.search(value) for value in valid)
    assert not any(pattern.search(value) for value in invalid)


def test_cors_allows_only_the_origin_of_the_parameter(
    deployed: dict[Options, Stack],
) -> None:
    assert "x-amazon-apigateway-cors" not in api_body(deployed[Options()])
    assert api_body(deployed[Options(origin=True)])["x-amazon-apigateway-cors"] == {
        "allowOrigins": [ORIGIN],
        "allowMethods": ["GET", "POST"],
        "allowHeaders": [
            *("authorization", "content-type", "idempotency-key"),
            *("x-amz-content-sha256", "x-amz-date", "x-amz-security-token"),
        ],
        "exposeHeaders": ["idempotent-replayed", "retry-after"],
        "maxAge": 600,
    }


def test_every_route_is_throttled_and_open_routes_have_lower_limits(resources: dict[str, Any]) -> None:
    (stage,) = (one["Properties"] for one in of_type(resources, "AWS::ApiGatewayV2::Stage").values())
    assert stage["DefaultRouteSettings"] == {
        "ThrottlingRateLimit": {"Ref": "ThrottleRate"},
        "ThrottlingBurstLimit": {"Ref": "ThrottleBurst"},
    }
    limits = {"ThrottlingRateLimit": 20, "ThrottlingBurstLimit": 20}
    assert stage["RouteSettings"] == dict.fromkeys(
        ("GET /health", "$default", "GET /docs", "GET /docs/{file}", "GET /openapi.json"), limits
    )


def test_access_log_is_json_and_has_no_payload(resources: dict[str, Any]) -> None:
    (stage,) = (one["Properties"] for one in of_type(resources, "AWS::ApiGatewayV2::Stage").values())
    settings = stage["AccessLogSettings"]
    assert settings["DestinationArn"] == {"Fn::GetAtt": ["AccessLogGroup", "Arn"]}
    assert "\n" not in settings["Format"]
    fields = json.loads(settings["Format"])
    assert {value.removeprefix("$context.") for value in fields.values()} == LOGGED


def matches(pattern: str, line: dict[str, str]) -> bool:
    """Return whether a log line matches a CloudWatch filter pattern of string comparisons joined by ``&&``."""
    assert (pattern[:2], pattern[-2:]) == ("{ ", " }")
    comparisons = [re.fullmatch(r'\(\$\.(\w+) (!?=) "([^"]*)"\)', one) for one in pattern[2:-2].split(" && ")]
    return all(one and (line[one[1]] == one[3]) == (one[2] == "=") for one in comparisons)


def test_throttled_requests_are_counted(resources: dict[str, Any]) -> None:
    (counted,) = (one["Properties"] for one in of_type(resources, "AWS::Logs::MetricFilter").values())
    assert counted["LogGroupName"] == {"Ref": "AccessLogGroup"}
    (metric,) = counted["MetricTransformations"]
    # No default value: it would publish the metric, at a cost, for every minute with a request.
    assert metric == {
        "MetricNamespace": {"Fn::Sub": "RiskScoring/${AWS::StackName}"},
        "MetricName": "ThrottledRequests",
        "MetricValue": "1",
        "Unit": "Count",
    }
    (stage,) = (one["Properties"] for one in of_type(resources, "AWS::ApiGatewayV2::Stage").values())
    line = json.loads(stage["AccessLogSettings"]["Format"])
    # The pattern compares strings, so the log must have both as strings.
    assert (line["status"], line["route"]) == ("$context.status", "$context.routeKey")
    closed = ROUTES - OPEN_ROUTES - DOCS_ROUTES
    # API Gateway writes "-" for an unknown value.
    for route in closed | {"-"}:
        assert matches(counted["FilterPattern"], {"status": "429", "route": route})
        assert not matches(counted["FilterPattern"], {"status": "200", "route": route})
    for route in stage["RouteSettings"]:
        assert not matches(counted["FilterPattern"], {"status": "429", "route": route})


def test_every_alarm_is_documented(resources: dict[str, Any]) -> None:
    text = (ROOT / "functions" / "OPERATIONS.md").read_text(encoding="utf-8")
    rows = " ".join(re.findall(r"^\| (`\w+Alarm`(?:, `\w+Alarm`)*) \|", text, re.MULTILINE))
    assert sorted(re.findall(r"\w+Alarm", rows)) == sorted(of_type(resources, "AWS::CloudWatch::Alarm"))


def test_api_gateway_may_invoke_every_function_with_a_route(resources: dict[str, Any]) -> None:
    sources = {
        resource["Properties"]["SourceArn"]["Fn::Sub"][0].partition("${__Stage__}/")[2]
        for resource in of_type(resources, "AWS::Lambda::Permission").values()
    }
    # In an ARN, a wildcard replaces a path parameter, unless it matches slashes, too.
    routes = {re.sub(r"{\w+}", "*", key.replace(" ", "")) for key in ROUTES}
    assert sources == routes | {"*"}


def test_roles_allow_single_actions_on_named_resources(resources: dict[str, Any]) -> None:
    granted: dict[str, set[tuple[str, str]]] = {}
    for name, role in of_type(resources, "AWS::IAM::Role").items():
        assert "ManagedPolicyArns" not in role["Properties"]
        assert role["Properties"]["AssumeRolePolicyDocument"]["Statement"] == [
            {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ]
        if name == "StreamRole":  # depends on parameters: see test_kafka.py
            continue
        (policy,) = role["Properties"]["Policies"]
        for statement in policy["PolicyDocument"]["Statement"]:
            assert statement["Effect"] == "Allow"
            assert isinstance(statement["Action"], str)
            assert "*" not in statement["Action"]
            if statement["Resource"] == {"Ref": "AlertTopic"}:  # the ARN
                resource = "AlertTopic"
            elif statement["Action"] in ANY_RESOURCE:
                resource = statement["Resource"]
            else:
                resource, attribute = statement["Resource"]["Fn::GetAtt"]
                assert attribute == ("StreamArn" if statement["Action"] in OF_STREAMS else "Arn")
            granted.setdefault(name.removesuffix("Role"), set()).add((statement["Action"], resource))
    log = {("logs:CreateLogStream", "FunctionLogGroup"), ("logs:PutLogEvents", "FunctionLogGroup")}
    assert all(actions >= log for actions in granted.values())
    recording = {
        ("dynamodb:PutItem", "DecisionsTable"),
        ("dynamodb:UpdateItem", "StatsTable"),
        ("dynamodb:BatchGetItem", "ProfilesTable"),
        ("dynamodb:PutItem", "ProfilesTable"),
    }
    reading_the_stream = {("dynamodb:ListStreams", "*"), *((action, "DecisionsTable") for action in OF_STREAMS)}
    deciding = {*recording, ("dynamodb:BatchGetItem", "ListsTable"), ("sqs:SendMessage", "OutboxQueue")}
    assert {name: actions - log for name, actions in granted.items()} == {
        "Score": deciding,
        "Batch": deciding,
        "Reconcile": {
            *recording,
            ("sqs:ReceiveMessage", "OutboxQueue"),
            ("sqs:DeleteMessage", "OutboxQueue"),
            ("sqs:GetQueueAttributes", "OutboxQueue"),
        },
        "Alert": {
            *reading_the_stream,
            ("sns:Publish", "AlertTopic"),
            ("sqs:SendMessage", "AlertDeadLetterQueue"),
        },
        "Shadow": {*reading_the_stream, ("dynamodb:UpdateItem", "DecisionsTable")},
        "Stats": {("dynamodb:BatchGetItem", "StatsTable")},
        "Transaction": {("dynamodb:Query", "DecisionsTable")},
        "Lists": {
            ("dynamodb:PutItem", "ListsTable"),
            ("dynamodb:DeleteItem", "ListsTable"),
            ("dynamodb:Query", "ListsTable"),
        },
        "Customer": {
            ("dynamodb:Query", "ProfilesTable"),
            ("dynamodb:DeleteItem", "ProfilesTable"),
            ("dynamodb:DeleteItem", "ListsTable"),
        },
        "Log": set(),
    }


def test_every_function_has_a_folder_a_role_and_the_log_group(resources: dict[str, Any]) -> None:
    functions = of_type(resources, "AWS::Lambda::Function")
    folders = {path.parent.name for path in (ROOT / "functions").glob("*/app.py")}
    assert {name.removesuffix("Function").lower() for name in functions} == folders
    only_log = {"HealthFunction", "DocsFunction", "LabFunction", "FallbackFunction"}
    for name, function in functions.items():
        properties = function["Properties"]
        assert properties["Handler"] == "app.lambda_handler"
        role = "LogRole" if name in only_log else name.replace("Function", "Role")
        assert properties["Role"] == {"Fn::GetAtt": [role, "Arn"]}
        assert properties["LoggingConfig"] == {"LogGroup": {"Ref": "FunctionLogGroup"}}
    groups = of_type(resources, "AWS::Logs::LogGroup")
    assert groups.keys() == {"FunctionLogGroup", "AccessLogGroup"}
    for group in groups.values():
        assert group["Properties"]["RetentionInDays"] == {"Ref": "LogDays"}


def test_only_scoring_reserves_concurrency() -> None:
    for number, stack in zip("05", stacks.make(template.load(), {}, {"ScoreConcurrency": "5"}), strict=True):
        reserved = {
            name: stack.value({"number": function["Properties"].get("ReservedConcurrentExecutions")}).get("number")
            for name, function in of_type(stack.template["Resources"], "AWS::Lambda::Function").items()
        }
        assert reserved.pop("ScoreFunction") == (number if number != "0" else None)
        assert set(reserved.values()) == {None}


def test_only_tables_and_queues_outlive_the_stack(resources: dict[str, Any]) -> None:
    """The policies are plain text: intrinsic functions in them would need ``AWS::LanguageExtensions``."""
    kept = {
        name: (resource["DeletionPolicy"], resource["UpdateReplacePolicy"])
        for name, resource in resources.items()
        if resource.get("DeletionPolicy", "Delete") != "Delete"
    }
    assert kept == {
        # Not RetainExceptOnCreate: a rollback cannot delete a table that is protected from deletion.
        "DecisionsTable": ("Retain", "Retain"),
        "StatsTable": ("Retain", "Retain"),
        "ProfilesTable": ("Retain", "Retain"),
        "ListsTable": ("Retain", "Retain"),
        "OutboxQueue": ("RetainExceptOnCreate", "Retain"),
        "OutboxDeadLetterQueue": ("RetainExceptOnCreate", "Retain"),
        "StreamDeadLetterQueue": ("RetainExceptOnCreate", "Retain"),
    }


def test_tables_are_protected_encrypted_and_recoverable(resources: dict[str, Any]) -> None:
    tables = of_type(resources, "AWS::DynamoDB::Table")
    assert tables.keys() == {"DecisionsTable", "StatsTable", "ProfilesTable", "ListsTable"}
    for table in tables.values():
        properties = table["Properties"]
        assert properties["DeletionProtectionEnabled"] is True
        assert properties["BillingMode"] == "PAY_PER_REQUEST"
        assert properties["SSESpecification"] == {"SSEEnabled": True}
        assert "ResourcePolicy" not in properties
        assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}


def test_timeout_allows_for_all_retries_of_the_ledger_and_a_call_of_the_outbox(resources: dict[str, Any]) -> None:
    longest = writer.RETRY_BUDGET_SECONDS + 2 * client.CALL_SECONDS + deadlines.MARGIN_SECONDS
    for function in of_type(resources, "AWS::Lambda::Function").values():
        assert function["Properties"]["Timeout"] > longest


def test_outbox_retries_for_an_hour_then_moves_messages_to_the_dead_letter_queue(resources: dict[str, Any]) -> None:
    outbox, dead_letters = (resources[name]["Properties"] for name in ("OutboxQueue", "OutboxDeadLetterQueue"))
    redrive = outbox["RedrivePolicy"]
    assert redrive["deadLetterTargetArn"] == {"Fn::GetAtt": ["OutboxDeadLetterQueue", "Arn"]}
    assert redrive["maxReceiveCount"] * outbox["VisibilityTimeout"] == 3600
    assert outbox["VisibilityTimeout"] == 6 * resources["ReconcileFunction"]["Properties"]["Timeout"]
    for queue in of_type(resources, "AWS::SQS::Queue").values():
        assert queue["Properties"]["SqsManagedSseEnabled"] is True
        # Set explicitly, since the default was 256 KiB once and the largest decision needs more.
        assert queue["Properties"]["MaximumMessageSize"] == 1024 * 1024
    # Moving a message to the dead-letter queue does not reset its age.
    assert outbox["MessageRetentionPeriod"] < dead_letters["MessageRetentionPeriod"] == 14 * 86_400


def test_decisions_are_kept_longer_than_their_messages() -> None:
    """Otherwise a decision whose reply was lost would be counted twice when its message is moved back."""
    document = template.load()
    retention = document["Resources"]["OutboxDeadLetterQueue"]["Properties"]["MessageRetentionPeriod"]
    # A message that is moved back to the outbox starts with age 0.
    assert document["Parameters"]["DecisionDays"]["MinValue"] * 86_400 >= 2 * retention


def test_outbox_mapping_reports_single_failures_and_limits_concurrency(resources: dict[str, Any]) -> None:
    assert resources["OutboxMapping"]["Properties"] == {
        "EventSourceArn": {"Fn::GetAtt": ["OutboxQueue", "Arn"]},
        "FunctionName": {"Ref": "ReconcileFunction"},
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "BatchSize": 10,
        "ScalingConfig": {"MaximumConcurrency": 5},
    }


STREAM_RETENTION_SECONDS = 24 * 3600
OUTAGE_SECONDS = 3600


def test_alert_mapping_outlasts_an_outage_and_leaves_time_to_send_alerts_again(resources: dict[str, Any]) -> None:
    mapping = dict(resources["AlertMapping"]["Properties"])
    del mapping["FilterCriteria"]
    age = mapping.pop("MaximumRecordAgeInSeconds")
    assert OUTAGE_SECONDS * 2 <= age <= STREAM_RETENTION_SECONDS / 2
    assert mapping == {
        "EventSourceArn": {"Fn::GetAtt": ["DecisionsTable", "StreamArn"]},
        "FunctionName": {"Ref": "AlertFunction"},
        "StartingPosition": "TRIM_HORIZON",
        "BatchSize": 100,
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "BisectBatchOnFunctionError": True,
        # An outage uses up any number of attempts.
        "MaximumRetryAttempts": -1,
        "DestinationConfig": {"OnFailure": {"Destination": {"Fn::GetAtt": ["AlertDeadLetterQueue", "Arn"]}}},
    }
    assert resources["DecisionsTable"]["Properties"]["StreamSpecification"] == {"StreamViewType": "NEW_IMAGE"}
    assert "StreamSpecification" not in resources["StatsTable"]["Properties"]


@pytest.mark.parametrize(("level", "levels"), [("HIGH", ["HIGH", "CRITICAL"]), ("CRITICAL", ["CRITICAL"])])
def test_only_new_decisions_with_the_wanted_levels_are_alerted(level: str, levels: list[str]) -> None:
    mapping = Stack.local(template.load(), {"AlertLevel": level}).properties("AlertMapping")
    (pattern,) = mapping["FilterCriteria"]["Filters"]
    assert json.loads(pattern["Pattern"]) == {
        "eventName": ["INSERT"],
        "dynamodb": {"NewImage": {"risk_level": {"S": levels}}},
    }
    assert template.load()["Parameters"]["AlertLevel"]["AllowedValues"] == ["HIGH", "CRITICAL"]


OF_SHADOW = {
    *("ShadowFunction", "ShadowRole", "ShadowMapping"),
    *("ShadowErrorsAlarm", "ShadowFailuresAlarm", "ShadowAgeAlarm"),
}


def test_only_shadow_mode_has_a_shadow_function() -> None:
    """In everything else, the three modes differ by an environment variable."""
    modes = template.load()["Parameters"]["Scorer"]["AllowedValues"]
    made = dict(zip(modes, stacks.make(template.load(), *({"Scorer": mode} for mode in modes)), strict=True))
    assert made.keys() == {"rules", "forest", "shadow"}
    assert set(made["shadow"].resources) - set(made["rules"].resources) == OF_SHADOW
    assert made["forest"].resources == made["rules"].resources
    for mode, stack in made.items():
        dashboard = json.loads(stack.properties("Dashboard")["DashboardBody"])
        assert ("Shadow" in json.dumps(dashboard)) == (mode == "shadow")
        for function in stack.of_type("AWS::Lambda::Function"):
            properties = stack.properties(function)
            assert properties["Environment"]["Variables"].pop("SCORER") == mode
            assert function == "ShadowFunction" or properties == _without_mode(made["rules"], function)


def _without_mode(stack: Stack, function: str) -> dict[str, Any]:
    properties = stack.properties(function)
    properties["Environment"]["Variables"].pop("SCORER")
    return properties


def test_mapping_of_opinions_takes_new_decisions_and_gives_up_after_an_hour() -> None:
    (stack,) = stacks.make(template.load(), {"Scorer": "shadow"})
    mapping = stack.properties("ShadowMapping")
    # Storing an opinion is a MODIFY, which must not be judged again.
    (pattern,) = mapping.pop("FilterCriteria")["Filters"]
    assert json.loads(pattern["Pattern"]) == {"eventName": ["INSERT"]}
    assert mapping == {
        "EventSourceArn": stack.value({"Fn::GetAtt": ["DecisionsTable", "StreamArn"]}),
        "FunctionName": "ShadowFunction",
        "StartingPosition": "TRIM_HORIZON",
        "BatchSize": 100,
        "MaximumBatchingWindowInSeconds": 5,
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "BisectBatchOnFunctionError": True,
        "MaximumRetryAttempts": -1,
        "MaximumRecordAgeInSeconds": 3600,
    }


def test_topic_of_alerts_is_encrypted(resources: dict[str, Any]) -> None:
    assert resources["AlertTopic"]["Properties"] == {"KmsMasterKeyId": "alias/aws/sns"}
    # CloudWatch may not use that key.
    assert "Properties" not in resources["AlarmTopic"]


def test_environment_variables_of_functions() -> None:
    own = {
        name: function["Properties"]["Environment"]["Variables"]
        for name, function in of_type(template.load()["Resources"], "AWS::Serverless::Function").items()
        if "Environment" in function["Properties"]
    }
    assert own == {
        "AlertFunction": {"ALERT_TOPIC": {"Ref": "AlertTopic"}, "AWS_ENDPOINT_URL_SNS": ""},
        "StreamFunction": {
            "DEAD_LETTERS_URL": {"Ref": "StreamDeadLetterQueue"},
            "PARTIAL_RESPONSES": {"Fn::If": ["HasPollers", "true", "false"]},
        },
    }
    assert template.load()["Globals"]["Function"]["Environment"]["Variables"] == {
        "DECISIONS_TABLE": {"Ref": "DecisionsTable"},
        "STATS_TABLE": {"Ref": "StatsTable"},
        "PROFILES_TABLE": {"Ref": "ProfilesTable"},
        "LISTS_TABLE": {"Ref": "ListsTable"},
        "STATS_SHARDS": {"Ref": "StatsShards"},
        "DECISION_DAYS": {"Ref": "DecisionDays"},
        "PROFILE_DAYS": {"Ref": "ProfileDays"},
        "OUTBOX_URL": {"Ref": "OutboxQueue"},
        "SCORER": {"Ref": "Scorer"},
        # Dimension of the metrics, which alarms and dashboard ask for
        "POWERTOOLS_SERVICE_NAME": {"Ref": "AWS::StackName"},
        "AWS_ENDPOINT_URL_DYNAMODB": "",
        "AWS_ENDPOINT_URL_SQS": "",
    }


def test_decisions_profiles_and_list_entries_expire(resources: dict[str, Any]) -> None:
    for table in ("DecisionsTable", "ProfilesTable", "ListsTable"):
        assert resources[table]["Properties"]["TimeToLiveSpecification"] == {
            "AttributeName": "expires_at",
            "Enabled": True,
        }
    assert "TimeToLiveSpecification" not in resources["StatsTable"]["Properties"]


def test_no_resource_of_another_type(resources: dict[str, Any]) -> None:
    """Another API, a function URL or a resource policy could open the stack."""
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
        "AWS::Logs::MetricFilter",
        "AWS::SNS::Subscription",
        "AWS::SNS::Topic",
        "AWS::SQS::Queue",
    }
    assert len(of_type(resources, "AWS::ApiGatewayV2::Api")) == 1


def test_old_layer_versions_are_deleted(resources: dict[str, Any]) -> None:
    (layer,) = of_type(resources, "AWS::Lambda::LayerVersion").values()
    assert layer["DeletionPolicy"] == "Delete"


def test_access_log_group_has_the_prefix_for_vended_logs(resources: dict[str, Any]) -> None:
    name = resources["AccessLogGroup"]["Properties"]["LogGroupName"]
    assert name == {"Fn::Sub": "/aws/vendedlogs/${AWS::StackName}/access"}


def test_alarm_email_is_subscribed(resources: dict[str, Any]) -> None:
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
        "AWS::Logs::MetricFilter": "FilterName",
        "AWS::SQS::Queue": "QueueName",
        "AWS::CloudWatch::Alarm": "AlarmName",
        "AWS::CloudWatch::Dashboard": "DashboardName",
        "AWS::SNS::Topic": "TopicName",
    }
    for kind, name in names.items():
        for logical_id, resource in of_type(resources, kind).items():
            if logical_id != "AccessLogGroup":  # for the reason given in the template
                assert name not in resource.get("Properties", {}), logical_id
