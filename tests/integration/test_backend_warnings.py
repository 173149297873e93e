"""What a backend has to say reaches Python's logging, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.support import ended, program
from tests.support.cachekit_server import CachekitServer
from tests.support.memcached_server import MemcachedServer

faces = pytest.mark.parametrize("face", ["sync", "async"])


def told(kind: str, face: str, *arguments: str, env: dict[str, str] | None = None) -> list[str]:
    [printed] = ended([program("backend_warnings", kind, face, *arguments, env=env)])
    return [line for line in printed.splitlines() if line.startswith("cachekit.backend ")]


@faces
def test_a_key_that_memcached_does_not_take(memcached_server: MemcachedServer, face: str) -> None:
    [line] = told("memcached", face, memcached_server.server)
    assert line.startswith("cachekit.backend WARNING a key of ")
    assert "does not fit memcached" in line


@faces
def test_a_key_and_a_life_that_the_api_does_not_take(api_environment: CachekitServer, face: str) -> None:
    lines = told("cachekitio", face, env=api_environment.environment)
    life = [line for line in lines if "a TTL of 3456000 s was cut" in line]
    keys = [line for line in lines if "are stored under shortened ones" in line]
    assert len(lines) == 2, lines
    assert len(life) == 1, lines
    assert "for at most 2592000 s" in life[0]
    assert len(keys) == 1, lines


@faces
def test_certificates_that_cannot_be_read(tmp_path: Path, face: str) -> None:
    environment = {
        "CACHEKIT_API_URL": "https://127.0.0.1:9",
        "CACHEKIT_API_KEY": "ck_live_" + "0" * 44,
        "CACHEKIT_ALLOW_CUSTOM_HOST": "true",
        "SSL_CERT_FILE": str(tmp_path / "none.pem"),
    }
    lines = told("cachekitio", face, env=environment)
    [told_of] = [line for line in lines if "certificates to trust could not be read" in line]
    assert str(tmp_path / "none.pem") in told_of
