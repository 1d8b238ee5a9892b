"""Our own certificate authority and a certificate for each role, made at first start and kept.

The common name is the role, which is what runtime/rpc.py authorises by; the subject alternative name is the same for
all, because addresses change and the CA does not. Every key is EC P-256. A key file is 0600 and its role's own.
"""

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cli.refusal import Refusal
from cli.topology import ROLES, uid_of_role
from runtime.clock import Clock
from runtime.config import SERVER_NAME
from runtime.durable import Disk

# Nobody but our own services trusts this CA, and nobody renews by hand in time: long, but a role's ends before the CA.
CA_LIFETIME = timedelta(days=20 * 365)
ROLE_LIFETIME = timedelta(days=10 * 365)
# `certs` and every start make a new certificate when less than this is left.
RENEW_BEFORE = timedelta(days=90)
# A clock that was set back a little must not make a new certificate invalid.
BACKDATED = timedelta(days=1)
# Who has the CA's key when root makes it: no process runs as this uid, and a spawner, which is uid 0 without the right
# to read others' files, cannot read it.
AUTHORITY_UID = 7_797


@dataclass(frozen=True, slots=True)
class Authority:
    """The CA's certificate and key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def ensure(tls_dir: str, clock: Clock, renew: bool = False) -> list[str]:
    """Makes what is missing or soon expires below `tls_dir`; returns the roles that have a new certificate.

    `renew` makes every role's key and certificate anew under the same CA. As root the key files are given to the
    roles' uids, otherwise all is the invoking user's.
    """
    now = datetime.fromtimestamp(clock.wall_ms() // 1000, UTC)
    os.makedirs(tls_dir, mode=0o755, exist_ok=True)
    authority = _authority(tls_dir, now)
    made = []
    for role in ROLES:
        directory = os.path.join(tls_dir, role)
        os.makedirs(directory, mode=0o755, exist_ok=True)
        if renew or not _is_good(directory, authority, now):
            _issue(directory, role, authority, now)
            made.append(role)
        _give(directory, role)
    return made


def _authority(tls_dir: str, now: datetime) -> Authority:
    certificate_path = os.path.join(tls_dir, "ca.pem")
    key_path = os.path.join(tls_dir, "ca-key.pem")
    if os.path.exists(certificate_path):
        certificate, key = _read_pair(certificate_path, key_path)
        if certificate.not_valid_after_utc < now + RENEW_BEFORE:
            raise Refusal(f"{certificate_path}: the CA expires soon: move {tls_dir} away and run `bin/seapost certs`")
        return Authority(certificate, key)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "seapost ca")])
    certificate = (
        _builder(name, name, key.public_key(), now, CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    # The certificate last: where it stands, its key stands.
    Disk().replace_file(key_path, _private_pem(key), 0o600)
    if os.geteuid() == 0:
        os.chown(key_path, AUTHORITY_UID, AUTHORITY_UID)
    Disk().replace_file(certificate_path, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    return Authority(certificate, key)


def _read_pair(certificate_path: str, key_path: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        with open(certificate_path, "rb") as file:
            certificate = x509.load_pem_x509_certificate(file.read())
        with open(key_path, "rb") as file:
            key = serialization.load_pem_private_key(file.read(), None)
    except OSError as error:
        raise Refusal(
            f"{error.filename}: {error.strerror}: run as the user who made it, or move the directory away"
        ) from error
    except ValueError as error:
        raise Refusal(
            f"{certificate_path} or {key_path}: not PEM: move both away and run `bin/seapost certs`"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Refusal(f"{key_path}: not an elliptic curve key: move it away and run `bin/seapost certs --renew`")
    return certificate, key


def _is_good(directory: str, authority: Authority, now: datetime) -> bool:
    try:
        certificate, key = _read_pair(os.path.join(directory, "certificate.pem"), os.path.join(directory, "key.pem"))
        certificate.verify_directly_issued_by(authority.certificate)
    except (Refusal, InvalidSignature, ValueError, TypeError):
        return False
    belongs = certificate.public_key() == key.public_key()
    return belongs and certificate.not_valid_after_utc >= now + RENEW_BEFORE


def _issue(directory: str, role: str, authority: Authority, now: datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, role)])
    issuer = authority.key.public_key()
    certificate = (
        _builder(name, authority.certificate.subject, key.public_key(), now, ROLE_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(SERVER_NAME)]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    Disk().replace_file(os.path.join(directory, "key.pem"), _private_pem(key), 0o600)
    Disk().replace_file(
        os.path.join(directory, "certificate.pem"), certificate.public_bytes(serialization.Encoding.PEM), 0o644
    )


def _give(directory: str, role: str) -> None:
    if os.geteuid() == 0:
        uid = uid_of_role(role)
        os.chown(os.path.join(directory, "key.pem"), uid, uid)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + lifetime)
    )


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
