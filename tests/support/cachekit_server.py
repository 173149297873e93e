"""The real ``cachekit serve`` on a free loopback port, with TLS and one API key."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

from tests.support.process import ServerMissingError, ServerProcess, free_port, wait_until
from tests.support.tls import issue

HOST = "127.0.0.1"
NAMED = os.environ.get("CACHEKIT_SERVER_BIN")  # read here, as each test's environment is emptied of such variables


def server_program() -> Path:
    """The binary that ``CACHEKIT_SERVER_BIN`` names, else the newest that cargo has built."""
    if NAMED:
        return Path(NAMED)
    root = Path(__file__).resolve().parents[2]
    targets = [root / "target", Path.home() / ".cache" / "cachekit" / "target"]
    if "CARGO_TARGET_DIR" in os.environ:
        targets = [Path(os.environ["CARGO_TARGET_DIR"])]
    built = [target / profile / "cachekit" for target in targets for profile in ("debug", "release")]
    found = [path for path in built if path.is_file()]
    if not found:
        raise ServerMissingError(
            "the cachekit program is not built and this test needs it: run `cargo build -p cachekit-cli`, "
            "or name a binary in CACHEKIT_SERVER_BIN"
        )
    return max(found, key=lambda path: path.stat().st_mtime)


class CachekitServer(ServerProcess):
    """One server with an embedded store in ``folder``; entries outlive ``kill`` and ``start``.

    ``url`` is the API's base, ``key`` an API key of the tenant ``tests``, ``authority`` the PEM file to trust
    (``SSL_CERT_FILE``). ``flags`` are those of ``cachekit serve``.
    """

    def __init__(self, folder: Path, *, flags: tuple[str, ...] = ()) -> None:
        self.port = free_port()
        self._program = str(server_program())
        self._data = folder / f"cachekit-{self.port}"
        self._data.mkdir(mode=0o700)
        certificates = issue(self._data)
        self.authority = certificates.authority
        self._context = certificates.client_context()
        arguments = [self._program, "serve", "--listen", f"{HOST}:{self.port}", "--data-dir", str(self._data)]
        arguments += ["--tls-cert", str(certificates.certificate), "--tls-key", str(certificates.key)]
        super().__init__([*arguments, *flags], self._answers_ready, self._data / "server.log")
        self.key = self.create_key("--tenant", "tests")

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which programs find the server as the CachekitIO API."""
        return {
            "CACHEKIT_API_URL": self.url,
            "CACHEKIT_API_KEY": self.key,
            "CACHEKIT_ALLOW_CUSTOM_HOST": "true",
            "SSL_CERT_FILE": str(self.authority),
        }

    def create_key(self, *arguments: str) -> str:
        """A new key by ``cachekit keys create``, known to the server if that runs."""
        key = self._keys("create", *arguments).strip()
        if self.running:
            wait_until("the server knows the new key", lambda: self._accepts(key))
        return key

    def revoke_key(self, key: str) -> None:
        """Revokes a key; a running server refuses it within a second."""
        identifier = key[len("ck_live_") :][:12]
        self._keys("revoke", identifier)

    def metrics(self) -> str:
        """The text of ``/metrics``."""
        return self._get("/metrics").decode()

    def stored_keys(self) -> int:
        """How many entries the server holds."""
        for line in self.metrics().splitlines():
            if line.startswith("cachekit_server_entries "):
                return int(line.split()[1])
        raise RuntimeError("the server's metrics name no entries")

    def _keys(self, *arguments: str) -> str:
        command = [self._program, "keys", "--data-dir", str(self._data), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} failed: {done.stderr}")
        return done.stdout

    def _answers_ready(self) -> bool:
        try:
            return json.loads(self._get("/readyz")) == {"status": "ok"}
        except (urllib.error.URLError, ssl.SSLError, OSError):
            return False

    def _accepts(self, key: str) -> bool:
        try:
            self._get("/v1/cache/health", Authorization=f"Bearer {key}")
        except urllib.error.HTTPError as error:
            if error.code != 401:
                raise
            return False
        return True

    def _get(self, path: str, **headers: str) -> bytes:
        asked = urllib.request.Request(self.url + path, headers=headers)
        with urllib.request.urlopen(asked, timeout=2.0, context=self._context) as answer:
            body: bytes = answer.read()
            return body
