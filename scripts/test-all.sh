#!/usr/bin/env bash
# make test-all: `make test`, then a wheel and the Python tests on every supported Python that is installed.
. "$(dirname "$0")/common.sh"

code=0
scripts/test.sh || code=1

# interpreter_of VERSION: from PATH, else the newest of that version that pyenv holds.
interpreter_of() {
    command -v "python$1" 2>/dev/null && "python$1" -c '' 2>/dev/null && return
    ls -d "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python 2>/dev/null | sort -V | tail -n1
}

tested=() missing=() failed=()
for version in 3.9 3.10 3.11 3.12 3.13; do
    python=$(interpreter_of "$version" | tail -n1)
    if [ -z "$python" ] || ! "$python" -c 'import ensurepip' 2>/dev/null; then
        missing+=("$version")
        continue
    fi
    say "Python $version: wheel and tests"
    venv="$VENVS/py$version"
    make_venv "$venv" "$python" tests/requirements.txt
    install_package "$venv" .venv/bin/maturin
    # Type checkers say the same whatever runs them.
    if "$venv/bin/python" -m pytest -q --ignore=tests/typing "$@"; then tested+=("$version"); else failed+=("$version"); fi
done

say "Python versions: passed ${tested[*]:-none}; failed ${failed[*]:-none}; not installed ${missing[*]:-none}"
[ ${#tested[@]} -gt 0 ] || die "no supported Python passed"
[ ${#failed[@]} -eq 0 ] || code=1
exit $code
