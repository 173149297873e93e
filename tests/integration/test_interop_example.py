"""The example of interop mode: a Python and a Rust process that serve each other's entries through Redis."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from tests.integration.support import ROOT
from tests.support.redis_servers import RedisServer


@pytest.mark.timeout(600)  # the Rust half may have to be compiled
@pytest.mark.skipif(shutil.which("cargo") is None, reason="needs cargo for the Rust half")
def test_each_serves_what_the_other_computed(redis_server: RedisServer) -> None:
    told = subprocess.run(
        ["examples/interop/run.sh", redis_server.url],
        cwd=ROOT,
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines() == [
        "Python computes tea:",
        "tea: 7.5 by python",
        "Rust finds tea and computes coffee:",
        "tea: 7.5 by python",
        "coffee: 5 by rust",
        "Python finds both:",
        "tea: 7.5 by python",
        "coffee: 5.0 by rust",
    ]
