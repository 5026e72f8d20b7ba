"""An issuer of JSON Web Tokens on loopback, with its discovery document and keys over TLS."""

import base64
import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.local import certificates

_HOST = "127.0.0.1"
_KEY_ID = "key-1"
_VALID_SECONDS = 300


@dataclass(frozen=True)
class Issuer:
    """An issuer of signed tokens.

    Attributes
    ----------
    url
        The claim ``iss`` and the address of the keys.
    authority
        PEM file of the authority that signed its TLS certificate.
    """

    url: str
    authority: Path
    _key: rsa.RSAPrivateKey

    def token(self, **claims: Any) -> str:
        """Sign a token that is valid for some minutes unless the claims say otherwise."""
        expires = int(time.time()) + _VALID_SECONDS
        parts = (
            {"alg": "RS256", "typ": "JWT", "kid": _KEY_ID},
            {"iss": self.url, "exp": expires, **claims},
        )
        signed = ".".join(_encode(json.dumps(part).encode()) for part in parts)
        return f"{signed}.{_encode(self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


@contextmanager
def running(folder: Path) -> Iterator[Issuer]:
    """Serve the documents of a new issuer; write its certificate into the folder."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    files = certificates.make(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)

    documents: dict[str, Any] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            document = documents.get(self.path)
            self.send_response(200 if document else 404)
            self.end_headers()
            self.wfile.write(json.dumps(document).encode())

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer((_HOST, 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        url = f"https://{_HOST}:{server.server_port}"
        documents["/.well-known/openid-configuration"] = {"issuer": url, "jwks_uri": f"{url}/keys"}
        documents["/keys"] = {"keys": [_jwk(key.public_key().public_numbers())]}
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield Issuer(url, files.authority, key)
        finally:
            server.shutdown()


def _jwk(numbers: rsa.RSAPublicNumbers) -> dict[str, str]:
    modulus, exponent = (_encode(number.to_bytes((number.bit_length() + 7) // 8)) for number in (numbers.n, numbers.e))
    return {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": _KEY_ID, "n": modulus, "e": exponent}


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
