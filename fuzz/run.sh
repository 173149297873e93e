#!/usr/bin/env bash
# Runs each fuzz target for some seconds: fuzz/run.sh [seconds] [target…]; 60 seconds, all targets.
# Builds on the stable toolchain; see README.md.
set -euo pipefail
cd "$(dirname "$0")"

seconds=60
if [[ "${1:-}" =~ ^[0-9]+$ ]]; then
    seconds=$1
    shift
fi
targets=("$@")
if [[ ${#targets[@]} -eq 0 ]]; then
    targets=(msgpack_reader envelope_open frame_parse key_build interop memcached_reply)
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
for target in "${targets[@]}"; do
    mkdir -p "corpus/$target" "artifacts/$target"
    log=artifacts/$target/log
    echo "== $target: $seconds s"
    if ! "$target_dir/$host/release/$target" "corpus/$target" "seeds/$target" \
        -artifact_prefix="artifacts/$target/" -max_total_time="$seconds" -max_len=8192 \
        -timeout=10 -print_final_stats=1 >"$log" 2>&1; then
        tail -n 60 "$log" >&2
        echo "$target failed; its input is in fuzz/artifacts/$target/" >&2
        exit 1
    fi
    grep -E '^(#[0-9]+\s+DONE|stat::(number_of|average_exec|slowest|peak))' "$log"
done
