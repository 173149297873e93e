# Sourced by the other scripts: where things are kept, and the small tools that all of them use.
# shellcheck shell=bash
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"

say() { printf '\n== %s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Build results and environments live in the user's cache, or in the checkout where HOME cannot be written.
if mkdir -p "${HOME:-/nonexistent}/.cache/cachekit" 2>/dev/null; then
    CACHE_HOME="$HOME/.cache/cachekit"
else
    CACHE_HOME="$ROOT/target"
    mkdir -p "$CACHE_HOME"
fi
if [ -z "${CARGO_TARGET_DIR:-}" ]; then
    if [ "$CACHE_HOME" = "$ROOT/target" ]; then CARGO_TARGET_DIR="$ROOT/target"; else CARGO_TARGET_DIR="$CACHE_HOME/target"; fi
fi
export CARGO_TARGET_DIR
# Two checkouts never install into each other's environments.
CHECKOUT_ID=$(printf '%s' "$ROOT" | cksum | cut -d' ' -f1)
VENVS="$CACHE_HOME/venvs/$CHECKOUT_ID"

PYTHON=${PYTHON:-python3}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"
    elif command -v sudo >/dev/null; then sudo "$@"
    else die "need root for: $* (run it yourself, or install sudo)"
    fi
}

# apt_install PACKAGE…: with a package index as old as the image, an update comes first.
apt_install() {
    command -v apt-get >/dev/null || die "please install: $* (no apt-get here to do it)"
    export DEBIAN_FRONTEND=noninteractive
    as_root apt-get install -y --no-install-recommends "$@" >/dev/null 2>&1 && return
    as_root apt-get update -qq
    as_root apt-get install -y --no-install-recommends "$@" >/dev/null
}

# need PROGRAM PACKAGE: installs PACKAGE where PROGRAM is missing.
need() {
    command -v "$1" >/dev/null && return
    say "installing $2 (for $1)"
    apt_install "$2"
    command -v "$1" >/dev/null || die "$1 is still missing after installing $2"
}

need_rust() {
    if ! command -v cargo >/dev/null && [ -f "$HOME/.cargo/env" ]; then . "$HOME/.cargo/env"; fi
    command -v cargo >/dev/null || die "cargo is not on PATH: install Rust $(rust_minimum) or newer with rustup"
    local have
    have=$(rustc --version | cut -d' ' -f2)
    [ "$(printf '%s\n%s\n' "$(rust_minimum)" "$have" | sort -V | head -n1)" = "$(rust_minimum)" ] ||
        die "rustc $have is too old: this workspace needs $(rust_minimum) or newer (rustup update stable)"
    need cc build-essential
}
# The newest that any of the crates asks for.
rust_minimum() { sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml crates/*/Cargo.toml | sort -V | tail -n1; }

need_python() {
    need "$PYTHON" python3
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 9))' ||
        die "$PYTHON is $("$PYTHON" --version): 3.9 or newer is needed (PYTHON=python3.12 make … picks another)"
    # Debian splits venv from the interpreter.
    "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || {
        say "installing python3-venv"
        apt_install python3-venv
    }
}

# make_venv DIRECTORY PYTHON REQUIREMENTS…: an environment that holds what the files list; reused while neither changes.
make_venv() {
    local directory=$1 python=$2 stamp wanted arguments=() file
    shift 2
    stamp="$directory/.made-from"
    wanted=$("$python" -c 'import sys; print(sys.version, sys.base_prefix)'; cat "$@")
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && "$directory/bin/python" -c '' 2>/dev/null; then return; fi
    rm -rf "$directory"
    "$python" -m venv "$directory"
    for file in "$@"; do arguments+=(-r "$file"); done
    "$directory/bin/python" -m pip install --quiet --disable-pip-version-check "${arguments[@]}"
    printf '%s' "$wanted" > "$stamp"
}

# install_package VENV [MATURIN]: builds the release wheel for that environment's Python and installs it there.
install_package() {
    local venv=$1 maturin=${2:-$1/bin/maturin} wheels
    wheels=$(mktemp -d)
    "$maturin" build --release --interpreter "$venv/bin/python" --out "$wheels" >"$wheels/log" 2>&1 ||
        { cat "$wheels/log" >&2; rm -rf "$wheels"; die "the wheel does not build"; }
    # pip keeps what has the same version, so the old build goes first.
    "$venv/bin/python" -m pip uninstall --quiet --disable-pip-version-check --yes cachekit 2>/dev/null || true
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$wheels"/*.whl
    rm -rf "$wheels"
}
