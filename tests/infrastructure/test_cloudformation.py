"""The evaluator of CloudFormation templates."""

from dataclasses import replace
from typing import Any

import pytest

from tests.local.cloudformation import Stack

STACK = Stack(
    template={"Conditions": {"HasIssuer": {"Fn::Not": [{"Fn::Equals": [{"Ref": "Issuer"}, ""]}]}}},
    parameters={"Issuer": "", "Audience": ["a", "b"], "Shards": "64"},
    resources={},
    outputs={},
    arn="arn:aws:cloudformation:eu-central-1:123456789012:stack/risk-scoring/1",
)


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("HasIssuer", False),
        ({"Condition": "HasIssuer"}, False),
        ({"Fn::Equals": [{"Ref": "Shards"}, 64]}, True),
        ({"Fn::Equals": [True, "true"]}, True),
        ({"Fn::And": [{"Fn::Equals": [1, 1]}, {"Condition": "HasIssuer"}]}, False),
        ({"Fn::Or": [{"Fn::Equals": [1, 1]}, {"Condition": "HasIssuer"}]}, True),
        ({"Fn::Contains": [{"Ref": "Audience"}, "b"]}, True),
        ({"Fn::Contains": [["64", "65"], {"Ref": "Shards"}]}, True),
        ({"Fn::Contains": [{"Ref": "Audience"}, {"Ref": "Shards"}]}, False),
    ],
)
def test_condition(condition: Any, *, holds: bool) -> None:
    assert STACK.holds(condition) is holds


@pytest.mark.parametrize(
    ("value", "evaluated"),
    [
        (
            {"Fn::Sub": ["${A}-${AWS::StackName}-${!literal}", {"A": {"Ref": "Shards"}}]},
            "64-risk-scoring-${literal}",
        ),
        ({"Fn::Select": [1, {"Fn::Split": [",", {"Fn::Sub": "${Shards},c"}]}]}, "c"),
        ([{"Ref": "AWS::NoValue"}, {"Ref": "Audience"}, {"a": {"Ref": "AWS::NoValue"}}], [["a", "b"], {}]),
    ],
)
def test_value(value: Any, evaluated: Any) -> None:
    assert STACK.value(value) == evaluated


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ({"Fn::Base64": "a"}, "Fn::Base64 is not supported"),
        ({"Ref": "Nobody"}, "Nobody is neither a parameter nor a resource of the stack"),
    ],
)
def test_unsupported_value_is_an_error(value: Any, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        STACK.value(value)


def test_local_stack_has_the_resources_whose_conditions_hold() -> None:
    document = {
        "Parameters": {"Issuer": {"Type": "String", "Default": ""}},
        "Conditions": STACK.template["Conditions"],
        "Resources": {
            "Queue": {"Type": "AWS::SQS::Queue"},
            "Topic": {"Type": "AWS::SNS::Topic", "Condition": "HasIssuer"},
        },
    }
    assert Stack.local(document).resources == {"Queue": "Queue"}
    topic = Stack.local(document, {"Issuer": "https://issuer"}).of_type("AWS::SNS::Topic")
    assert topic == {"Topic": "arn:aws:sns:us-east-1:000000000000:Topic"}


def test_violated_rules() -> None:
    rules = {
        "Always": {
            "Assertions": [{"Assert": {"Fn::Equals": [{"Ref": "Shards"}, "1"]}, "AssertDescription": "1 shard"}]
        },
        "Never": {
            "RuleCondition": {"Condition": "HasIssuer"},
            "Assertions": [{"Assert": {"Fn::Equals": [1, 2]}, "AssertDescription": "never"}],
        },
    }
    assert replace(STACK, template=STACK.template | {"Rules": rules}).violations() == ["1 shard"]
