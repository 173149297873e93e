#!/usr/bin/env bash
# make bench: cachekit beside its rivals, in one run. ONLY=P1,P6 limits it.
. "$(dirname "$0")/common.sh"

need_rust
need_python
need redis-server redis-server
BENCH="$CACHE_HOME/bench-venv"
make_venv "$BENCH" "$PYTHON" scripts/requirements.txt tests/requirements.txt benches/requirements.txt
# The published package has the same module name, so it lives apart and is driven through a pipe.
PUBLISHED="$CACHE_HOME/published-venv"
make_venv "$PUBLISHED" "$PYTHON" benches/requirements-published.txt
if [ -z "${BENCH_NO_BUILD:-}" ]; then
    install_package "$BENCH"
    cargo build --quiet --release -p cachekit-cli
fi
# What is measured against our own server is the client: the server must not be a debug build.
export CACHEKIT_SERVER_BIN="${CACHEKIT_SERVER_BIN:-$CARGO_TARGET_DIR/release/cachekit}"
[ -x "$CACHEKIT_SERVER_BIN" ] || die "$CACHEKIT_SERVER_BIN is missing: run without BENCH_NO_BUILD, or cargo build --release -p cachekit-cli"
exec "$BENCH/bin/python" -m benches --published "$PUBLISHED/bin/python" ${ONLY:+--only "$ONLY"} "$@"
