"""The evaluator of CloudFormation templates."""

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
        ([{"Ref": "AWS::NoValue"}, {"Ref": "Audience"}, {"a": {"Ref": "AWS::NoValue"}}], [["a", "b"], {}]),
    ],
)
def test_value(value: Any, evaluated: Any) -> None:
    assert STACK.value(value) == evaluated


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ({"Fn::Select": [0, []]}, "Fn::Select is not supported"),
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
