"""Keys and certificates of a cluster that lives for hours: one authority signs them all.

ECDSA keys, since making one takes no time; only the service accounts' key is RSA, because those who
verify their tokens outside of the cluster (Azure's workload identity federation) accept RS256 alone.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .paths import write_atomically

LIFETIME = timedelta(days=365)
CLOCK_SKEW = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a certificate says its bearer is: to Kubernetes a user and groups, to TLS also hosts."""

    file: str
    user: str
    group: str | None = None
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pki:
    """A folder of finished certificates and keys."""

    folder: Path

    @property
    def ca(self) -> Path:
        """The authority's certificate."""
        return self.folder / "ca.crt"

    @property
    def ca_key(self) -> Path:
        """The authority's key, with which the controller manager signs requests."""
        return self.folder / "ca.key"

    @property
    def service_account_key(self) -> Path:
        """The private key that signs service account tokens; it verifies them too."""
        return self.folder / "service-account.key"

    def certificate(self, file: str) -> Path:
        """The certificate of the identity with this file name."""
        return self.folder / f"{file}.crt"

    def key(self, file: str) -> Path:
        """The private key of the identity with this file name."""
        return self.folder / f"{file}.key"


def api_server_identity(*addresses: str) -> Identity:
    """Name the API server as clients inside and outside of the cluster do."""
    names = (
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    )
    return Identity(file="apiserver", user="kube-apiserver", hosts=(*names, *addresses))


ADMIN = Identity(file="admin", user="admin", group="system:masters")
KUBELET_CLIENT = Identity(
    file="kubelet-client", user="kube-apiserver-kubelet-client", group="system:masters"
)


def ensure(folder: Path, identities: Sequence[Identity], *, now: datetime | None = None) -> Pki:
    """Make the folder unless it is there; it appears whole, or not at all."""
    if not folder.is_dir():
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        _write(Pki(partial), identities, now or datetime.now(UTC))
        partial.rename(folder)
    return Pki(folder)


def _write(pki: Pki, identities: Sequence[Identity], now: datetime) -> None:
    authority = _make_authority(now)
    _write_certificate(pki.ca, authority.certificate)
    _write_key(pki.ca_key, authority.key)
    for identity in identities:
        key = ec.generate_private_key(ec.SECP256R1())
        _write_certificate(pki.certificate(identity.file), authority.certify(identity, key, now))
        _write_key(pki.key(identity.file), key)
    _write_key(pki.service_account_key, rsa.generate_private_key(65537, 2048))


@dataclass(frozen=True, slots=True)
class _Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def certify(
        self, identity: Identity, key: ec.EllipticCurvePrivateKey, now: datetime
    ) -> x509.Certificate:
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, identity.user)]
        if identity.group:
            attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, identity.group))
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if identity.hosts:
            usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
        # Python refuses, from 3.13 on, a certificate that does not identify its authority's key.
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = (
            _builder(x509.Name(attributes), self.certificate.subject, key, now)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(issuer, critical=False)
        )
        if identity.hosts:
            names = x509.SubjectAlternativeName([_general_name(host) for host in identity.hosts])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self.key, hashes.SHA256())


def _make_authority(now: datetime) -> _Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "edge-tunnels development CA")])
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        _builder(name, name, key, now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _Authority(certificate, key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + LIFETIME)
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write_certificate(path: Path, certificate: x509.Certificate) -> None:
    write_atomically(path, certificate.public_bytes(serialization.Encoding.PEM))


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    write_atomically(path, pem, mode=0o600)
