"""Errors that the service raises on purpose.

    ScoringError
    ├── HttpError                    becomes the response
    │   ├── InvalidRequest       400  body, header, path or field
    │   ├── NotFound             404
    │   ├── MethodNotAllowed     405  with ``Allow``
    │   ├── PayloadTooLarge      413  body, or response to a batch
    │   ├── UnsupportedMediaType 415
    │   ├── IdempotencyConflict  422  key already used with another body
    │   └── StoreUnavailable     503  with ``Retry-After``
    ├── CallFailed                   call of an AWS service; never reaches the caller
    ├── InvalidMessage               message of the outbox; redelivered, then moved to the dead-letter queue
    ├── InvalidImage                 item in the stream of the decisions table; logged, not alerted or judged
    ├── InvalidProfile               item of the profiles table; the decision is made without it
    ├── NotRecorded                  batch of Kafka records; Lambda delivers it again
    └── ConfigurationError           raised while a function starts
        ├── ModelError
        ├── RuleSetError
        └── SettingsError

The text of an :class:`HttpError` is returned to the caller: in the response, or in a result of a batch. For a Kafka
record, it becomes the reason in the dead letter.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar


class ScoringError(Exception):
    """Base class of all errors of the service."""


class HttpError(ScoringError):
    """An error that becomes the response, with this status and these additional headers."""

    status: ClassVar[int]
    headers: Mapping[str, str] = MappingProxyType({})


class InvalidRequest(HttpError):
    """The body, a header, the path or a field violates the contract."""

    status = 400


class NotFound(HttpError):
    """No route has this path, or nothing is stored under this id."""

    status = 404


class MethodNotAllowed(HttpError):
    """A route has this path, but not this method."""

    status = 405

    def __init__(self, message: str, allowed: str) -> None:
        super().__init__(message)
        self.headers = {"Allow": allowed}


class PayloadTooLarge(HttpError):
    """The body is larger than the route accepts, or the response to a batch is larger than Lambda returns."""

    status = 413


class UnsupportedMediaType(HttpError):
    """The route does not accept this content type."""

    status = 415


class IdempotencyConflict(HttpError):
    """The idempotency key was already used with another body."""

    status = 422


class StoreUnavailable(HttpError):
    """The store did not confirm a read or write in time."""

    status = 503
    headers = MappingProxyType({"Retry-After": "1"})

    def __init__(self, message: str = "The store is unavailable at the moment; send the request again") -> None:
        super().__init__(message)


class CallFailed(ScoringError):
    """An AWS service refused a call or did not respond.

    Attributes
    ----------
    reason
        The error code of the service, or the name of the exception that prevented a response.
    status
        HTTP status of the response; 0 if there was none.
    response
        Body of the response; empty if there was none.
    """

    def __init__(self, reason: str, status: int = 0, response: dict[str, Any] | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.response = response or {}


class InvalidMessage(ScoringError):
    """A message of the outbox does not contain a decision."""


class InvalidImage(ScoringError):
    """An item in the stream of the decisions table is not a decision, or not one of the present rule set."""


class InvalidProfile(ScoringError):
    """A profile cannot be unpacked: it is from a newer version, or damaged."""


class NotRecorded(ScoringError):
    """Not all records of a batch were recorded, and its event source mapping accepts no partial responses."""


class ConfigurationError(ScoringError):
    """The function was deployed with a configuration that cannot work."""


class ModelError(ConfigurationError):
    """The file of a model is damaged or invalid, or does not fit the rule set; the text says what is wrong."""


class RuleSetError(ConfigurationError):
    """The rule set is invalid; the text names the rule and the problem."""


class SettingsError(ConfigurationError):
    """An environment variable is missing or invalid; the text names it."""
