"""The simulation's own certificate authority and the certificate of its servers."""

import datetime as dt
import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .errors import StateError
from .state import PUBLIC, write_atomically

CA_FILE = "ca.pem"
_CA_KEY_FILE = "ca-key.pem"
_SERVER_FILE = "server.pem"
_SERVER_KEY_FILE = "server-key.pem"

_CA_LIFETIME = dt.timedelta(days=3650)
# Clients refuse server certificates that live longer than this (CA/Browser Forum, and macOS with it).
_SERVER_LIFETIME = dt.timedelta(days=365)
_CLOCK_SKEW = dt.timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class _Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def server_context(directory: Path, names: Sequence[str], now: dt.datetime) -> ssl.SSLContext:
    """Return the TLS settings of all planes, with a fresh certificate for `names`.

    The authority is made once for a state directory, so that clients may trust its file for good.
    """
    authority = _load_authority(directory) or _create_authority(directory, now)
    certificate, key = _issue(authority, names, now)
    write_atomically(directory / _SERVER_KEY_FILE, _private_pem(key))
    write_atomically(directory / _SERVER_FILE, _pem(certificate), mode=PUBLIC)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # azure-iot-device offers TLS 1.2 and nothing newer.
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(*server_files(directory))
    return context


def server_files(directory: Path) -> tuple[Path, Path]:
    """Return where the servers' certificate and its key are."""
    return directory / _SERVER_FILE, directory / _SERVER_KEY_FILE


def _load_authority(directory: Path) -> _Authority | None:
    certificate_file, key_file = directory / CA_FILE, directory / _CA_KEY_FILE
    if not (certificate_file.exists() and key_file.exists()):
        return None
    try:
        certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
        key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
    except ValueError:
        raise StateError(f"The authority in {directory} can not be read.") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise StateError(f"The authority's key in {directory} is not an elliptic-curve key.")
    return _Authority(certificate, key)


def _create_authority(directory: Path, now: dt.datetime) -> _Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Simulated Azure, for tests only")])
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        _builder(name, name, key, now, _CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_atomically(directory / _CA_KEY_FILE, _private_pem(key))
    write_atomically(directory / CA_FILE, _pem(certificate), mode=PUBLIC)
    return _Authority(certificate, key)


def _issue(
    authority: _Authority, names: Sequence[str], now: dt.datetime
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "simulated-azure")])
    issuer = authority.certificate.subject
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    certificate = (
        _builder(subject, issuer, key, now, _SERVER_LIFETIME)
        .add_extension(x509.SubjectAlternativeName(_general_names(names)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        # Python 3.13 refuses a chain without this one (VERIFY_X509_STRICT).
        .add_extension(issuer_key, critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    return certificate, key


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: dt.datetime,
    lifetime: dt.timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + lifetime)
    )


def _general_names(names: Sequence[str]) -> list[x509.GeneralName]:
    return [_general_name(name) for name in names]


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _private_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
