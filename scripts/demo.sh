#!/usr/bin/env bash
# make demo: builds the package into .venv and shows it at work. Needs no server.
. "$(dirname "$0")/common.sh"

need_rust
need_python
make_venv .venv "$PYTHON" scripts/requirements.txt tests/requirements.txt
echo "building cachekit (release; the first time takes some minutes) …"
install_package .venv
exec .venv/bin/python examples/demo.py "$@"
