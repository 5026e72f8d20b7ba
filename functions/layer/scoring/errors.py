"""Every error the service raises on purpose.

    ScoringError
    ├── AnswerableError                answered over HTTP
    │   ├── InvalidRequest        400  body, header, path or field
    │   ├── NotFound              404
    │   ├── MethodNotAllowed      405  answers with ``Allow``
    │   ├── PayloadTooLarge       413
    │   ├── UnsupportedMediaType  415
    │   ├── IdempotencyConflict   422  a key came back with another body
    │   └── StoreUnavailable      503  answers with ``Retry-After``
    ├── CallFailed                     by a service of AWS; answered as StoreUnavailable, or got past
    ├── MessageInvalid                 in the outbox; tried again and then set aside, as any message that fails
    └── ConfigurationError             found while a function starts, never by a request
        ├── RuleSetError
        └── SettingsError

An error that can reach a caller owns its HTTP ``status`` and ``headers``; its text is the sentence the caller reads.
"""

from typing import Any, ClassVar


class ScoringError(Exception):
    """Base of every error that the service raises on purpose."""


class AnswerableError(ScoringError):
    """An error that is answered over HTTP."""

    status: ClassVar[int]

    @property
    def headers(self) -> dict[str, str]:
        """Headers that the answer carries besides the content type."""
        return {}


class InvalidRequest(AnswerableError):
    """The body, a header, the path or a field is not what the contract asks for."""

    status = 400


class NotFound(AnswerableError):
    """Nothing is there under this path or id."""

    status = 404


class MethodNotAllowed(AnswerableError):
    """The path is known, the method is not one of its own."""

    status = 405

    def __init__(self, message: str, allowed: str) -> None:
        super().__init__(message)
        self.allowed = allowed

    @property
    def headers(self) -> dict[str, str]:
        return {"Allow": self.allowed}


class PayloadTooLarge(AnswerableError):
    """The body is larger than the route accepts."""

    status = 413


class UnsupportedMediaType(AnswerableError):
    """The content type is not JSON."""

    status = 415


class IdempotencyConflict(AnswerableError):
    """The idempotency key already stands for another request."""

    status = 422


class StoreUnavailable(AnswerableError):
    """The store is needed for the answer and could not be reached in time."""

    status = 503

    def __init__(
        self, message: str = "The store cannot be reached at the moment, please send the request again"
    ) -> None:
        super().__init__(message)

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": "1"}


class CallFailed(ScoringError):
    """A service of AWS refused a call, or did not answer.

    Attributes
    ----------
    reason
        One name: the service's own error code, or what went wrong on the way.
    status
        HTTP status of the answer; 0 where there was none.
    answer
        What else the service said.
    """

    def __init__(self, reason: str, status: int = 0, answer: dict[str, Any] | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.answer = answer or {}


class MessageInvalid(ScoringError):
    """A message of the outbox is no decision, and never will be."""


class ConfigurationError(ScoringError):
    """The function was deployed with something that cannot work."""


class RuleSetError(ConfigurationError):
    """The rule set is not valid; the text names the rule and what is wrong with it."""


class SettingsError(ConfigurationError):
    """An environment variable is missing or has a value that cannot be used."""
