import os
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from serve_app.launch import certificates
from serve_app.launch.certificates import (
    Certificate,
    CertificateError,
    CertificateFiles,
    CertificateWatch,
    read_certificate,
    self_signed,
)

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def make(folder: Path, host: str = "") -> CertificateFiles:
    folder.mkdir(exist_ok=True)
    return self_signed(folder, host)


def test_a_self_signed_certificate_names_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates.socket, "gethostname", lambda: "Ward-3")
    files = self_signed(tmp_path / "deep" / "tls", "192.0.2.7")
    read = read_certificate(files)
    assert read.names == ("localhost", "127.0.0.1", "::1", "ward-3", "192.0.2.7")
    assert stat.S_IMODE(files.key.stat().st_mode) == 0o600
    assert stat.S_IMODE(files.key.parent.stat().st_mode) == 0o700
    assert sorted(path.name for path in files.key.parent.iterdir()) == ["self-signed.key", "self-signed.pem"]
    assert "PRIVATE" not in files.cert.read_text()
    assert "PRIVATE" not in repr(read)
    assert read.complaint(datetime.now(UTC)) is None


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "not_a_name!", "localhost"])
def test_what_is_no_name_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setattr(certificates.socket, "gethostname", lambda: "under_scored")
    assert read_certificate(self_signed(tmp_path, host)).names == ("localhost", "127.0.0.1", "::1")


def test_clients_that_look_closely_accept_it(tmp_path: Path) -> None:
    """The strict flag is what Python 3.13 sets by default."""
    files = self_signed(tmp_path)
    client = ssl.create_default_context(cafile=str(files.cert))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(files.cert, files.key)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname="127.0.0.1"),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(3):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert ends[0].version() == "TLSv1.3"


def test_a_good_one_is_kept_and_the_key_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read_certificate(self_signed(tmp_path))
    assert read_certificate(self_signed(tmp_path)).pem == first.pem
    other_host = read_certificate(self_signed(tmp_path, "192.0.2.7"))
    assert other_host.pem != first.pem
    assert read_certificate(self_signed(tmp_path)).pem == other_host.pem, "it names all that is asked for"
    monkeypatch.setattr(certificates, "RENEW_SELF_SIGNED_BEFORE", timedelta(days=366))
    late = read_certificate(self_signed(tmp_path, "192.0.2.7"))
    assert late.pem != other_host.pem
    assert [key_of(item) for item in (first, other_host, late)] == [key_of(first)] * 3


def key_of(certificate: Certificate) -> bytes:
    return certificate.pem[certificate.pem.index(b"-----BEGIN PRIVATE KEY") :]


def test_two_servers_that_start_at_once_use_one_key(tmp_path: Path) -> None:
    """The second to write finds the first one's key in place."""
    key = tmp_path / "a.key"
    certificates._write(key, b"first", replace=False)
    certificates._write(key, b"second", replace=False)
    assert key.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [key]


def test_a_key_that_is_not_ours_is_not_overwritten(tmp_path: Path) -> None:
    foreign = pem(rsa.generate_private_key(65537, 2048), serialization.NoEncryption())
    (tmp_path / "self-signed.key").write_bytes(foreign)
    with pytest.raises(CertificateError, match="not ours: remove it"):
        self_signed(tmp_path)
    assert (tmp_path / "self-signed.key").read_bytes() == foreign


def pem(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, how: serialization.KeySerializationEncryption
) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)


def test_chain_and_key_come_out_as_one(tmp_path: Path) -> None:
    own, issuer = make(tmp_path / "own"), make(tmp_path / "issuer")
    chain = tmp_path / "chain.pem"
    chain.write_bytes(b"some words\n" + own.cert.read_bytes() + b"\n\n" + issuer.cert.read_bytes())
    read = read_certificate(CertificateFiles(chain, own.key))
    assert read.pem.count(b"BEGIN CERTIFICATE") == 2
    assert read.pem.count(b"PRIVATE KEY") == 2
    assert b"\n\n" not in read.pem, "an empty line ends a payload on HAProxy's admin socket"
    assert x509.load_pem_x509_certificate(read.pem) == x509.load_pem_x509_certificate(own.cert.read_bytes())


def test_one_file_may_hold_both(tmp_path: Path) -> None:
    own = make(tmp_path)
    both = tmp_path / "both.pem"
    both.write_bytes(own.key.read_bytes() + own.cert.read_bytes())
    assert read_certificate(CertificateFiles(both, both)).pem == read_certificate(own).pem


def test_the_wrong_key_is_named(tmp_path: Path) -> None:
    own, other = make(tmp_path / "own"), make(tmp_path / "other")
    with pytest.raises(CertificateError, match=r"other/self-signed.key does not belong to .*own"):
        read_certificate(CertificateFiles(own.cert, other.key))


def test_the_own_certificate_comes_first(tmp_path: Path) -> None:
    own, other = make(tmp_path / "own"), make(tmp_path / "other")
    chain = tmp_path / "chain.pem"
    chain.write_bytes(other.cert.read_bytes() + own.cert.read_bytes())
    with pytest.raises(CertificateError, match="must come first"):
        read_certificate(CertificateFiles(chain, own.key))


@pytest.mark.parametrize("part", ["cert", "key"])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read: No such file"),
        (b"", "in PEM format"),
        (b"\x30\x82\x01\x0a", "in PEM format"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "in PEM format"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "in PEM format"),
        (b"x" * 30_000, "more than 24 KiB"),
    ],
)
def test_files_that_are_none(tmp_path: Path, part: str, content: bytes | None, says: str) -> None:
    own = make(tmp_path)
    bad = tmp_path / "bad"
    if content is not None:
        bad.write_bytes(content)
    files = CertificateFiles(bad if part == "cert" else own.cert, bad if part == "key" else own.key)
    with pytest.raises(CertificateError, match=says) as caught:
        read_certificate(files)
    assert str(bad) in str(caught.value)


def test_an_encrypted_key_cannot_be_used(tmp_path: Path) -> None:
    own = make(tmp_path)
    own.key.write_bytes(
        pem(ec.generate_private_key(ec.SECP256R1()), serialization.BestAvailableEncryption(b"secret"))
    )
    with pytest.raises(CertificateError, match="is encrypted"):
        read_certificate(own)


@pytest.mark.parametrize(
    ("days", "says"), [(-1, "not valid before"), (10, None), (80, "expires on"), (100, "has expired")]
)
def test_dates_are_complained_of(days: int, says: str | None) -> None:
    certificate = Certificate(b"", (), NOW, NOW + timedelta(days=90))
    complaint = certificate.complaint(NOW + timedelta(days=days))
    assert complaint is None if says is None else complaint is not None and says in complaint


def test_a_change_is_told_once_and_when_it_has_settled(tmp_path: Path) -> None:
    files = CertificateFiles(tmp_path / "cert", tmp_path / "key")
    for path in (files.cert, files.key):
        path.write_text("old")
    watch = CertificateWatch(files)
    assert [watch.changed() for _ in range(3)] == [False, False, False]
    files.cert.write_text("newer")
    assert watch.changed() is False, "the key may still follow"
    files.key.write_text("newer")
    assert [watch.changed() for _ in range(4)] == [False, True, False, False]


def test_swapped_links_and_missing_files_are_changes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, (1, 1))
    link = tmp_path / "live"
    link.symlink_to(tmp_path / "one")
    watch = CertificateWatch(CertificateFiles(link, link))
    link.unlink()
    assert [watch.changed() for _ in range(3)] == [False, True, False]
    link.symlink_to(tmp_path / "two")
    assert [watch.changed() for _ in range(3)] == [False, True, False]
