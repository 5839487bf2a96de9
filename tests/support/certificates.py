"""A throw-away certificate authority and a certificate for this machine's loopback names."""

import datetime as dt
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Certificates:
    authority: str
    server: ssl.SSLContext
    client: ssl.SSLContext


def make_certificates(folder: Path) -> Certificates:
    now = dt.datetime.now(dt.UTC)
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test server")])

    def builder(subject, public_key):
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca_name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(minutes=5))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), False
            )
        )

    authority = (
        builder(ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .add_extension(
            x509.KeyUsage(False, False, False, False, False, True, True, False, False), True
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), False)
        .sign(ca_key, hashes.SHA256())
    )
    names = x509.SubjectAlternativeName(
        [
            x509.DNSName("localhost"),
            x509.DNSName("relay.test"),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
            x509.IPAddress(ipaddress.ip_address("::1")),
        ]
    )
    certificate = (
        builder(name, key.public_key())
        .add_extension(names, False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    chain = folder / "server.pem"
    chain.write_bytes(
        certificate.public_bytes(pem)
        + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(chain)
    text = authority.public_bytes(pem).decode()
    return Certificates(text, server, ssl.create_default_context(cadata=text))


def make_self_signed(folder: Path, name: str, *, days: int = 1) -> tuple[Path, Path]:
    """Write a certificate that a device signed itself, and its key; return both files."""
    return make_signed(folder, name, None, days=days)


def make_signed(
    folder: Path, name: str, issuer: tuple[Path, Path] | None, *, days: int = 1, ca: bool = False
) -> tuple[Path, Path]:
    """Write a certificate, those of its issuers behind it, and its key; without an issuer it signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    signer, above, signing_key = None, b"", key
    if issuer is not None:
        above = issuer[0].read_bytes()
        signer = x509.load_pem_x509_certificate(above)
        signing_key = serialization.load_pem_private_key(issuer[1].read_bytes(), None)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if signer is None else signer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=10))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), True)
        .sign(signing_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    stem = name.replace("/", "-")
    certificate_file, key_file = folder / f"{stem}.pem", folder / f"{stem}-key.pem"
    certificate_file.write_bytes(certificate.public_bytes(pem) + above)
    key_file.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_file, key_file


def thumbprint(certificate_file: Path, algorithm: hashes.HashAlgorithm) -> str:
    """Return a certificate's thumbprint in hexadecimal digits."""
    certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
    return certificate.fingerprint(algorithm).hex()
