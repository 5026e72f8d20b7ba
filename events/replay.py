#!/usr/bin/env python3
"""Send a file of transactions to the scoring service and print the decisions.

    python events/replay.py                              send the ten samples to `make run`
    python events/replay.py FILE --url ADDRESS --sign    send a file to a deployed stack
    python events/replay.py FILE --url ADDRESS --token   send a file to a stack with a JWT issuer; reads $TOKEN

FILE contains JSON Lines, a JSON array, or CSV with a header row, optionally compressed with gzip. The format is
detected from the content, not from the name.

The idempotency key of a row is a hash of its content, so a row that is sent again is not counted again. After an
interruption, run the same command again. The exit code is 1 if a row failed, and 2 if the file or the service cannot be
used. More in events/README.md.
"""

import argparse
import io
import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

try:
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.exceptions import HTTPError
    from urllib3.util.retry import Retry
except ModuleNotFoundError as error:
    print(
        f"error: this Python has no {error.name}: run `make install` once, then `.venv/bin/python events/replay.py`",
        file=sys.stderr,
    )
    sys.exit(2)

# A script finds only the modules in its own folder.
sys.path.insert(0, str(Path(__file__).parents[1]))
from events.rows import ACCEPTED, TYPES, FileError, Row, read

SAMPLES = Path(__file__).with_name("transactions.jsonl")
DEFAULT_PORT = 3000
RISK_LEVELS = ("CRITICAL", "HIGH", "MEDIUM", "LOW")
SHOWN_ROWS = 50
SHOWN_CHARACTERS = 200
SHOWN_WARNINGS = 5
PROGRESS_SECONDS = 5
TIMEOUT_SECONDS = 10
RETRIES = Retry(total=4, backoff_factor=0.2, status_forcelist=[503], allowed_methods=None, raise_on_status=False)

Auth = Callable[[requests.PreparedRequest], requests.PreparedRequest]


class UnusableError(Exception):
    """The address, the credentials or the service cannot be used; the user reads the message."""


def sigv4() -> Auth:
    """Sign requests for API Gateway with the AWS credentials of this machine."""
    try:
        import boto3  # noqa: PLC0415  only --sign needs it
        from botocore.auth import SigV4Auth  # noqa: PLC0415
        from botocore.awsrequest import AWSRequest  # noqa: PLC0415
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise UnusableError(
            f"--sign needs {error.name}, which this Python lacks: "
            "run `make install` once, then `.venv/bin/python events/replay.py`"
        ) from error
    try:
        session = boto3.Session()
        credentials, region = session.get_credentials(), session.region_name
    except BotoCoreError as error:
        raise UnusableError(f"--sign cannot use the AWS credentials: {error}") from error
    if credentials is None or region is None:
        raise UnusableError("--sign needs AWS credentials and a region")
    signer = SigV4Auth(credentials, "execute-api", region)

    def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
        signed = AWSRequest(request.method, request.url, {"content-type": "application/json"}, request.body)
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


class Keys:
    """Idempotency keys: a hash of the batch name and the content of a row, and a number that tells equal rows apart."""

    def __init__(self, batch: str) -> None:
        self._batch = batch
        self._seen: Counter[bytes] = Counter()

    def key(self, row: Row) -> str:
        digest = sha256(f"{self._batch}\n{row.identity}".encode(errors="surrogatepass")).digest()[:16]
        self._seen[digest] += 1
        return f"{digest.hex()}-{self._seen[digest]}"


class Tally:
    """Counts rows by outcome: risk level or ``failed``; and how many of them were replayed or have warnings."""

    def __init__(self) -> None:
        self.outcome: Counter[str] = Counter()
        self.replayed = 0
        self.warned = 0
        self._shown_warnings: set[str] = set()

    def warn(self, line: int, decision: dict[str, Any]) -> None:
        """Count the row if its decision has warnings; print those that were not printed before."""
        warnings = decision.get("warnings")
        if not isinstance(warnings, list):
            return
        self.warned += 1
        for text in (_printable(str(warning))[:SHOWN_CHARACTERS] for warning in warnings):
            if text not in self._shown_warnings and len(self._shown_warnings) < SHOWN_WARNINGS:
                self._shown_warnings.add(text)
                print(f"line {line}: {text}", file=sys.stderr)

    def print(self) -> None:
        total = self.outcome.total()
        print()
        for level in RISK_LEVELS:
            print(f"{level:<8} {self.outcome[level]:>8}  {self.outcome[level] / total:>6.1%}")
        print(f"{'failed':<8} {self.outcome['failed']:>8}")
        if self.replayed:
            print(f"{'replayed':<8} {self.replayed:>8}  already recorded, not counted again; --batch NAME counts them")
        if self.warned:
            print(f"{'warned':<8} {self.warned:>8}  scored with warnings; the first are printed above")


