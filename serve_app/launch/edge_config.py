"""What the edge is to do, from the settings to HAProxy's configuration."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from serve_app.capacity.machine import available_cores
from serve_app.launch.certificates import CertificateFiles
from serve_app.models.places import DEFAULT_CACHE_DIR
from serve_app.settings import Settings, SettingsError

SOCKET_FILE = "admin.sock"
PEM_FILE = "site.pem"

MARGIN_S = 60
"""The service ends what is silent or lasts too long with a message of its own; the edge cuts later."""

_HOST = re.compile(r"[A-Za-z0-9._:%-]*")
_CLIENT_CLAIMS = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port")

_CONFIG = """\
global
    stats socket {socket} mode 600 level admin
    nbthread {num_threads}
    noreuseport
    fd-hard-limit 100000
    tune.bufsize 32768
    # Mozilla's "intermediate" recommendation, version 5.7, without the ciphers on finite fields
    ssl-default-bind-options ssl-min-ver TLSv1.2 prefer-client-ciphers no-tls-tickets
    ssl-default-bind-curves X25519:P-256:P-384
    ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256
    ssl-default-bind-ciphers {ciphers}

defaults
    mode http
    timeout connect 5s
    timeout http-request 15s
    timeout http-keep-alive 75s
    timeout client {idle_s}s
    timeout server {longest_s}s
    timeout tunnel {longest_s}s
    timeout client-fin 30s
    timeout server-fin 30s
    option http-no-delay
    option abortonclose
    # A connection whose request body was not read to its end must never carry another request.
    option http-server-close
{errors}

frontend edge
    bind {address} ssl crt {pem} alpn h2,http/1.1
{del_claims}
    http-request set-header X-Forwarded-For %[src]
    http-request set-header X-Forwarded-Proto https
    # Audio does not shrink, and every message would have to be inflated.
    http-request del-header Sec-WebSocket-Extensions
    default_backend service

backend service
    server service 127.0.0.1:{service_port}
"""

_ERRORS = {
    502: "The service is not reachable",
    503: "The service is not reachable",
    504: "The service does not answer",
}
"""Where the service has not answered; in the shape in which it would have."""

_CIPHERS = (
    *("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"),
    *("ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384"),
    *("ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305"),
)


@dataclass(frozen=True, slots=True)
class EdgeOptions:
    """`files` None: a certificate made here and kept in `self_signed_dir`.

    `idle_timeout_s` and `max_session_s` are the service's own limits, which the edge must outlast.
    """

    files: CertificateFiles | None
    self_signed_dir: Path
    idle_timeout_s: float
    max_session_s: float


def edge_options(settings: Settings) -> EdgeOptions | None:
    """What the settings ask for, None without TLS. Raises `SettingsError`."""
    cert, key = settings.tls_cert, settings.tls_key
    if cert is None and key is not None:
        raise SettingsError(["tls_key was given without tls_cert"])
    if cert is not None and settings.tls_self_signed:
        raise SettingsError(["tls_self_signed asks for a certificate, and tls_cert names one: choose"])
    if cert is None and not settings.tls_self_signed:
        return None
    return EdgeOptions(
        files=CertificateFiles(cert, key or cert) if cert is not None else None,
        self_signed_dir=(settings.cache_dir or DEFAULT_CACHE_DIR).expanduser() / "tls",
        idle_timeout_s=settings.idle_timeout_s,
        max_session_s=settings.max_session_s,
    )


def edge_config(folder: Path, host: str, port: int, service_port: int, options: EdgeOptions) -> str:
    """HAProxy's configuration: TLS on `host:port`, the service on a loopback port. Raises `SettingsError`
    where the host is none."""
    if not _HOST.fullmatch(host):
        raise SettingsError([f"host: {host!r} is no address to listen on"])
    return _CONFIG.format(
        socket=folder / SOCKET_FILE,
        pem=folder / PEM_FILE,
        num_threads=max(1, min(4, available_cores() // 4)),
        ciphers=":".join(_CIPHERS),
        idle_s=round(options.idle_timeout_s) + MARGIN_S,
        longest_s=round(max(options.idle_timeout_s, options.max_session_s)) + MARGIN_S,
        address=f"ipv6@[{host}]:{port}" if ":" in host else f"{host or '*'}:{port}",
        errors="\n".join(
            f"    http-error status {status} content-type application/json"
            f' string \'{{"detail": "{detail}"}}\''
            for status, detail in _ERRORS.items()
        ),
        del_claims="\n".join(f"    http-request del-header {name}" for name in _CLIENT_CLAIMS),
        service_port=service_port,
    )
