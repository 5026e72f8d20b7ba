"""TLS certificates for servers on this machine, so that calls to them are encrypted like calls to AWS."""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_KEY_BITS = 2048  # like DynamoDB's
_AUTHORITY_NAME = "tests of this machine"
_UNUSED_PURPOSES = (
    *("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("crl_sign", "encipher_only", "decipher_only"),
)


@dataclass(frozen=True)
class Certificates:
    """PEM files: the certificate of the authority, which clients trust, and certificate and key of the server."""

    authority: Path
    certificate: Path
    key: Path


def make(folder: Path, names: tuple[str, ...] = ("localhost",)) -> Certificates:
    """Make an authority and a server certificate that it signed, both valid for a day, in a folder.

    Parameters
    ----------
    names
        DNS names of the server; with localhost, the certificate is also valid for 127.0.0.1.
    """
    authority_key, key = (rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS) for _ in range(2))
    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    if "localhost" in names:
        alternatives.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    # From Python 3.13 on, clients require each of these extensions; True marks a critical one.
    authority_extensions: dict[x509.ExtensionType, bool] = {
        x509.BasicConstraints(ca=True, path_length=0): True,
        _key_usage(signs_certificates=True): True,
        x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()): False,
    }
    server_extensions: dict[x509.ExtensionType, bool] = {
        x509.BasicConstraints(ca=False, path_length=None): True,
        _key_usage(signs_certificates=False): True,
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]): False,
        x509.SubjectAlternativeName(alternatives): False,
        x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()): False,
    }
    authority = _signed(_AUTHORITY_NAME, authority_key, authority_key, authority_extensions)
    certificate = _signed(names[0], key, authority_key, server_extensions)
    files = Certificates(folder / "authority.pem", folder / "server.pem", folder / "server.key")
    files.authority.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


def _signed(
    name: str, key: rsa.RSAPrivateKey, authority_key: rsa.RSAPrivateKey, extensions: dict[x509.ExtensionType, bool]
) -> x509.Certificate:
    subject, issuer = (
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]) for common_name in (name, _AUTHORITY_NAME)
    )
    now = datetime.now(UTC)
    serial_number = x509.random_serial_number()
    valid_from, valid_until = now - timedelta(hours=1), now + timedelta(days=1)
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), serial_number, valid_from, valid_until)
    for extension, critical in extensions.items():
        builder = builder.add_extension(extension, critical)
    return builder.sign(authority_key, hashes.SHA256())


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        **dict.fromkeys(_UNUSED_PURPOSES, False),
    )
