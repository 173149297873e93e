#!/usr/bin/env bash
# Runs each fuzz target for some seconds: fuzz/run.sh [seconds] [target…]; 60 seconds, all targets.
#   --runs N      N inputs from a fixed seed instead, with a corpus that is thrown away: the same every time
#   --table FILE  adds a row of a Markdown table per target to FILE
# Builds on the stable toolchain; see README.md.
set -euo pipefail
cd "$(dirname "$0")"

runs='' table='' seconds=60
while [[ $# -gt 0 ]]; do
    case $1 in
        --runs) runs=$2 && shift 2 ;;
        --table) table=$2 && shift 2 ;;
        *) break ;;
    esac
done
if [[ "${1:-}" =~ ^[0-9]+$ ]]; then
    seconds=$1
    shift
fi
targets=("$@")
if [[ ${#targets[@]} -eq 0 ]]; then
    mapfile -t targets < <(basename -s .rs fuzz_targets/*.rs)
fi

# `-Zsanitizer` is the one flag that stable refuses without RUSTC_BOOTSTRAP; the coverage flags are the
# ones that cargo-fuzz passes. An explicit --target keeps them away from build scripts.
host=$(rustc -vV | sed -n 's/^host: //p')
export RUSTC_BOOTSTRAP=1
export RUSTFLAGS="--cfg fuzzing -Zsanitizer=address -Cpasses=sancov-module \
-Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares \
-Ccodegen-units=1"
target_dir=${CARGO_TARGET_DIR:-target}
cargo build --quiet --release --target "$host" "${targets[@]/#/--bin=}"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for target in "${targets[@]}"; do
    mkdir -p "artifacts/$target" "seeds/$target"
    log=artifacts/$target/log
    if [[ -n "$runs" ]]; then
        corpus=$scratch/$target
        limit=(-runs="$runs" -seed=1)
        echo "== $target: $runs inputs"
    else
        corpus=corpus/$target
        limit=(-max_total_time="$seconds")
        echo "== $target: $seconds s"
    fi
    mkdir -p "$corpus"
    if ! "$target_dir/$host/release/$target" "$corpus" "seeds/$target" "${limit[@]}" \
        -artifact_prefix="artifacts/$target/" -max_len=8192 -timeout=10 -rss_limit_mb=4096 \
        -print_final_stats=1 >"$log" 2>&1; then
        tail -n 60 "$log" >&2
        echo "$target failed; its input is in fuzz/artifacts/$target/" >&2
        exit 1
    fi
    summary=$(grep -E '^#[0-9]+\s+DONE' "$log")
    echo "$summary"
    if [[ -n "$table" ]]; then
        count=$(find "seeds/$target" -type f | wc -l)
        sed -nE "s/^#([0-9]+)\s+DONE +cov: ([0-9]+) .*corp: ([0-9]+)\/.*exec\/s: ([0-9]+).*/| \`$target\` | $count | \1 | \4 | \2 | \3 | 0 |/p" \
            <<<"$summary" >>"$table"
    fi
done