def connect(auth: Auth | None) -> requests.Session:
    session = requests.Session()
    session.auth = auth
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=RETRIES))
    return session


def declared_fields(session: requests.Session, url: str) -> dict[str, str]:
    """Return the fields in the OpenAPI document of the service and their types; print a line if it cannot be read."""
    response = _request(session, "GET", url, "/openapi.json")
    try:
        properties = response.json()["components"]["schemas"]["Transaction"]["properties"]
        types = {
            name: "time" if schema.get("format") == "date-time" else schema.get("type")
            for name, schema in properties.items()
        }
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        reason = f"{response.status_code} {_printable(response.text)[:SHOWN_CHARACTERS]}"
        print(f"{url}/openapi.json cannot be read ({reason}): only built-in fields are sent", file=sys.stderr)
        return {}
    return {name: kind for name, kind in types.items() if kind in TYPES}


def replay(rows: Iterator[Row], session: requests.Session, url: str, keys: Keys, tally: Tally) -> None:
    """Send the rows in order; raise :class:`UnusableError` if no further row can succeed."""
    reported = time.monotonic()
    for row in rows:
        if row.note:
            print(_printable(row.note))
        decision, problem = None, row.problem
        if not problem:
            response = _send(session, url, row, keys.key(row))
            decision = _decision(response)
            problem = f"{response.status_code} {_printable(response.text)[:SHOWN_CHARACTERS]}"
            tally.replayed += response.headers.get("Idempotent-Replayed") == "true"
        tally.outcome[decision["risk_level"] if decision else "failed"] += 1
        sent = tally.outcome.total()
        if decision is None:
            print(f"line {row.line}: {problem}", file=sys.stderr)
        else:
            tally.warn(row.line, decision)
            if sent <= SHOWN_ROWS:
                if sent - tally.outcome["failed"] == 1:
                    print(f"{'tx_id':<12} {'amount':>12}  {'level':<8} {'score':>3}  rules")
                _print_row(decision, row.body)
        if time.monotonic() - reported > PROGRESS_SECONDS:
            reported = time.monotonic()
            print(f"{sent} sent, {tally.outcome['failed']} failed, {tally.replayed} replayed", file=sys.stderr)


def _send(session: requests.Session, url: str, row: Row, key: str) -> requests.Response:
    headers = {"content-type": "application/json", "idempotency-key": key}
    response = _request(session, "POST", url, "/score", data=row.body.encode(), headers=headers)
    status = response.status_code
    text = _printable(response.text)[:SHOWN_CHARACTERS]
    if response.is_redirect:
        raise UnusableError(
            f"{url} redirects to {_printable(response.headers['location'])}: pass that address as --url"
        )
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        raise UnusableError(f"{url} refuses the request ({status} {text}): a deployed stack requires --sign or --token")
    is_json = "json" in response.headers.get("content-type", "json")
    if status in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED} or (
        status < HTTPStatus.BAD_GATEWAY and not is_json
    ):
        raise UnusableError(f"{url}/score is not a scoring service ({status} {text}): check --url")
    return response


def _request(session: requests.Session, method: str, url: str, path: str, **options: Any) -> requests.Response:
    """Return the response to a request; raise :class:`UnusableError` if there is none."""
    try:
        return session.request(method, url + path, timeout=TIMEOUT_SECONDS, allow_redirects=False, **options)
    except (OSError, ValueError, HTTPError) as error:  # requests also raises errors of its dependencies
        raise UnusableError(_unreachable(url, error)) from error


