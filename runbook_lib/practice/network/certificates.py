"""Certificates of the platform's load balancer: a root, an intermediate, leaves, and every fault.

Keys are elliptic, made when they are first needed. The root is all that clients trust.
"""

from __future__ import annotations

import datetime
import ssl
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import trustme
    from cryptography import x509

ORGANIZATION = "MLOps Platform"
VALID_DAYS = 365.0
ISSUED_DAYS_AGO = 30.0
CRL_DAYS = 7.0


@dataclass(frozen=True)
class Certificate:
    """What a server presents: its certificate, then its issuers, and its key; all PEM."""

    chain: tuple[bytes, ...]
    key: bytes = field(repr=False)

    @property
    def leaf(self) -> x509.Certificate:
        from cryptography import x509

        return x509.load_pem_x509_certificate(self.chain[0])


class Authority:
    """A root that clients trust and the intermediate that issues, as public authorities have."""

    def __init__(self, organization: str = ORGANIZATION) -> None:
        import trustme

        self._root = trustme.CA(
            path_length=1, organization_name=organization, organization_unit_name="Root CA"
        )
        self._issuer = trustme.CA(
            parent_cert=self._root,
            path_length=0,
            organization_name=organization,
            organization_unit_name="Issuing CA 1",
        )

    @property
    def root(self) -> bytes:
        """The root's certificate, PEM."""
        return self._root.cert_pem.bytes()

    def issue(
        self, name: str, *, since_days: float = ISSUED_DAYS_AGO, days: float = VALID_DAYS
    ) -> Certificate:
        """A leaf for `name`, valid from `since_days` ago until `days` from now."""
        now = datetime.datetime.now(datetime.UTC)
        leaf: trustme.LeafCert = self._issuer.issue_cert(
            name,
            common_name=name,
            organization_name=ORGANIZATION,
            organization_unit_name="Load balancer",
            not_before=now - datetime.timedelta(days=since_days),
            not_after=now + datetime.timedelta(days=days),
        )
        chain = tuple(blob.bytes() for blob in leaf.cert_chain_pems)
        return Certificate(chain, leaf.private_key_pem.bytes())

    def revocations(self, revoked: list[Certificate]) -> bytes:
        """The issuer's revocation list (RFC 5280, PEM) with these certificates on it."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        key = serialization.load_pem_private_key(self._issuer.private_key_pem.bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        issuer = x509.load_pem_x509_certificate(self._issuer.cert_pem.bytes())
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(issuer.subject)
            .last_update(now - datetime.timedelta(hours=1))
            .next_update(now + datetime.timedelta(days=CRL_DAYS))
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), False
            )
            .add_extension(x509.CRLNumber(int(now.timestamp() * 1000)), False)
        )
        for certificate in revoked:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(certificate.leaf.serial_number)
                .revocation_date(now - datetime.timedelta(hours=1))
                .build()
            )
        return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def self_signed(name: str, *, organization: str = ORGANIZATION, san: str = "") -> Certificate:
    """A leaf that nobody but itself vouches for."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=ISSUED_DAYS_AGO))
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(san or name)]), False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return Certificate((certificate.public_bytes(serialization.Encoding.PEM),), private)


def controllers_fake() -> Certificate:
    """What ingress-nginx presents where no certificate is configured, in its own words."""
    return self_signed(
        "Kubernetes Ingress Controller Fake Certificate",
        organization="Acme Co",
        san="ingress.local",
    )


def context(certificate: Certificate) -> ssl.SSLContext:
    """A server's TLS 1.2 and 1.3 with this certificate."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    # The ssl module reads keys from files only.
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        file.write(b"".join((certificate.key, *certificate.chain)))
        file.flush()
        made.load_cert_chain(file.name)
    made.set_alpn_protocols(["http/1.1"])
    return made


def old_protocol(certificate: Certificate) -> ssl.SSLContext:
    """TLS 1.0 and 1.1 only. Raises ValueError where this OpenSSL has neither."""
    if not (ssl.HAS_TLSv1 and ssl.HAS_TLSv1_1):
        raise ValueError(f"{ssl.OPENSSL_VERSION} is built without TLS 1.0 and 1.1")
    made = context(certificate)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # old on purpose
        made.minimum_version = ssl.TLSVersion.TLSv1
        made.maximum_version = ssl.TLSVersion.TLSv1_1
    # OpenSSL 3 holds the hashes of these versions for insecure at any higher level.
    made.set_ciphers("DEFAULT:@SECLEVEL=0")
    return made


def no_shared_cipher(certificate: Certificate) -> ssl.SSLContext:
    """Ciphers for RSA keys only, where the key is elliptic: no client can agree."""
    made = context(certificate)
    made.maximum_version = ssl.TLSVersion.TLSv1_2
    made.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
    return made


Faulty = Callable[[Authority, str, float], ssl.SSLContext]
# Each makes what a host presents, from the authority, the host and a number of days.
FAULTS: dict[str, Faulty] = {
    "expired": lambda authority, host, days: context(
        authority.issue(host, since_days=days + VALID_DAYS, days=-days)
    ),
    "not_yet_valid": lambda authority, host, days: context(
        authority.issue(host, since_days=-days, days=days + VALID_DAYS)
    ),
    "expires_in": lambda authority, host, days: context(authority.issue(host, days=days)),
    "name_mismatch": lambda authority, host, _: context(authority.issue(f"staging.{host}")),
    "incomplete_chain": lambda authority, host, _: context(_leaf_only(authority.issue(host))),
    "self_signed": lambda _, host, __: context(self_signed(host)),
    "unknown_ca": lambda _, host, __: context(Authority("Elsewhere").issue(host)),
    "default_certificate": lambda _, __, ___: context(controllers_fake()),
    "old_protocol": lambda authority, host, _: old_protocol(authority.issue(host)),
    "no_shared_cipher": lambda authority, host, _: no_shared_cipher(authority.issue(host)),
}
# The days that a fault takes where none are given; the others take none.
DAYS = {"expired": 2.0, "not_yet_valid": 2.0, "expires_in": 5.0}


def _leaf_only(certificate: Certificate) -> Certificate:
    return Certificate(certificate.chain[:1], certificate.key)
