#!/usr/bin/env python3
"""Send transactions to a scoring service, one after the other, and print what it decided.

    python events/replay.py                              the ten samples, to `make run`
    python events/replay.py FILE --url ADDRESS --sign    a JSON Lines or CSV file (or .gz), to a deployed stack
    python events/replay.py FILE --url ADDRESS --token   the same where the stack takes tokens, with that in $TOKEN

Every transaction goes out under an idempotency key of its own, so that what is sent again after a lost connection or
a 503 is decided and counted once. Exits with 1 where a request failed, with 2 where the file or the service cannot be
used.
"""

import argparse
import csv
import gzip
import json
import os
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

SAMPLES = Path(__file__).with_name("transactions.jsonl")
RISK_LEVELS = ("CRITICAL", "HIGH", "MEDIUM", "LOW")
CSV_FIELDS = {"tx_id": str, "amount": float, "category": str, "store": str, "hour": int}
SHOWN_ROWS = 50
PROGRESS_SECONDS = 5
TIMEOUT_SECONDS = 10
RETRIES = Retry(total=4, backoff_factor=0.2, status_forcelist=[503], allowed_methods=None, raise_on_status=False)


class SigV4(requests.auth.AuthBase):
    """Sign requests for API Gateway with the AWS credentials of this machine."""

    def __init__(self) -> None:
        import boto3  # noqa: PLC0415  only a closed API needs it

        session = boto3.Session()
        credentials, region = session.get_credentials(), session.region_name
        if credentials is None or region is None:
            raise ValueError("--sign needs AWS credentials and a region")
        self._credentials, self._region = credentials, region

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        from botocore.auth import SigV4Auth  # noqa: PLC0415
        from botocore.awsrequest import AWSRequest  # noqa: PLC0415

        signed = AWSRequest(request.method, request.url, {"content-type": "application/json"}, request.body)
        SigV4Auth(self._credentials, "execute-api", self._region).add_auth(signed)
        request.headers.update(dict(signed.headers))
        return request


class Bearer(requests.auth.AuthBase):
    """Send the token of the environment variable ``TOKEN``, which stays out of the command line."""

    def __init__(self) -> None:
        self._token = os.environ.get("TOKEN", "")
        if not self._token:
            raise ValueError("--token needs a token in the environment variable TOKEN")

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def read(path: Path) -> Iterator[tuple[int, str]]:
    """Line number and JSON text of each transaction; what is malformed is passed on, for the service to name it."""
    name = path.name.removesuffix(".gz")
    # With or without the byte order mark that spreadsheets write
    with (
        gzip.open(path, "rt", encoding="utf-8-sig") if path.suffix == ".gz" else path.open(encoding="utf-8-sig") as file
    ):
        if name.endswith(".csv"):
            yield from _read_csv(file)
        else:
            yield from ((number, line) for number, line in enumerate(file, start=1) if line.strip())


def _read_csv(file: IO[str]) -> Iterator[tuple[int, str]]:
    rows = csv.DictReader(file)
    if "amount" not in (rows.fieldnames or ()):
        raise ValueError("the first line of a CSV file must name its columns, 'amount' among them")
    for row in rows:
        transaction = {name: _value(kind, row[name]) for name, kind in CSV_FIELDS.items() if row.get(name)}
        yield rows.line_num, json.dumps(transaction)


def _value(kind: type, text: str) -> Any:
    try:
        number = float(text) if kind is int else text
        return int(number) if isinstance(number, float) and number.is_integer() else kind(text)
    except (ValueError, OverflowError):
        return text


def replay(path: Path, url: str, auth: requests.auth.AuthBase | None, outcome: Counter[str]) -> None:
    """Send the file and count in ``outcome`` which risk level each transaction had, or that it ``failed``."""
    run = uuid.uuid4()
    reported = time.monotonic()
    with requests.Session() as session:
        session.auth = auth
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=RETRIES))
        for number, body in read(path):
            headers = {"content-type": "application/json", "idempotency-key": f"{run}-{number}"}
            response = session.post(f"{url}/score", body.encode(), headers=headers, timeout=TIMEOUT_SECONDS)
            row = _row(response)
            outcome[row["risk_level"] if row else "failed"] += 1
            if row is None:
                print(f"line {number}: {response.status_code} {response.text.strip()[:200]}", file=sys.stderr)
            elif outcome.total() <= SHOWN_ROWS:
                if outcome.total() == 1:
                    print(f"{'tx_id':<12} {'amount':>12}  {'level':<8} {'score':>3}  rules")
                _print_row(row, body)
            if time.monotonic() - reported > PROGRESS_SECONDS:
                reported = time.monotonic()
                print(f"{outcome.total()} sent, {outcome['failed']} failed", file=sys.stderr)


def _row(response: requests.Response) -> dict[str, Any] | None:
    if response.status_code != requests.codes.ok:
        return None
    try:
        row = response.json()
    except ValueError:
        return None
    return row if isinstance(row, dict) and row.get("risk_level") in RISK_LEVELS else None


def _print_row(row: dict[str, Any], body: str) -> None:
    amount = json.loads(body)["amount"]
    rules = ", ".join(row["triggered_rules"])
    print(f"{row['tx_id']:<12} {amount:>12.2f}  {row['risk_level']:<8} {row['score']:>3}  {rules}".rstrip())


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, default=SAMPLES, help="JSON Lines or CSV, may end in .gz")
    parser.add_argument("--url", default="http://127.0.0.1:3000", help="address of the service")
    access = parser.add_mutually_exclusive_group()
    access.add_argument("--sign", action="store_const", dest="auth", const=SigV4, help="with your AWS credentials")
    access.add_argument("--token", action="store_const", dest="auth", const=Bearer, help="with the token in $TOKEN")
    arguments = parser.parse_args()
    outcome: Counter[str] = Counter()
    error = None
    try:
        replay(arguments.file, arguments.url.rstrip("/"), arguments.auth() if arguments.auth else None, outcome)
    except (requests.ConnectionError, requests.Timeout) as exception:
        error = f"{arguments.url} cannot be reached ({type(exception).__name__})"
    except BrokenPipeError:
        # Whoever read the output, `head` say, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        error = "interrupted"
    except (OSError, EOFError, ValueError, csv.Error) as exception:  # requests' other errors are among them
        error = str(exception)
    if not outcome and not error:
        error = f"{arguments.file} holds no transactions"
    if outcome:
        print()
        for level in RISK_LEVELS:
            print(f"{level:<8} {outcome[level]:>8}  {outcome[level] / outcome.total():>6.1%}")
        print(f"{'failed':<8} {outcome['failed']:>8}")
    if error:
        print(f"error: stopped after {outcome.total()} transactions: {error}", file=sys.stderr)
        return 2
    return 1 if outcome["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
