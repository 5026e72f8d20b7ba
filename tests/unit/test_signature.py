"""Signatures, compared with botocore's."""

from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import example, given
from hypothesis import strategies as st

from scoring.aws.signature import Signer
from scoring.settings import Account

# Text that a header may contain.
HEADER_VALUES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1)
ACCOUNTS = st.builds(
    Account,
    region=st.sampled_from(["us-east-1", "eu-central-1", "cn-north-1"]),
    access_key=HEADER_VALUES,
    secret_key=st.text(min_size=1),
    session_token=st.just("") | HEADER_VALUES,
    ca_bundle=st.just(""),
)
TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31))  # noqa: DTZ001  Hypothesis requires it
CALLS = st.tuples(TIMES, HEADER_VALUES, st.binary())


def botocore_headers(
    account: Account, service: str, url: str, target: str, body: bytes, now: datetime
) -> dict[str, Any]:
    """Return the headers of botocore's request, with names in lower case."""
    headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": target}
    request = AWSRequest("POST", url, headers, body)
    credentials = Credentials(account.access_key, account.secret_key, account.session_token or None)
    with patch("botocore.auth.get_current_datetime", return_value=now.replace(tzinfo=UTC)):
        SigV4Auth(credentials, service, account.region).add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


@given(
    account=ACCOUNTS,
    service=st.sampled_from(["dynamodb", "sqs"]),
    host=st.sampled_from(["dynamodb.eu-central-1.amazonaws.com", "127.0.0.1:4566"]),
    calls=st.lists(CALLS, min_size=1, max_size=4),
)
@example(
    account=Account("us-east-1", "AKID", "secret", "token", ""),
    service="dynamodb",
    host="localhost:8000",
    # The signing key changes every day.
    calls=[(datetime(2026, 11, day, hour), "DynamoDB_20120810.T", b"{}") for day, hour in ((22, 23), (23, 0), (22, 1))],  # noqa: DTZ001
)
def test_headers_are_those_of_botocore(
    account: Account, service: str, host: str, calls: list[tuple[datetime, str, bytes]]
) -> None:
    signer = Signer(service, account)
    for now, target, body in calls:
        ours = signer.headers(host, target, body, now.strftime("%Y%m%dT%H%M%SZ"))
        theirs = botocore_headers(account, service, f"https://{host}/", target, body, now)
        assert ours.pop("host") == host
        assert ours == theirs
