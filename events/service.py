"""The scoring service as the commands in this folder call it: address, access, requests and their errors."""

import argparse
import os
import re
import sys
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError
from urllib3.util.retry import Retry

from events import command
from events.command import UnusableError, printable, shown
from events.rows import TYPES

DEFAULT_PORT = 3000
DEFAULT_URL = f"http://127.0.0.1:{DEFAULT_PORT}"
TIMEOUT_SECONDS = 10
# Errors that proxies respond with in front of the service
FOREIGN_STATUSES = {
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}
RETRIES = Retry(total=4, backoff_factor=0.2, status_forcelist=[503], allowed_methods=None, raise_on_status=False)
NO_RETRIES = Retry(total=0, read=False)

Auth = Callable[[requests.PreparedRequest], requests.PreparedRequest]


class UnreachableError(UnusableError):
    """There is no response; there may be one later."""


def sigv4() -> Auth:
    """Sign requests for API Gateway with the AWS credentials of this machine."""
    try:
        import boto3  # noqa: PLC0415  only --sign needs it
        from botocore.auth import SigV4Auth  # noqa: PLC0415
        from botocore.awsrequest import AWSRequest  # noqa: PLC0415
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise UnusableError(f"--sign needs {error.name}, which this Python lacks: {command.advice()}") from error
    try:
        session = boto3.Session()
        credentials, region = session.get_credentials(), session.region_name
    except BotoCoreError as error:
        raise UnusableError(f"--sign cannot use the AWS credentials: {error}") from error
    if credentials is None or region is None:
        raise UnusableError("--sign needs AWS credentials and a region")
    signer = SigV4Auth(credentials, "execute-api", region)

    def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
        headers = {"content-type": request.headers.get("content-type", "application/json")}
        signed = AWSRequest(request.method, request.url, headers, request.body)
        try:
            signer.add_auth(signed)
        except BotoCoreError as error:
            raise UnusableError(f"--sign cannot use the AWS credentials: {error}") from error
        request.headers.update(dict(signed.headers))
        return request

    return sign


def bearer() -> Auth:
    """Send the token in the environment variable ``TOKEN``; the command line is visible to other users."""
    token = os.environ.get("TOKEN", "").strip()
    if not token:
        raise UnusableError("--token needs a token in the environment variable TOKEN")
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        raise UnusableError("the environment variable TOKEN contains characters that no token can have")

    def authorize(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    return authorize


def add_options(
    parser: argparse.ArgumentParser,
    default_url: str | None = DEFAULT_URL,
    purpose: str = "address of the service",
    *,
    tokens: bool = True,
) -> None:
    """Add the options ``--url``, ``--sign`` and, unless the routes take no tokens, ``--token``.

    The attribute ``auth`` is a function or None.
    """
    parser.add_argument("--url", type=_url, default=default_url, help=purpose)
    access = parser.add_mutually_exclusive_group()
    access.add_argument("--sign", action="store_const", dest="auth", const=sigv4, help="sign with your AWS credentials")
    if tokens:
        access.add_argument("--token", action="store_const", dest="auth", const=bearer, help="send the token in $TOKEN")


class Service:
    """A connection to the service.

    Parameters
    ----------
    url
        Its address, without a slash at the end.
    auth
        Returns what authorizes the requests.
    retries
        Which requests are sent again.
    access
        Options that authorize requests to a deployed stack.
    """

    def __init__(
        self,
        url: str,
        auth: Callable[[], Auth] | None = None,
        retries: Retry = RETRIES,
        access: str = "--sign or --token",
    ) -> None:
        self.url = url
        self._access = access
        self._session = requests.Session()
        self._session.auth = auth() if auth else None
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=retries))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.close()

    def request(self, method: str, path: str, timeout: float = TIMEOUT_SECONDS, **options: Any) -> requests.Response:
        """Return the response to a request.

        Raises
        ------
        UnreachableError
            There is no response.
        UnusableError
            There cannot be one: the address or the proxy is invalid.
        """
        try:
            return self._session.request(method, self.url + path, timeout=timeout, allow_redirects=False, **options)
        except (OSError, ValueError, HTTPError) as error:  # requests also raises errors of its dependencies
            raise _no_response(self.url, error) from error

    def post(
        self, path: str, body: bytes, headers: dict[str, str], timeout: float = TIMEOUT_SECONDS
    ) -> requests.Response:
        """Return the response to a POST request; raise :class:`UnusableError` if every other would fail as well."""
        response = self.request("POST", path, timeout, data=body, headers=headers)
        self.check(response, path)
        return response

    def check(self, response: requests.Response, path: str) -> None:
        """Raise :class:`UnusableError` if the response comes from something else, or refuses every request."""
        status, text = response.status_code, shown(response.text)
        if response.is_redirect:
            location = printable(response.headers["location"])
            raise UnusableError(f"{self.url} redirects to {location}: pass that address as --url")
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise UnusableError(
                f"{self.url} refuses the request ({status} {text}): a deployed stack requires {self._access}"
            )
        is_foreign = "json" not in response.headers.get("content-type", "json") and status not in FOREIGN_STATUSES
        if status in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED} or is_foreign:
            raise UnusableError(f"{self.url}{path} is not a scoring service ({status} {text}): check --url")

    def declared_fields(self) -> dict[str, str]:
        """Return the fields in the service's OpenAPI document and their types; print a line if it cannot be read."""
        response = self.request("GET", "/openapi.json")
        try:
            properties = response.json()["components"]["schemas"]["Transaction"]["properties"]
            types = {
                name: "time" if schema.get("format") == "date-time" else schema.get("type")
                for name, schema in properties.items()
            }
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            reason = f"{response.status_code} {shown(response.text)}"
            print(f"{self.url}/openapi.json cannot be read ({reason}): only built-in fields are sent", file=sys.stderr)
            return {}
        return {name: kind for name, kind in types.items() if kind in TYPES}


def retry_after(response: requests.Response, longest: float) -> float:
    """Return the seconds that a response asks to wait, at most ``longest``; 0 if it asks for nothing."""
    text = response.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:10])
    else:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, OverflowError):
            return 0
    return min(max(seconds, 0), longest)


def _url(text: str) -> str:
    if not re.match(r"https?://[^/]", text):
        raise argparse.ArgumentTypeError(f"{text!r} must begin with http:// or https://")
    return text.rstrip("/")


def _no_response(url: str, error: Exception) -> UnusableError:
    """Return the error for a request without a response, with advice if there is any."""
    if isinstance(error, requests.exceptions.ProxyError):
        return UnusableError(f"the proxy for {url} cannot be used: check HTTP_PROXY and HTTPS_PROXY, or set NO_PROXY")
    root: BaseException = error
    while (cause := root.__cause__ or root.__context__) is not None:
        root = cause
    detail = printable(getattr(root, "strerror", None) or str(root))
    if not isinstance(error, requests.ConnectionError | requests.Timeout | requests.exceptions.ChunkedEncodingError):
        return UnusableError(f"{url} cannot be used: {detail}")
    address = urlsplit(url)
    hint = ""
    if address.hostname in {"127.0.0.1", "localhost", "::1"} and isinstance(root, ConnectionRefusedError):
        port = address.port or 80
        hint = f"; start the service with `make run{'' if port == DEFAULT_PORT else f' PORT={port}'}`"
    elif "WRONG_VERSION_NUMBER" in detail:
        hint = "; try http://"
    return UnreachableError(f"{url} cannot be reached: {detail}{hint}")
