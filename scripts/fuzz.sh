#!/usr/bin/env bash
# make fuzz: each fuzz target for SECONDS_EACH seconds (120), and the result as a table in docs/fuzzing.md.
# scripts/fuzz.sh short: RUNS inputs (20000) per target from a fixed seed, as `make test` does; nothing is written.
. "$(dirname "$0")/common.sh"
need_rust
need c++ build-essential

if [ "${1:-}" = short ]; then
    exec fuzz/run.sh --runs "${RUNS:-20000}"
fi
results=$(mktemp)
trap 'rm -f "$results"' EXIT
fuzz/run.sh --table "$results" "${SECONDS_EACH:-120}" "$@"
page=docs/fuzzing.md
{
    sed '/^<!-- result -->$/q' "$page"
    printf '\n%s, %s seconds each, %s.\n\n' "$(date -u +%Y-%m-%d)" "${SECONDS_EACH:-120}" \
        "$(rustc --version | cut -d' ' -f1,2)"
    printf '| target | seeds | inputs run | per second | edges covered | corpus | failures |\n|---|---|---|---|---|---|---|\n'
    cat "$results"
} >"$page.new"
mv "$page.new" "$page"
