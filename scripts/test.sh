#!/usr/bin/env bash
# make test: everything that must hold, on the default Python, with real servers.
# Every step runs, whatever an earlier one found; the failed ones are named at the end.
. "$(dirname "$0")/common.sh"

failed=()
step() {
    local name=$1
    shift
    say "$name"
    "$@" || failed+=("$name")
}

rust_tests() {
    if cargo nextest --version >/dev/null 2>&1; then
        cargo nextest run --workspace --no-fail-fast --status-level fail --final-status-level fail
    else
        cargo test --workspace --lib --bins --tests --examples --no-fail-fast
    fi
}
no_c_compiler() {
    ! cargo tree -e no-dev --no-default-features --package cachekit-cache --prefix none | grep -E '^(cc|cmake) '
}
python_wheel() {
    make_venv .venv "$PYTHON" scripts/requirements.txt tests/requirements.txt && install_package .venv
}

need_rust
need_python
need redis-server redis-server
need memcached memcached

step "Rust: format" cargo fmt --all --check
step "Rust: lints" cargo clippy --workspace --all-targets --quiet -- -D warnings
step "Rust: the crate without its features" cargo check --package cachekit-cache --no-default-features --quiet
step "Rust: what it says of those that are asked for" cargo test --package cachekit-wire --package cachekit-cache \
    --no-default-features --lib --quiet without_the_feature
step "Rust: without them no C compiler is needed" no_c_compiler
step "Rust: tests" rust_tests
step "Rust: the cachekit program, for the Python tests" cargo build --package cachekit-cli --quiet
step "Rust: fuzz targets, briefly" scripts/fuzz.sh short
step "Rust: examples in the documentation" cargo test --workspace --doc --quiet
say "Python: the wheel"
python_wheel
step "Python: format" .venv/bin/ruff format --check .
step "Python: lints" .venv/bin/ruff check .
step "Python: types (pyright)" .venv/bin/basedpyright --pythonpath .venv/bin/python
step "Python: types (mypy)" .venv/bin/mypy
step "Python: tests" .venv/bin/python -m pytest "$@"

if [ ${#failed[@]} -gt 0 ]; then
    printf '\nfailed: %s\n' "$(IFS=';'; echo "${failed[*]}")" >&2
    exit 1
fi
