"""The stream function and its event source mappings, for every combination of the Kafka parameters."""

import re
from typing import Any

import pytest

from tests.infrastructure import stacks
from tests.local import template
from tests.local.cloudformation import Stack

CLUSTER = "arn:aws:kafka:us-east-1:000000000000:cluster/my-cluster/6cc0432b-8618-4f44-bccc-e1fbd8fb7c4d-2"
SECRET = "arn:aws:secretsmanager:us-east-1:000000000000:secret:AmazonMSK_scoring-1a2b3c"  # noqa: S105  an ARN
TOPIC = {"KafkaTopic": "transactions", "KafkaGroup": "risk-scoring"}
MSK = {"KafkaCluster": CLUSTER, **TOPIC}
SELF_MANAGED = {"KafkaBootstrapServers": "b1.example.com:9092,b2.example.com:9092", **TOPIC}
POLLERS = {"KafkaMinPollers": "2", "KafkaMaxPollers": "10"}
NETWORK = {"KafkaSubnets": "subnet-0a,subnet-0b", "KafkaSecurityGroup": "sg-0a"}

OWN = "us-east-1:000000000000"
RECORDED = {
    ("logs:CreateLogStream", f"arn:aws:logs:{OWN}:log-group:FunctionLogGroup:*"),
    ("logs:PutLogEvents", f"arn:aws:logs:{OWN}:log-group:FunctionLogGroup:*"),
    ("dynamodb:PutItem", f"arn:aws:dynamodb:{OWN}:table/DecisionsTable"),
    ("dynamodb:UpdateItem", f"arn:aws:dynamodb:{OWN}:table/StatsTable"),
    ("dynamodb:BatchGetItem", f"arn:aws:dynamodb:{OWN}:table/ProfilesTable"),
    ("dynamodb:PutItem", f"arn:aws:dynamodb:{OWN}:table/ProfilesTable"),
    ("dynamodb:BatchGetItem", f"arn:aws:dynamodb:{OWN}:table/ListsTable"),
    ("sqs:SendMessage", f"arn:aws:sqs:{OWN}:StreamDeadLetterQueue"),
}
DESCRIBED = {("kafka:DescribeClusterV2", CLUSTER), ("kafka:GetBootstrapBrokers", "*")}
INTERFACES = {
    (f"ec2:{action}", "*")
    for action in (
        *("CreateNetworkInterface", "DeleteNetworkInterface", "DescribeNetworkInterfaces"),
        *("DescribeSecurityGroups", "DescribeSubnets", "DescribeVpcs"),
    )
}
READ_BY_IAM = {
    ("kafka-cluster:Connect", CLUSTER),
    ("kafka-cluster:DescribeClusterDynamicConfiguration", CLUSTER),
    ("kafka-cluster:DescribeTopic", CLUSTER.replace(":cluster/", ":topic/") + "/transactions"),
    ("kafka-cluster:ReadData", CLUSTER.replace(":cluster/", ":topic/") + "/transactions"),
    ("kafka-cluster:DescribeGroup", CLUSTER.replace(":cluster/", ":group/") + "/risk-scoring"),
    ("kafka-cluster:AlterGroup", CLUSTER.replace(":cluster/", ":group/") + "/risk-scoring"),
}
SECRET_READ = {
    ("secretsmanager:GetSecretValue", SECRET),
    ("kms:Decrypt", f"arn:aws:kms:{OWN}:key/*"),
}
# Parameters and what the role of the stream function may do besides recording
COMBINATIONS: list[tuple[dict[str, str], set[tuple[str, str]]]] = [
    (MSK, DESCRIBED | INTERFACES),
    (MSK | POLLERS, DESCRIBED | INTERFACES),
    (MSK | {"KafkaAuthentication": "IAM"}, DESCRIBED | INTERFACES | READ_BY_IAM),
    (
        MSK | {"KafkaAuthentication": "SASL_SCRAM_512_AUTH", "KafkaSecret": SECRET},
        DESCRIBED | INTERFACES | SECRET_READ | {("kafka:ListScramSecrets", CLUSTER)},
    ),
    (
        MSK | {"KafkaAuthentication": "CLIENT_CERTIFICATE_TLS_AUTH", "KafkaSecret": SECRET},
        DESCRIBED | INTERFACES | SECRET_READ,
    ),
    (SELF_MANAGED, set()),
    (SELF_MANAGED | POLLERS, set()),
    (SELF_MANAGED | NETWORK, INTERFACES),
    *(
        (SELF_MANAGED | {"KafkaAuthentication": kind, "KafkaSecret": SECRET}, SECRET_READ)
        for kind in ("BASIC_AUTH", "SASL_SCRAM_256_AUTH", "SASL_SCRAM_512_AUTH", "CLIENT_CERTIFICATE_TLS_AUTH")
    ),
    (
        SELF_MANAGED | POLLERS | NETWORK | {"KafkaAuthentication": "SASL_SCRAM_512_AUTH", "KafkaSecret": SECRET},
        SECRET_READ | INTERFACES,
    ),
]
NUMBERS = range(len(COMBINATIONS))
OF_STREAM = {
    "StreamFunction",
    "StreamRole",
    "StreamDeadLetterQueue",
    "StreamErrorsAlarm",
    "StreamFailuresAlarm",
    "StreamLagAlarm",
    "StreamDeadLetterAlarm",
}


