"""The edge: a HAProxy of our own in front of the service that speaks TLS, HTTP/2 and WebSocket over both.

Ray's HAProxy knows cleartext only and its template has no room for a certificate, so a second one takes the
public address and the service moves to a loopback port behind it. What a request may hold and how long a
session may last stay the service's affair; the edge only ends what has been silent for longer than that.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from serve_app.launch.certificates import (
    Certificate,
    CertificateError,
    CertificateWatch,
    read_certificate,
    self_signed,
)
from serve_app.launch.cluster import LaunchError, bundled_haproxy
from serve_app.launch.edge_config import PEM_FILE, SOCKET_FILE, EdgeOptions, edge_config

EDGE_DIR = "edge"
CONFIG_FILE = "haproxy.cfg"
LOG_FILE = "haproxy.log"

POLL_INTERVAL_S = 0.5
LOOK_INTERVAL_S = 5.0
START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 3.0
MAX_RETRY_INTERVAL_S = 8.0
ANSWER_BYTES = 4096

Say = Callable[[str], None]


class Edge:
    """The HAProxy process, and the thread that starts it again when it dies and shows it new certificates."""

    def __init__(self, options: EdgeOptions, host: str, port: int, service_port: int, say: Say) -> None:
        """Read the certificate, or make one, and let HAProxy see whether it can use it; nothing listens yet.
        Raises `LaunchError`."""
        self.service_port = service_port
        self._options = options
        self._address = host, port
        self._say = say
        self._binary = bundled_haproxy()
        try:
            self.files = options.files or self_signed(options.self_signed_dir, host)
            self._watch = CertificateWatch(self.files)
            self._certificate = read_certificate(self.files)
        except CertificateError as error:
            raise LaunchError(f"TLS: {error}") from error
        if complaint := self._certificate.complaint(datetime.now(UTC)):
            say(f"warning: {complaint}")
        self._folder = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._look_after, name="edge", daemon=True)
        with tempfile.TemporaryDirectory(prefix="sotto-") as folder:
            self._write_config(Path(folder))
            self._check(Path(folder))

    @property
    def is_self_signed(self) -> bool:
        return self._options.files is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def start(self, folder: Path) -> None:
        """Listen, and go on doing so. `folder` is made; it must lie in the instance's runtime folder, by
        which the keeper finds the process. Raises `LaunchError`."""
        folder.mkdir(mode=0o700)
        self._folder = folder
        self._write_config(folder)
        self._spawn()
        self._thread.start()

    def drain(self) -> None:
        """Take no new connections; those that are open go on."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGUSR1)

    def stop(self) -> None:
        """End the process; may be called twice."""
        self.drain()
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _spawn(self) -> None:
        with (self._folder / LOG_FILE).open("wb") as log:
            # A session of its own: Ctrl-C is for us, and HAProxy would cut every connection.
            self._process = subprocess.Popen(
                [self._binary, "-db", "-f", self._folder / CONFIG_FILE],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environ(),
                start_new_session=True,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise LaunchError(f"The edge did not start:\n{self._last_words()}")
            with suppress(LaunchError):
                self._ask("show info")
                return
            time.sleep(0.05)
        self._process.kill()
        self._process.wait()
        raise LaunchError(f"The edge does not answer after {START_TIMEOUT_S:.0f} s:\n{self._last_words()}")

    def _look_after(self) -> None:
        next_look_s = time.monotonic()
        while not self._stopping.wait(POLL_INTERVAL_S):
            if self._process is not None and self._process.poll() is not None:
                self._say(f"the edge ended with status {self._process.returncode}; starting it again")
                self._restart()
            if time.monotonic() >= next_look_s:
                next_look_s = time.monotonic() + LOOK_INTERVAL_S
                if self._watch.changed():
                    self._renew()

    def _restart(self) -> None:
        wait_s, said = POLL_INTERVAL_S, ""
        while not self._stopping.is_set():
            try:
                self._spawn()
            except (LaunchError, OSError) as error:
                if str(error) != said:
                    self._say(said := str(error))
                self._stopping.wait(wait_s)
                wait_s = min(2 * wait_s, MAX_RETRY_INTERVAL_S)
            else:
                self._say("the edge is back")
                return

    def _renew(self) -> None:
        """Show new connections the certificate that now lies in the files; open ones are not touched. Where
        it cannot be used the old one stays."""
        try:
            certificate = read_certificate(self.files)
            pem = self._folder / PEM_FILE
            answer = self._ask(f"set ssl cert {pem} <<\n{certificate.pem.decode()}")
            if "Transaction" in answer:
                answer = self._ask(f"commit ssl cert {pem}")
            if "Success" not in answer:
                self._ask(f"abort ssl cert {pem}")
                raise CertificateError(answer)
            self._certificate = certificate
            keep_certificate(certificate, self._folder)
        except (CertificateError, LaunchError, OSError) as error:
            self._say(f"the renewed certificate is not used: {error}")
            return
        self._say(f"the certificate was renewed; it lasts until {certificate.not_after:%Y-%m-%d %H:%M} UTC")

    def _write_config(self, folder: Path) -> None:
        host, port = self._address
        config = edge_config(folder, host, port, self.service_port, self._options)
        (folder / CONFIG_FILE).write_text(config)
        keep_certificate(self._certificate, folder)

    def _check(self, folder: Path) -> None:
        answer = subprocess.run(
            [self._binary, "-q", "-c", "-f", folder / CONFIG_FILE], capture_output=True, env=_environ()
        )
        if answer.returncode != 0:
            raise LaunchError(f"HAProxy cannot use this certificate or address:\n{_plain(answer.stderr)}")

    def _ask(self, command: str) -> str:
        """One command to the admin socket, and its answer. Raises `LaunchError`."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(5.0)
                connection.connect(str(self._folder / SOCKET_FILE))
                connection.sendall(command.encode() + b"\n")
                answer = b""
                while (part := connection.recv(ANSWER_BYTES)) and len(answer) < 64 * ANSWER_BYTES:
                    answer += part
        except OSError as error:
            raise LaunchError(f"the edge does not take commands: {error.strerror or error}") from error
        return answer.decode(errors="replace").strip()

    def _last_words(self) -> str:
        return _plain((self._folder / LOG_FILE).read_bytes())


def keep_certificate(certificate: Certificate, folder: Path) -> None:
    """Put it where HAProxy reads it when it starts; mode 0600."""
    temporary = folder / "site.new"
    temporary.unlink(missing_ok=True)
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(certificate.pem)
    os.replace(temporary, folder / PEM_FILE)


def _environ() -> dict[str, str]:
    return {"PATH": os.defpath}


def _plain(output: bytes) -> str:
    """HAProxy's complaints without its greetings."""
    lines = output.decode(errors="replace").splitlines()
    return "\n".join(line for line in lines if "[NOTICE]" not in line)[-2000:]
