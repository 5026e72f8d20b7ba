"""Import the OpenAPI body of an HTTP API, as API Gateway does when a stack is deployed and MiniStack does not.

Creates the authorizers, integrations and routes that the body declares. Supports only what SAM writes into a body;
anything else is an error, since ignoring it could open a route.
"""

import re
from dataclasses import dataclass
from typing import Any

from tests.local.cloudformation import Stack

_METHODS = {"get", "put", "post", "delete", "options", "head", "patch"}
_ANY_METHOD = "x-amazon-apigateway-any-method"
# SAM writes the second one if the API has FailOnWarnings.
_DEFAULT = {"$default", "/$default"}
_INTEGRATION = "x-amazon-apigateway-integration"
_CORS = "x-amazon-apigateway-cors"
_FUNCTION = re.compile(r"arn:aws:apigateway:[^:]+:lambda:path/2015-03-31/functions/(.+)/invocations")
# API Gateway always calls Lambda by POST.
_LAMBDA_INTEGRATION = {"type": "aws_proxy", "httpMethod": "POST", "payloadFormatVersion": "2.0"}

_BODY = {"openapi", "info", "paths", "components", "tags", _CORS}
_OPERATION = {_INTEGRATION, "security", "responses", "isDefaultRoute", "parameters"}


@dataclass(frozen=True)
class Route:
    """A route of an HTTP API, to a Lambda function given by its ARN."""

    key: str  # "METHOD /path" or "$default"
    authorization: str  # AWS_IAM, JWT or NONE
    scheme: str  # name of the security scheme, empty if the route is open
    scopes: tuple[str, ...]  # a token must have one of them
    function: str


def routes(stack: Stack, api: str) -> dict[str, Route]:
    """Return the routes that the body of an API declares, by route key.

    Parameters
    ----------
    api
        Logical id.

    Raises
    ------
    ValueError
        The body contains something that is not supported.
    """
    body = stack.properties(api)["Body"]
    _only(_BODY, body, "the body")
    found = {}
    schemes = body.get("components", {}).get("securitySchemes", {})
    for path, methods in body["paths"].items():
        _only(_METHODS | {_ANY_METHOD}, methods, path)
        for method, operation in methods.items():
            name = "ANY" if method == _ANY_METHOD else method.upper()
            key = "$default" if path in _DEFAULT else f"{name} {path}"
            _only(_OPERATION, operation, key)
            found[key] = _route(key, operation, schemes)
    return found


def import_body(gateway: Any, stack: Stack, api: str) -> None:
    """Replace the authorizers, integrations and routes of an API, given a boto3 client and its logical id."""
    api_id = stack.resources[api]
    body = stack.properties(api)["Body"]
    wanted = routes(stack, api)
    gateway.delete_cors_configuration(ApiId=api_id)
    if cors := body.get(_CORS):
        gateway.update_api(ApiId=api_id, CorsConfiguration={name[0].upper() + name[1:]: cors[name] for name in cors})
    for old_route in gateway.get_routes(ApiId=api_id)["Items"]:
        gateway.delete_route(ApiId=api_id, RouteId=old_route["RouteId"])
    for old_integration in gateway.get_integrations(ApiId=api_id)["Items"]:
        gateway.delete_integration(ApiId=api_id, IntegrationId=old_integration["IntegrationId"])
    for old_authorizer in gateway.get_authorizers(ApiId=api_id)["Items"]:
        gateway.delete_authorizer(ApiId=api_id, AuthorizerId=old_authorizer["AuthorizerId"])

    authorizers = {}
    for scheme in {route.scheme for route in wanted.values() if route.authorization == "JWT"}:
        authorizer = _authorizer(body["components"]["securitySchemes"][scheme])
        authorizers[scheme] = gateway.create_authorizer(ApiId=api_id, Name=scheme, **authorizer)["AuthorizerId"]
    for route in wanted.values():
        integration = gateway.create_integration(
            ApiId=api_id, IntegrationType="AWS_PROXY", IntegrationUri=route.function, PayloadFormatVersion="2.0"
        )
        parameters: dict[str, Any] = {"RouteKey": route.key, "AuthorizationType": route.authorization}
        if route.authorization == "JWT":
            parameters |= {"AuthorizerId": authorizers[route.scheme], "AuthorizationScopes": list(route.scopes)}
        gateway.create_route(ApiId=api_id, Target=f"integrations/{integration['IntegrationId']}", **parameters)


def _route(key: str, operation: dict[str, Any], schemes: dict[str, Any]) -> Route:
    integration = operation[_INTEGRATION]
    if {name: integration[name] for name in integration if name != "uri"} != _LAMBDA_INTEGRATION:
        raise ValueError(f"{key}: the integration {integration} is not supported")
    function = _FUNCTION.fullmatch(integration["uri"])
    if function is None:
        raise ValueError(f"{key}: {integration['uri']!r} is not the address of a function")
    security = operation.get("security", [])
    if len(security) > 1 or any(len(one) != 1 for one in security):
        raise ValueError(f"{key}: only a single security scheme is supported, not {security}")
    for scheme, scopes in (one for requirement in security for one in requirement.items()):
        if scheme != "NONE":
            return Route(key, _authorization(schemes[scheme]), scheme, tuple(scopes), function[1])
    return Route(key, "NONE", "", (), function[1])


def _authorization(scheme: dict[str, Any]) -> str:
    if scheme.get("x-amazon-apigateway-authtype") == "awsSigv4":
        return "AWS_IAM"
    if scheme.get("x-amazon-apigateway-authorizer", {}).get("type") == "jwt":
        return "JWT"
    raise ValueError(f"The security scheme {scheme} is not supported")


def _authorizer(scheme: dict[str, Any]) -> dict[str, Any]:
    declared = scheme["x-amazon-apigateway-authorizer"]
    _only({"type", "identitySource", "jwtConfiguration"}, declared, "the authorizer")
    _only({"issuer", "audience"}, declared["jwtConfiguration"], "the authorizer")
    jwt = declared["jwtConfiguration"]
    return {
        "AuthorizerType": "JWT",
        "IdentitySource": [declared["identitySource"]],
        "JwtConfiguration": {"Issuer": jwt["issuer"], "Audience": jwt["audience"]},
    }


def _only(known: set[str], found: dict[str, Any], where: str) -> None:
    if unknown := found.keys() - known:
        raise ValueError(f"In {where}, {', '.join(sorted(unknown))} is not supported")
