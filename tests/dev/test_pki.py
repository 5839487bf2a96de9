import ssl
import stat
from datetime import UTC, datetime
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store

from tunnel_dev import pki

NOW = datetime(2026, 1, 2, tzinfo=UTC)
SERVER = pki.api_server_identity("127.0.0.1", "10.96.0.1")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return pki.ensure(tmp_path_factory.mktemp("tree") / "pki", (SERVER, pki.ADMIN), now=NOW)


def load(path):
    return x509.load_pem_x509_certificate(path.read_bytes())


def policy(made):
    return PolicyBuilder().store(Store([load(made.ca)])).time(NOW)


@pytest.mark.parametrize("host", ["kubernetes.default.svc", "localhost", "127.0.0.1", "10.96.0.1"])
def test_the_api_server_is_trusted_under_each_of_its_names(made, host):
    certificate = load(made.certificate("apiserver"))
    try:
        subject = x509.IPAddress(ip_address(host))
    except ValueError:
        subject = x509.DNSName(host)

    assert policy(made).build_server_verifier(subject).verify(certificate, [])


def test_the_administrator_is_a_client_in_the_masters_group(made):
    certificate = load(made.certificate("admin"))
    names = {attribute.oid: attribute.value for attribute in certificate.subject}
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value

    assert names[NameOID.COMMON_NAME] == "admin"
    assert names[NameOID.ORGANIZATION_NAME] == "system:masters"
    assert list(usages) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate.verify_directly_issued_by(load(made.ca))


def test_python_loads_them_as_a_client_and_as_a_server(made):
    context = ssl.create_default_context(cafile=made.ca)
    for name in ("admin", "apiserver"):
        context.load_cert_chain(made.certificate(name), made.key(name))


def test_each_certificate_names_its_authoritys_key(made):
    authority = load(made.ca).extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    for name in ("admin", "apiserver"):
        extensions = load(made.certificate(name)).extensions
        named = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
        assert named.key_identifier == authority.digest


def test_only_the_owner_reads_the_keys(made):
    for key in (made.ca_key, made.service_account_key, made.key("admin")):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_it_is_made_once_and_after_an_interruption_again(made, tmp_path):
    before = made.ca.read_bytes()
    pki.ensure(made.folder, (SERVER,))
    assert made.ca.read_bytes() == before

    partial = tmp_path / ".pki.partial"
    partial.mkdir()
    (partial / "ca.crt").write_text("half of")
    again = pki.ensure(tmp_path / "pki", (SERVER,), now=NOW)

    assert load(again.ca)
    assert not partial.exists()
