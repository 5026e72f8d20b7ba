"""Errors of AWS calls, as :meth:`scoring.aws.client.Client.call` raises them."""

from collections.abc import Collection

import botocore.session

from scoring.errors import CallFailed

# Codes that any AWS service may return.
_COMMON_CODES = {
    "AccessDeniedException",
    "InternalFailure",
    "ServiceUnavailable",
    "ThrottlingException",
    "ValidationException",
}


def cancellation(*codes: str) -> CallFailed:
    """Return the error of a cancelled transaction, with a code for each of its actions."""
    reasons = [{"Code": code} for code in codes]
    return CallFailed("TransactionCanceledException", 400, {"CancellationReasons": reasons})


def dynamodb_errors(*operations: str, without: Collection[str] = ()) -> list[CallFailed]:
    """Return an error for each code in DynamoDB's service model, and errors of calls without a response from it."""
    model = botocore.session.get_session().get_service_model("dynamodb")
    codes = {shape.name for operation in operations for shape in model.operation_model(operation).error_shapes}
    return [
        *(CallFailed(code, 400) for code in sorted((codes | _COMMON_CODES).difference(without))),
        CallFailed("ConnectionRefusedError"),
        CallFailed("TimeoutError"),
        CallFailed("HTTP 503", 503),
    ]