@pytest.fixture(scope="module")
def deployed() -> list[Stack]:
    """Make a stack for each combination."""
    return stacks.make(template.load(), *(parameters for parameters, _ in COMBINATIONS))


@pytest.fixture(scope="module")
def without_kafka() -> Stack:
    (stack,) = stacks.make(template.load(), {})
    return stack


def mapping(stack: Stack) -> dict[str, Any]:
    """Return the properties of the only mapping of a topic."""
    (found,) = (stack.properties(name) for name in ("MskMapping", "KafkaMapping") if name in stack.resources)
    return found


def granted(stack: Stack) -> list[dict[str, Any]]:
    """Return the statements of the role of the stream function."""
    policies = stack.properties("StreamRole")["Policies"]
    return [statement for policy in policies for statement in policy["PolicyDocument"]["Statement"]]


def test_no_parameter_no_resource(without_kafka: Stack, deployed: list[Stack]) -> None:
    resources = set(without_kafka.resources)
    assert not resources & (OF_STREAM | {"MskMapping", "KafkaMapping"})
    assert "Stream" not in without_kafka.properties("Dashboard")["DashboardBody"]
    for (parameters, _), stack in zip(COMBINATIONS, deployed, strict=True):
        kind = "MskMapping" if "KafkaCluster" in parameters else "KafkaMapping"
        polled = {"StreamPollingAlarm"} if "KafkaMinPollers" in parameters else set()
        assert set(stack.resources) - resources == OF_STREAM | {kind} | polled
        if polled:
            dimensions = stack.properties("StreamPollingAlarm")["Dimensions"]
            assert dimensions == [{"Name": "EventSourceMappingUUID", "Value": kind}]


@pytest.mark.parametrize("number", NUMBERS)
def test_role_may_do_what_the_combination_needs(deployed: list[Stack], number: int) -> None:
    statements = granted(deployed[number])
    assert all(one["Effect"] == "Allow" and "*" not in one["Action"] for one in statements)
    allowed = [(one["Action"], one["Resource"]) for one in statements]
    assert set(allowed) == RECORDED | COMBINATIONS[number][1]
    assert len(allowed) == len(set(allowed))


def test_key_is_used_for_the_secret_only(deployed: list[Stack]) -> None:
    conditions = [
        statement["Condition"]
        for stack in deployed
        for statement in granted(stack)
        if statement["Action"] == "kms:Decrypt"
    ]
    assert len(conditions) == sum("KafkaSecret" in parameters for parameters, _ in COMBINATIONS)
    for condition in conditions:
        assert condition == {
            "StringEquals": {
                "kms:ViaService": "secretsmanager.us-east-1.amazonaws.com",
                "kms:EncryptionContext:SecretARN": SECRET,
            }
        }