def _unreachable(url: str, error: Exception) -> str:
    """Return a sentence that explains why there is no response, with advice if there is any."""
    if isinstance(error, requests.exceptions.ProxyError):
        return f"the proxy for {url} cannot be used: check HTTP_PROXY and HTTPS_PROXY, or set NO_PROXY"
    root: BaseException = error
    while (cause := root.__cause__ or root.__context__) is not None:
        root = cause
    detail = _printable(getattr(root, "strerror", None) or str(root))
    if not isinstance(error, requests.ConnectionError | requests.Timeout):
        return f"{url} cannot be used: {detail}"
    address = urlsplit(url)
    hint = ""
    if address.hostname in {"127.0.0.1", "localhost", "::1"} and isinstance(root, ConnectionRefusedError):
        port = address.port or 80
        hint = f"; start the service with `make run{'' if port == DEFAULT_PORT else f' PORT={port}'}`"
    elif "WRONG_VERSION_NUMBER" in detail:
        hint = "; try http://"
    return f"{url} cannot be reached: {detail}{hint}"


def _decision(response: requests.Response) -> dict[str, Any] | None:
    """Return the decision in a response, or None if there is none."""
    if response.status_code != HTTPStatus.OK:
        return None
    try:
        body = response.json()
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) and body.get("risk_level") in RISK_LEVELS else None


def _print_row(decision: dict[str, Any], body: str) -> None:
    try:
        amount = f"{json.loads(body)['amount']:.2f}"
    except (ValueError, LookupError, TypeError, ArithmeticError):
        amount = "?"  # too large for a double, for example
    tx_id, score, rules = (decision.get(name, "?") for name in ("tx_id", "score", "triggered_rules"))
    labels = ", ".join(map(str, rules)) if isinstance(rules, list) else "?"
    line = f"{tx_id!s:<12} {amount:>12}  {decision['risk_level']:<8} {score!s:>3}  {labels}"
    print(_plain(line).rstrip())


def _printable(text: str) -> str:
    """Return the text on one line, without control characters."""
    return _plain(" ".join(text.split()))


def _plain(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


def _url(text: str) -> str:
    if not re.match(r"https?://[^/]", text):
        raise argparse.ArgumentTypeError(f"{text!r} must begin with http:// or https://")
    return text.rstrip("/")


def _explain(stop: UnusableError | FileError | KeyboardInterrupt, sent: int) -> str:
    """Return a sentence that explains why the replay stopped and how to continue."""
    problem = str(stop) or "interrupted"
    if not sent:
        return problem
    rows = "1 row" if sent == 1 else f"{sent} rows"
    if isinstance(stop, FileError):
        return f"stopped after {rows}: {problem}; fix it and run the command again"
    if isinstance(stop, UnusableError):
        problem += "; stopped"
    return f"{problem} after {rows}; run the same command again to continue"


def _run(arguments: argparse.Namespace) -> int:
    tally = Tally()
    stop: UnusableError | FileError | KeyboardInterrupt | None = None
    try:
        auth = arguments.auth() if arguments.auth else None
        with connect(auth) as session:
            rows = read(arguments.file, lambda: declared_fields(session, arguments.url))
            replay(rows, session, arguments.url, Keys(arguments.batch), tally)
    except (UnusableError, FileError, KeyboardInterrupt) as error:
        stop = error
    sent = tally.outcome.total()
    if sent:
        tally.print()
    elif not stop:
        stop = FileError(f"{arguments.file} contains no transactions")
    if stop:
        print(f"error: {_explain(stop, sent)}", file=sys.stderr)
        return 2
    return 1 if tally.outcome["failed"] else 0


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, default=SAMPLES, help=ACCEPTED)
    parser.add_argument("--url", type=_url, default=f"http://127.0.0.1:{DEFAULT_PORT}", help="address of the service")
    parser.add_argument("--batch", default="", metavar="NAME", help="count the rows again under this name")
    access = parser.add_mutually_exclusive_group()
    access.add_argument("--sign", action="store_const", dest="auth", const=sigv4, help="sign with your AWS credentials")
    access.add_argument("--token", action="store_const", dest="auth", const=bearer, help="send the token in $TOKEN")
    arguments = parser.parse_args()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # The encoding of the terminal may lack characters of an id.
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 2
    except OSError as error:
        # Python flushes again on exit, which would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # the reader, `head` for example, stopped early
            return 0
        print(f"error: the output cannot be written: {error.strerror or error}", file=sys.stderr)
        return 2
    return code


if __name__ == "__main__":
    sys.exit(main())
