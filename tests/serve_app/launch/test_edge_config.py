from pathlib import Path

import pytest

from serve_app.launch.certificates import CertificateFiles
from serve_app.launch.edge_config import EdgeOptions, edge_config, edge_options
from serve_app.settings import Settings, SettingsError

CERT, KEY = Path("/etc/tls/cert.pem"), Path("/etc/tls/key.pem")


def config(host: str = "127.0.0.1", idle_s: float = 60, longest_s: float = 14_400) -> list[str]:
    options = EdgeOptions(CertificateFiles(CERT, KEY), Path("/none"), idle_s, longest_s)
    return [line.strip() for line in edge_config(Path("/run/e"), host, 8443, 9000, options).splitlines()]


def test_no_edge_unless_asked_for() -> None:
    assert edge_options(Settings()) is None


def test_certificate_and_key() -> None:
    options = edge_options(Settings(tls_cert=CERT, tls_key=KEY, idle_timeout_s=5, max_session_s=70))
    assert options == EdgeOptions(CertificateFiles(CERT, KEY), Path("~/.cache/sotto/tls").expanduser(), 5, 70)


def test_the_key_may_lie_in_the_certificates_file() -> None:
    options = edge_options(Settings(tls_cert=CERT))
    assert options is not None
    assert options.files == CertificateFiles(CERT, CERT)


def test_self_signed_is_kept_in_the_cache(tmp_path: Path) -> None:
    options = edge_options(Settings(tls_self_signed=True, cache_dir=tmp_path))
    assert options is not None
    assert (options.files, options.self_signed_dir) == (None, tmp_path / "tls")


@pytest.mark.parametrize(
    "given",
    [
        {"tls_key": KEY},
        {"tls_key": KEY, "tls_self_signed": True},
        {"tls_cert": CERT, "tls_self_signed": True},
    ],
)
def test_what_contradicts_itself_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="tls_cert"):
        edge_options(Settings(**given))


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1:8443"),
        ("0.0.0.0", "0.0.0.0:8443"),
        ("", "*:8443"),
        ("::1", "ipv6@[::1]:8443"),
        ("asr.example", "asr.example:8443"),
    ],
)
def test_addresses(host: str, address: str) -> None:
    assert f"bind {address} ssl crt /run/e/site.pem alpn h2,http/1.1" in config(host)


@pytest.mark.parametrize("host", ["a b", "a\nstats socket /tmp/x", "a#", '"a"', "${HOME}", "a,b"])
def test_nothing_else_gets_into_the_configuration(host: str) -> None:
    with pytest.raises(SettingsError, match="no address"):
        config(host)


def test_the_services_own_limits_come_first() -> None:
    lines = config(idle_s=60, longest_s=7200)
    assert {"timeout client 120s", "timeout tunnel 7260s", "timeout server 7260s"} <= set(lines)
    assert "timeout tunnel 86460s" in config(idle_s=86_400, longest_s=10)


def test_nothing_is_logged_and_nothing_listens_beside_the_service() -> None:
    lines = config()
    assert [line for line in lines if line.startswith(("bind", "stats socket"))] == [
        "stats socket /run/e/admin.sock mode 600 level admin",
        "bind 127.0.0.1:8443 ssl crt /run/e/site.pem alpn h2,http/1.1",
    ]
    assert not [line for line in lines if line.startswith(("log", "option httplog"))]
    assert "server service 127.0.0.1:9000" in lines