@pytest.mark.parametrize("number", NUMBERS)
def test_mapping_retries_without_end(deployed: list[Stack], number: int) -> None:
    """With a failure destination, Lambda would give up after 10 attempts; other settings need provisioned mode."""
    parameters, _ = COMBINATIONS[number]
    stack = deployed[number]
    found = mapping(stack)
    provisioned = "KafkaMinPollers" in parameters
    assert "DestinationConfig" not in found
    retries = {
        name: found.get(name)
        for name in (
            *("FunctionResponseTypes", "BisectBatchOnFunctionError", "MaximumRetryAttempts"),
            *("MaximumRecordAgeInSeconds", "MetricsConfig", "ProvisionedPollerConfig"),
        )
    }
    assert retries == (
        {
            "FunctionResponseTypes": ["ReportBatchItemFailures"],
            "BisectBatchOnFunctionError": True,
            "MaximumRetryAttempts": -1,
            "MaximumRecordAgeInSeconds": -1,
            "MetricsConfig": {"Metrics": ["ErrorCount"]},
            "ProvisionedPollerConfig": {"MinimumPollers": "2", "MaximumPollers": "10"},
        }
        if provisioned
        else dict.fromkeys(retries)
    )
    variables = stack.properties("StreamFunction")["Environment"]["Variables"]
    assert variables["PARTIAL_RESPONSES"] == ("true" if provisioned else "false")
    assert variables["DEAD_LETTERS_URL"] == "StreamDeadLetterQueue"


@pytest.mark.parametrize("number", NUMBERS)
def test_mapping_reads_the_topic_of_the_cluster(deployed: list[Stack], number: int) -> None:
    parameters, _ = COMBINATIONS[number]
    found = mapping(deployed[number])
    assert (found["FunctionName"], found["Topics"]) == ("StreamFunction", ["transactions"])
    assert (found["StartingPosition"], found["BatchSize"]) == ("TRIM_HORIZON", 1000)
    group = {"ConsumerGroupId": "risk-scoring"}
    if "KafkaCluster" in parameters:
        assert found["EventSourceArn"] == CLUSTER
        assert found["AmazonManagedKafkaEventSourceConfig"] == group
    else:
        servers = found["SelfManagedEventSource"]["Endpoints"]["KafkaBootstrapServers"]
        assert servers == ["b1.example.com:9092", "b2.example.com:9092"]
        assert found["SelfManagedKafkaEventSourceConfig"] == group
    access = []
    if "KafkaSecret" in parameters:
        access.append(("type", SECRET))
    access += [("VPC_SUBNET", f"subnet:{one}") for one in parameters.get("KafkaSubnets", "").split(",") if one]
    if "KafkaSecurityGroup" in parameters:
        access.append(("VPC_SECURITY_GROUP", "security_group:sg-0a"))
    expected = [
        {"Type": parameters["KafkaAuthentication"] if kind == "type" else kind, "URI": uri} for kind, uri in access
    ]
    # Lambda accepts no empty list.
    assert found.get("SourceAccessConfigurations") == (expected or None)


@pytest.mark.parametrize("parameters", [{}, *(parameters for parameters, _ in COMBINATIONS)])
def test_valid_combination(parameters: dict[str, str]) -> None:
    assert Stack.local(template.load(), parameters).violations() == []


