#!/usr/bin/env bash
# make fmt: formats Rust and Python sources in place.
. "$(dirname "$0")/common.sh"

need_rust
need_python
cargo fmt --all
make_venv .venv "$PYTHON" scripts/requirements.txt tests/requirements.txt
.venv/bin/ruff format .
.venv/bin/ruff check --fix .
