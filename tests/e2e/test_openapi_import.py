"""The import of OpenAPI bodies, which other tests of the deployed API rely on."""

from typing import Any

import pytest

from tests.e2e.openapi_import import Route, routes
from tests.local.cloudformation import Stack

IAM = {"type": "apiKey", "x-amazon-apigateway-authtype": "awsSigv4"}
JWT = {
    "type": "oauth2",
    "x-amazon-apigateway-authorizer": {
        "type": "jwt",
        "identitySource": "$request.header.Authorization",
        "jwtConfiguration": {"issuer": {"Ref": "Issuer"}, "audience": {"Ref": "Audience"}},
    },
}
CALLER = {"Fn::If": ["TakesTokens", [{"JWT": ["read"]}], [{"IAM": []}]]}
FUNCTION = "arn:aws:lambda:eu-central-1:123456789012:function:physical"


def stack(operation: dict[str, Any], issuer: str = "", **body: Any) -> Stack:
    """Make a stack whose API has one operation."""
    uri = "arn:${AWS::Partition}:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/${F.Arn}/invocations"
    integration = {"type": "aws_proxy", "httpMethod": "POST", "payloadFormatVersion": "2.0", "uri": {"Fn::Sub": uri}}
    document = {
        "openapi": "3.0.1",
        "paths": {"/stats": {"get": {"x-amazon-apigateway-integration": integration, **operation}}},
        "components": {
            "securitySchemes": {"IAM": IAM, "JWT": {"Fn::If": ["TakesTokens", JWT, {"Ref": "AWS::NoValue"}]}}
        },
        **body,
    }
    template = {
        "Conditions": {"TakesTokens": {"Fn::Not": [{"Fn::Equals": [{"Ref": "Issuer"}, ""]}]}},
        "Resources": {
            "F": {"Type": "AWS::Lambda::Function"},
            "Api": {"Type": "AWS::ApiGatewayV2::Api", "Properties": {"Body": document}},
        },
    }
    return Stack(
        template=template,
        parameters={"Issuer": issuer, "Audience": ["a", "b"]},
        resources={"F": "physical", "Api": "api"},
        outputs={},
        arn="arn:aws:cloudformation:eu-central-1:123456789012:stack/risk-scoring/1",
    )


@pytest.mark.parametrize(
    ("operation", "issuer", "expected"),
    [
        ({}, "", ("NONE", "", ())),
        ({"security": []}, "", ("NONE", "", ())),
        ({"security": [{"NONE": []}]}, "", ("NONE", "", ())),
        ({"security": {"Fn::If": ["TakesTokens", [{"JWT": []}], {"Ref": "AWS::NoValue"}]}}, "", ("NONE", "", ())),
        ({"security": [{"IAM": []}]}, "https://x", ("AWS_IAM", "IAM", ())),
        ({"security": CALLER}, "", ("AWS_IAM", "IAM", ())),
        ({"security": CALLER}, "https://x", ("JWT", "JWT", ("read",))),
    ],
)
def test_authorization_of_a_route(
    operation: dict[str, Any], issuer: str, expected: tuple[str, str, tuple[str]]
) -> None:
    assert routes(stack(operation, issuer), "Api") == {"GET /stats": Route("GET /stats", *expected, FUNCTION)}


@pytest.mark.parametrize(
    ("operation", "body", "error"),
    [
        (
            {"x-amazon-apigateway-auth": {"type": "NONE"}},
            {},
            "In GET /stats, x-amazon-apigateway-auth is not supported",
        ),
        ({}, {"security": [{"IAM": []}]}, "In the body, security is not supported"),
        ({}, {"x-amazon-apigateway-policy": {}}, "In the body, x-amazon-apigateway-policy is not supported"),
        ({}, {"paths": {"/stats": {"trace": {}}}}, "In /stats, trace is not supported"),
        (
            {},
            {"paths": {"/stats": {"get": {"security": {"Fn::FindInMap": ["a", "b", "c"]}}}}},
            "Fn::FindInMap is not supported",
        ),
        ({"security": [{"IAM": []}, {"NONE": []}]}, {}, "only a single security scheme is supported"),
        ({"security": [{"IAM": [], "NONE": []}]}, {}, "only a single security scheme is supported"),
        (
            {"security": [{"Other": []}]},
            {"components": {"securitySchemes": {"Other": {}}}},
            "scheme {} is not supported",
        ),
        ({"x-amazon-apigateway-integration": {"type": "http_proxy"}}, {}, "the integration"),
        ({"security": [{"IAM": {"Ref": "Nobody"}}]}, {}, "Nobody is neither a parameter nor a resource"),
    ],
)
def test_unsupported_body_is_an_error(operation: dict[str, Any], body: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        routes(stack(operation, **body), "Api")
