"""Encrypted entries that a Rust and a Python process read of each other, through a real Redis."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Any

import pytest

from cachekit import cache
from cachekit.backends import RedisBackend
from tests.integration.support import ROOT
from tests.integration.vault import KEY, OTHER, failures, header
from tests.support.redis_servers import RedisServer

pytestmark = [
    pytest.mark.timeout(600),  # the Rust half may have to be compiled
    pytest.mark.skipif(shutil.which("cargo") is None, reason="needs cargo for the Rust half"),
]
DEPLOYMENT = "12345678-1234-1234-1234-123456789abc"


def rust(server: RedisServer, *patients: int, key: str = KEY) -> list[str]:
    """What the Rust program says of these patients, in a process of its own."""
    told = subprocess.run(
        ["cargo", "run", "--quiet", "-p", "cachekit-cache", "--example", "encrypted", "--", server.url]
        + [str(patient) for patient in patients],
        cwd=ROOT,
        env={**os.environ, "CACHEKIT_MASTER_KEY": key, "CACHEKIT_DEPLOYMENT_UUID": DEPLOYMENT},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    return told.stdout.splitlines()


def python(server: RedisServer, key: str = KEY) -> tuple[Any, Any]:
    """The functions of this process that have the Rust program's entries: framed, and of interop mode."""

    def load(patient: int) -> dict[str, Any]:
        return {"patient": patient, "allergies": ["latex"], "by": "python"}

    load.__module__, load.__qualname__ = "records", "load"
    options: dict[str, Any] = {
        "namespace": "clinic",
        "backend": RedisBackend(server.url),
        "master_key": key,
        "deployment_uuid": DEPLOYMENT,
        "l1_enabled": False,
        "ttl": 300,
    }
    return cache(**options)(load), cache(interop="load", **options)(load)


def test_each_reads_what_the_other_encrypted(redis_server: RedisServer) -> None:
    framed, interop = python(redis_server)
    assert framed(7) == interop(7) == {"patient": 7, "allergies": ["latex"], "by": "python"}
    assert rust(redis_server, 7, 8) == [
        "framed 7: by python",
        "interop 7: by python",
        "framed 8: by rust",
        "interop 8: by rust",
        "refused: 0",
    ]
    assert framed(8) == interop(8) == {"patient": 8, "allergies": ["penicillin"], "by": "rust"}
    assert failures(framed) == failures(interop) == {}
    store = RedisBackend(redis_server.url)
    mine, theirs = (header(store.get(framed.key_for(patient)) or b"") for patient in (7, 8))
    assert mine["m"] == theirs["m"]
    for function in (framed, interop):
        for patient in (7, 8):
            entry = store.get(function.key_for(patient)) or b""
            assert len(entry) > 28
            assert b"allergies" not in entry


def test_each_refuses_what_the_other_encrypted_with_another_key(redis_server: RedisServer) -> None:
    framed, interop = python(redis_server)
    framed(7)
    interop(7)
    *lines, refused = rust(redis_server, 7, key=OTHER)
    assert lines == ["framed 7: by rust", "interop 7: by rust"]
    assert int(refused.rpartition(" ")[2]) >= 2
    assert framed(7)["by"] == interop(7)["by"] == "python"
    assert failures(framed).keys() == failures(interop).keys() == {"auth_tamper"}


def test_interop_entries_that_were_swapped_cut_or_are_plain_are_refused(redis_server: RedisServer) -> None:
    _, interop = python(redis_server)
    rust(redis_server, 7, 8)
    store = RedisBackend(redis_server.url)
    seven, eight = (interop.key_for(patient) for patient in (7, 8))
    good, other = store.get(seven) or b"", store.get(eight) or b""
    plain = bytes.fromhex("81a26279a6666f72676564")  # {"by": "forged"}, a whole document
    for entry, why in (
        (other, "auth_tamper"),
        (good[:-1], "auth_tamper"),
        (plain + bytes(28), "auth_tamper"),
        (good[:20], "corruption"),
        (plain, "corruption"),
    ):
        before = failures(interop).get(why, 0)
        store.set(seven, entry, 300)
        assert interop(7)["by"] == "python"
        assert failures(interop)[why] > before
        assert store.get(seven) != entry
    store.set(seven, good, 300)
    assert interop(7)["by"] == "rust"
