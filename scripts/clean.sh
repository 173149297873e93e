#!/usr/bin/env bash
# make clean: removes this checkout's environments and the build results.
. "$(dirname "$0")/common.sh"

rm -rf .venv "$VENVS" "$CACHE_HOME/bench-venv" "$CACHE_HOME/published-venv" benches/results
cargo clean
