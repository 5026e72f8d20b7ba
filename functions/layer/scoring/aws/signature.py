"""AWS Signature Version 4 for calls that POST a JSON body to the root of an endpoint.

Source: *AWS Signature Version 4 for API requests* in the IAM User Guide. Tests compare the headers with botocore's.
"""

import hashlib
import hmac

from scoring.settings import Account

_ALGORITHM = "AWS4-HMAC-SHA256"
_CONTENT_TYPE = "application/x-amz-json-1.0"


class Signer:
    """Signs calls of one service.

    Parameters
    ----------
    service
        Name of the service in the credential scope, such as ``dynamodb``.
    account
        Region and credentials.
    """

    def __init__(self, service: str, account: Account) -> None:
        self._service = service
        self._account = account
        self._key = b""
        self._day = ""

    def headers(self, host: str, target: str, body: bytes, now: str) -> dict[str, str]:
        """Return the headers of a call, including ``Host`` and ``Authorization``.

        Parameters
        ----------
        host
            Host of the endpoint, with the port unless it is the scheme's default.
        target
            Value of ``X-Amz-Target``: version of the service's API and operation.
        body
            Body of the request.
        now
            Time in UTC, such as ``20261122T101500Z``.
        """
        # In alphabetical order, as the signature requires.
        headers = {"content-type": _CONTENT_TYPE, "host": host, "x-amz-date": now}
        if self._account.session_token:
            headers["x-amz-security-token"] = self._account.session_token
        headers["x-amz-target"] = target
        names = ";".join(headers)
        lines = "".join([f"{name}:{value}\n" for name, value in headers.items()])
        request = f"POST\n/\n\n{lines}\n{names}\n{hashlib.sha256(body).hexdigest()}"
        day = now[:8]
        scope = f"{day}/{self._account.region}/{self._service}/aws4_request"
        text = f"{_ALGORITHM}\n{now}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        signature = hmac.digest(self._signing_key(day), text.encode(), "sha256").hex()
        headers["authorization"] = (
            f"{_ALGORITHM} Credential={self._account.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        return headers

    def _signing_key(self, day: str) -> bytes:
        if day != self._day:
            key = f"AWS4{self._account.secret_key}".encode()
            for part in (day, self._account.region, self._service, "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._key, self._day = key, day
        return self._key