@pytest.mark.parametrize(
    ("parameters", "violation"),
    [
        (MSK | SELF_MANAGED, "Give KafkaCluster or KafkaBootstrapServers, not both"),
        (MSK | {"KafkaTopic": ""}, "KafkaCluster and KafkaBootstrapServers need KafkaTopic"),
        (SELF_MANAGED | {"KafkaTopic": ""}, "KafkaCluster and KafkaBootstrapServers need KafkaTopic"),
        (MSK | {"KafkaGroup": ""}, "KafkaCluster and KafkaBootstrapServers need KafkaGroup"),
        (SELF_MANAGED | {"KafkaGroup": ""}, "KafkaCluster and KafkaBootstrapServers need KafkaGroup"),
        *(
            (parameters, "The other Kafka parameters need KafkaCluster or KafkaBootstrapServers")
            for parameters in (
                {"KafkaTopic": "transactions"},
                {"KafkaGroup": "risk-scoring"},
                {"KafkaAuthentication": "IAM"},
                POLLERS,
                NETWORK,
            )
        ),
        *(
            (
                MSK | {"KafkaAuthentication": kind, "KafkaSecret": SECRET},
                (
                    "With KafkaCluster, KafkaAuthentication is NONE, IAM, SASL_SCRAM_512_AUTH or "
                    "CLIENT_CERTIFICATE_TLS_AUTH"
                ),
            )
            for kind in ("BASIC_AUTH", "SASL_SCRAM_256_AUTH")
        ),
        (MSK | NETWORK, "KafkaSubnets and KafkaSecurityGroup are for KafkaBootstrapServers only"),
        (SELF_MANAGED | {"KafkaAuthentication": "IAM"}, "KafkaAuthentication IAM needs KafkaCluster"),
        *(
            (parameters, "KafkaAuthentication needs KafkaSecret, unless it is NONE or IAM, which take none")
            for parameters in (
                SELF_MANAGED | {"KafkaAuthentication": "BASIC_AUTH"},
                MSK | {"KafkaAuthentication": "SASL_SCRAM_512_AUTH"},
                MSK | {"KafkaSecret": SECRET},
                MSK | {"KafkaAuthentication": "IAM", "KafkaSecret": SECRET},
            )
        ),
        *(
            (SELF_MANAGED | {name: NETWORK[name]}, "KafkaSubnets and KafkaSecurityGroup need each other")
            for name in NETWORK
        ),
        *(
            (MSK | parameters, "KafkaMinPollers and KafkaMaxPollers are both 0 or both positive")
            for parameters in ({"KafkaMinPollers": "2"}, {"KafkaMaxPollers": "2"})
        ),
    ],
)
def test_invalid_combination(parameters: dict[str, str], violation: str) -> None:
    assert Stack.local(template.load(), parameters).violations() == [violation]


@pytest.mark.parametrize(
    ("parameter", "valid", "invalid"),
    [
        (
            "KafkaCluster",
            ["", CLUSTER, CLUSTER.replace("aws:", "aws-cn:")],
            ["my-cluster", CLUSTER + "/x", CLUSTER.replace("cluster/", "topic/"), CLUSTER + "*"],
        ),
        (
            "KafkaBootstrapServers",
            ["", "localhost:9092", "b-1.example.com:9094,10.0.0.1:9092", ",".join(["b:9092"] * 10)],
            ["b", "kafka://b:9092", "b:", ":9092", "b:9092,", "b:9092, c:9092", "b.:9092", ",".join(["b:9092"] * 11)],
        ),
        ("KafkaTopic", ["", "transactions", "a.b_c-1", "x" * 249], [".hidden", "a b", "a*", "x", "x" * 250]),
        ("KafkaGroup", ["", "risk-scoring", "g", "x" * 200], ["a b", "a/b", "*", "x" * 201]),
        ("KafkaSecret", ["", SECRET], ["AmazonMSK_scoring", SECRET + "*", SECRET.replace("secretsmanager", "ssm")]),
        ("KafkaSubnets", ["", "subnet-0a1b,subnet-0c"], ["subnet-0a", "sg-0a,sg-0b", "subnet-0a, subnet-0b"]),
        ("KafkaSecurityGroup", ["", "sg-0a"], ["subnet-0a", "sg-0a,sg-0b"]),
    ],
)
def test_allowed_values_of_kafka_parameters(parameter: str, valid: list[str], invalid: list[str]) -> None:
    declared = template.load()["Parameters"][parameter]
    assert declared["Default"] == ""
    pattern = re.compile(declared["AllowedPattern"])
    assert all(pattern.search(value) for value in valid)
    assert not [value for value in invalid if pattern.search(value)]


def test_limits_of_pollers() -> None:
    """Those of Lambda; 0 turns provisioned mode off."""
    parameters = template.load()["Parameters"]
    limits = {name: [parameters[name][key] for key in ("Default", "MinValue", "MaxValue")] for name in POLLERS}
    assert limits == {"KafkaMinPollers": [0, 0, 200], "KafkaMaxPollers": [0, 0, 2000]}
