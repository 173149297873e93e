"""The ``cachekit`` command, also as ``python -m cachekit``. Its subcommands are native."""

from __future__ import annotations

import signal
import sys

from cachekit._native import run_cli


def main() -> int:
    """Runs this process's command line and returns the exit status."""
    # Python's handler would only be heard once the native command has ended; so Ctrl-C ends it as any other program.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return run_cli(["cachekit", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
