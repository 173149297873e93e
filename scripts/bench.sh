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
[ -n "${BENCH_NO_BUILD:-}" ] || install_package "$BENCH"
exec "$BENCH/bin/python" -m benches --published "$PUBLISHED/bin/python" ${ONLY:+--only "$ONLY"} "$@"
