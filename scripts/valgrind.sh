#!/usr/bin/env bash
# make valgrind: the native module under memcheck, driven by scripts/valgrind/program.py. Any error fails.
. "$(dirname "$0")/common.sh"
need_rust
need_python
need valgrind valgrind

make_venv .venv "$PYTHON" scripts/requirements.txt tests/requirements.txt
install_package .venv
# Python's own allocator hands out pieces of large blocks, in which memcheck sees nothing.
PYTHONMALLOC=malloc valgrind --quiet --error-exitcode=9 --leak-check=no --num-callers=30 \
    --suppressions=scripts/valgrind/cpython.supp .venv/bin/python -X faulthandler scripts/valgrind/program.py
