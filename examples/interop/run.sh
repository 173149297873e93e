#!/usr/bin/env bash
# A Python and a Rust program that serve each other's entries: run.sh [redis-url]
set -euo pipefail
cd "$(dirname "$0")/../.."
url=${1:-redis://localhost:6379/0}
python=${PYTHON:-python3}

cargo build --quiet -p cachekit-cache --example interop
echo "Python computes tea:"
"$python" examples/interop/quotes.py "$url" tea
echo "Rust finds tea and computes coffee:"
cargo run --quiet -p cachekit-cache --example interop -- "$url"
echo "Python finds both:"
"$python" examples/interop/quotes.py "$url" tea coffee
