"""The edge's certificate: read and checked, watched for its renewal, or made here for trying TLS out."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

MAX_FILE_BYTES = 24 * 1024
"""Of the chain and of the key each: HAProxy takes a renewed certificate in one buffer."""

WARN_BEFORE_END = timedelta(days=14)
SELF_SIGNED_FOR = timedelta(days=365)
RENEW_SELF_SIGNED_BEFORE = timedelta(days=30)

SELF_SIGNED_CERT = "self-signed.pem"
SELF_SIGNED_KEY = "self-signed.key"

_DNS_NAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*")


class CertificateError(ValueError):
    """A certificate or key that cannot be used; the message names the file and what to do about it."""


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Where the chain, the server's own certificate first, and its private key lie; may be the same file."""

    cert: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Certificate:
    """`pem` is chain and key in one, as HAProxy reads them: for its eyes only."""

    pem: bytes = field(repr=False)
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime

    def complaint(self, now: datetime) -> str | None:
        """What is wrong with its dates, or will be soon."""
        if now < self.not_before:
            return f"the certificate is not valid before {self.not_before:%Y-%m-%d %H:%M} UTC"
        if now >= self.not_after:
            return f"the certificate has expired on {self.not_after:%Y-%m-%d %H:%M} UTC: clients refuse it"
        if now >= self.not_after - WARN_BEFORE_END:
            return f"the certificate expires on {self.not_after:%Y-%m-%d %H:%M} UTC"
        return None


def read_certificate(files: CertificateFiles) -> Certificate:
    """Read chain and key and see that they belong together. Raises `CertificateError`."""
    chain = _read_chain(files.cert)
    key = _read_key(files.key)
    fitting = [number for number, item in enumerate(chain) if item.public_key() == key.public_key()]
    if not fitting:
        raise CertificateError(f"the key in {files.key} does not belong to the certificate in {files.cert}")
    if fitting[0] != 0:
        raise CertificateError(f"{files.cert}: the server's own certificate must come first in the chain")
    parts = [item.public_bytes(serialization.Encoding.PEM) for item in chain]
    return Certificate(
        pem=b"".join([*parts, _key_pem(key)]),
        names=_names(chain[0]),
        not_before=chain[0].not_valid_before_utc,
        not_after=chain[0].not_valid_after_utc,
    )


def _read_chain(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_read(path, "certificate"))
    except ValueError as error:
        if isinstance(error, CertificateError):
            raise
        raise CertificateError(f"{path} holds no certificate in PEM format") from error


def _read_key(path: Path) -> PrivateKeyTypes:
    try:
        return serialization.load_pem_private_key(_read(path, "key"), password=None)
    except TypeError as error:
        raise CertificateError(
            f"the key in {path} is encrypted, and nobody is there to type its password: "
            "`openssl pkey -in KEY -out PLAIN_KEY` decrypts it"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        if isinstance(error, CertificateError):
            raise
        raise CertificateError(f"{path} holds no private key in PEM format") from error


def _read(path: Path, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise CertificateError(f"the {what} {path} cannot be read: {error.strerror or error}") from error
    if len(data) > MAX_FILE_BYTES:
        raise CertificateError(f"{path} has more than {MAX_FILE_BYTES // 1024} KiB: no {what} is that long")
    return data


def _key_pem(key: PrivateKeyTypes) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return tuple(str(name.value) for name in names if isinstance(name, x509.DNSName | x509.IPAddress))


class CertificateWatch:
    """Tells when the files have changed and then stayed the same for one look: a renewal writes two files."""

    def __init__(self, files: CertificateFiles) -> None:
        self._files = files
        self._known = self._last = self._look()

    def changed(self) -> bool:
        """True once for each change; call it every few seconds."""
        now = self._look()
        settled = now == self._last
        self._last = now
        if not settled or now == self._known:
            return False
        self._known = now
        return True

    def _look(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_state(path) for path in (self._files.cert, self._files.key))


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def self_signed(folder: Path, host: str = "") -> CertificateFiles:
    """A certificate for this machine's names and `host`, made in `folder` unless a good one is there.

    The key (mode 0600) stays the same once made. Raises `CertificateError`.
    """
    files = CertificateFiles(folder / SELF_SIGNED_CERT, folder / SELF_SIGNED_KEY)
    names = _own_names(host)
    with suppress(CertificateError):
        current = read_certificate(files)
        enough = datetime.now(UTC) < current.not_after - RENEW_SELF_SIGNED_BEFORE
        if enough and set(names) <= set(current.names):
            return files
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not files.key.exists():
            _write(files.key, _key_pem(ec.generate_private_key(ec.SECP256R1())), replace=False)
        _write(files.cert, _sign(_read_key(files.key), names), replace=True)
    except OSError as error:
        raise CertificateError(f"cannot keep a certificate in {folder}: {error.strerror or error}") from error
    return files


def _own_names(host: str) -> tuple[str, ...]:
    """Names and addresses by which clients may call this machine, without wildcards."""
    names = ["localhost", "127.0.0.1", "::1", socket.gethostname().lower()]
    with suppress(ValueError):
        host = "" if ipaddress.ip_address(host).is_unspecified else str(ipaddress.ip_address(host))
    names.append(host.lower())
    return tuple(name for name in dict.fromkeys(names) if _general_name(name) is not None)


def _general_name(name: str) -> x509.GeneralName | None:
    with suppress(ValueError):
        return x509.IPAddress(ipaddress.ip_address(name))
    return x509.DNSName(name) if _DNS_NAME.fullmatch(name) else None


def _sign(key: PrivateKeyTypes, names: Iterable[str]) -> bytes:
    """A server's certificate, no authority's: trusting it is trusting this key alone."""
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError("the key of the self-signed certificate is not ours: remove it")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Sotto, self-signed")])
    now = datetime.now(UTC)
    key_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + SELF_SIGNED_FOR)
        .add_extension(x509.SubjectAlternativeName(filter(None, map(_general_name, names))), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(key_id, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id), critical=False)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _write(path: Path, data: bytes, *, replace: bool) -> None:
    """All or nothing, mode 0600. Without `replace` a file that another process has put there stays."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        if replace:
            os.replace(temporary, path)
        else:
            with suppress(FileExistsError):
                os.link(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
