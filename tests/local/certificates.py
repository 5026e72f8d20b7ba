"""A certificate for a server on this machine, so that calls to it are encrypted as calls to AWS are."""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# As the certificates of DynamoDB have it: RSA of 2,048 bits.
_BITS = 2048
_NAME = "tests of this machine"


@dataclass(frozen=True)
class Certificates:
    """PEM files.

    Attributes
    ----------
    authority
        Who signed the certificate, for clients to trust.
    certificate, key
        Of the server.
    """

    authority: Path
    certificate: Path
    key: Path


def make(folder: Path, names: tuple[str, ...] = ("localhost",)) -> Certificates:
    """Write a new authority and a certificate of its own into a folder, both good for a day.

    Parameters
    ----------
    names
        Of the server; localhost has the address 127.0.0.1 as well.
    """
    authority_key, key = (rsa.generate_private_key(public_exponent=65537, key_size=_BITS) for _ in range(2))
    authority = _signed(_NAME, authority_key, authority_key, _authority_extensions(authority_key))
    certificate = _signed(names[0], key, authority_key, _server_extensions(authority_key, names))
    files = Certificates(folder / "authority.pem", folder / "server.pem", folder / "server.key")
    files.authority.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


def _signed(
    name: str, key: rsa.RSAPrivateKey, issuer_key: rsa.RSAPrivateKey, extensions: list[tuple[x509.ExtensionType, bool]]
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(_named(_NAME))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(issuer_key, hashes.SHA256())


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


# Python 3.13 verifies strictly: each of these must be there.
def _authority_extensions(key: rsa.RSAPrivateKey) -> list[tuple[x509.ExtensionType, bool]]:
    return [
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (_usage(signs_certificates=True), True),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
    ]


def _server_extensions(
    authority_key: rsa.RSAPrivateKey, names: tuple[str, ...]
) -> list[tuple[x509.ExtensionType, bool]]:
    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    if "localhost" in names:
        alternatives.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    return [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_usage(signs_certificates=False), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectAlternativeName(alternatives), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), False),
    ]


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
