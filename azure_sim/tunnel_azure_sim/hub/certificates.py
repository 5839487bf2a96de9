"""Whether the certificate that a device shows is its own: by thumbprint, or by who signed it.

Documentation "Authenticate identities with X.509 certificates": of a device with certificate authority the
common name is its id, and its chain ends at an authority that the hub was given. Of a module the common name
is `device/module` (documentation "Get started with IoT Hub module identities and module twins").
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID
from OpenSSL import crypto

from ..errors import ConfigError
from .errors import Code, HubError

Authorities = tuple[x509.Certificate, ...]


def read_authorities(files: Sequence[Path]) -> Authorities:
    """Read the certificates of authorities that a hub is given. Raises ConfigError."""
    found: list[x509.Certificate] = []
    for file in files:
        try:
            found += x509.load_pem_x509_certificates(file.read_bytes())
        except (OSError, ValueError):
            raise ConfigError(f"{file} holds no certificate of an authority.") from None
    return tuple(found)


def check_thumbprint(expected: tuple[str, str], shown: Sequence[bytes], now: datetime) -> None:
    """Compare thumbprints; expiry counts too (documentation "401003 IotHubUnauthorized error")."""
    leaf = _leaf(shown)
    thumbprints = {
        hashlib.sha1(shown[0], usedforsecurity=False).hexdigest().upper(),
        hashlib.sha256(shown[0]).hexdigest().upper(),
    }
    if thumbprints.isdisjoint(expected):
        raise HubError(Code.IotHubUnauthorized, "Thumbprint does not match configuration.")
    if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
        raise HubError(Code.IotHubUnauthorized, "The certificate is not valid now.")


def check_chain(authorities: Authorities, shown: Sequence[bytes], name: str, now: datetime) -> None:
    """Follow the chain from the certificate of a device or module to one of the hub's authorities."""
    leaf = _leaf(shown)
    names = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if [one.value for one in names] != [name]:
        raise HubError(
            Code.IotHubUnauthorized, "The certificate's common name is not that of the identity."
        )
    store = crypto.X509Store()
    # An authority may be an intermediate one, whose own signer the hub was not given.
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
    store.set_time(now.replace(tzinfo=None))
    for authority in authorities:
        store.add_cert(crypto.X509.from_cryptography(authority))
    try:
        between = [crypto.X509.from_cryptography(_read(one)) for one in shown[1:]]
        certificate = crypto.X509.from_cryptography(leaf)
        crypto.X509StoreContext(store, certificate, between).verify_certificate()
    except (crypto.X509StoreContextError, crypto.Error):
        raise HubError(
            Code.IotHubUnauthorized, "No authority of the hub has signed the certificate."
        ) from None


def _leaf(shown: Sequence[bytes]) -> x509.Certificate:
    if not shown:
        raise HubError(Code.IotHubUnauthorized, "The device showed no certificate.")
    return _read(shown[0])


def _read(der: bytes) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(der)
    except ValueError:
        raise HubError(Code.IotHubUnauthorized, "The certificate can not be read.") from None
