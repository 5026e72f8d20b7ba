"""An issuer of JSON Web Tokens on this machine: its discovery document and keys over TLS, and what it signs."""

import base64
import datetime as dt
import ipaddress
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

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

_HOST = "127.0.0.1"
_KEY_ID = "key-1"
_SECONDS = 300


@dataclass(frozen=True)
class Issuer:
    """Who signs tokens.

    Attributes
    ----------
    url
        The claim ``iss``, and where the keys are found.
    certificate
        File of what its TLS certificate is trusted by.
    """

    url: str
    certificate: Path
    _key: rsa.RSAPrivateKey

    def token(self, **claims: Any) -> str:
        """A signed token that is valid for some minutes, but for what the claims say."""
        now = int(time.time())
        parts = ({"alg": "RS256", "typ": "JWT", "kid": _KEY_ID}, {"iss": self.url, "exp": now + _SECONDS, **claims})
        signed = ".".join(_encode(json.dumps(part).encode()) for part in parts)
        return f"{signed}.{_encode(self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


@contextmanager
def running(folder: Path) -> Iterator[Issuer]:
    """Serve the documents of an issuer whose files are in the folder."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    certificate, private_key = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(_certificate(key).public_bytes(serialization.Encoding.PEM))
    private_key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, private_key)

    documents: dict[str, Any] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            document = documents.get(self.path)
            self.send_response(200 if document else 404)
            self.end_headers()
            self.wfile.write(json.dumps(document).encode())

        def log_message(self, *_: object) -> None:
            """Nothing: the test says what is wrong."""

    with ThreadingHTTPServer((_HOST, 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        url = f"https://{_HOST}:{server.server_port}"
        documents["/.well-known/openid-configuration"] = {"issuer": url, "jwks_uri": f"{url}/keys"}
        documents["/keys"] = {"keys": [_jwk(key.public_key().public_numbers())]}
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield Issuer(url, certificate, key)
        finally:
            server.shutdown()


def _certificate(key: rsa.RSAPrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _HOST)])
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(_HOST))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )


def _jwk(numbers: rsa.RSAPublicNumbers) -> dict[str, str]:
    modulus, exponent = (_encode(number.to_bytes((number.bit_length() + 7) // 8)) for number in (numbers.n, numbers.e))
    return {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": _KEY_ID, "n": modulus, "e": exponent}


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
