# Each target is a script of its own in scripts/; `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help demo test test-all bench fmt clean fuzz valgrind

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

demo: ## decorate functions over the standard library's sources and see what caching does (no server needed)
	@scripts/demo.sh

test: ## everything that must hold: Rust and Python, formats, lints, types, tests against real servers
	@scripts/test.sh

test-all: ## make test, then the Python tests on each of 3.9 to 3.13 that is installed
	@scripts/test-all.sh

bench: ## cachekit beside its rivals in one table (ONLY=P1,P6 for some of it)
	@ONLY="$(ONLY)" scripts/bench.sh

fuzz: ## each fuzz target for SECONDS_EACH=120 seconds; the result goes to docs/fuzzing.md
	@SECONDS_EACH="$(SECONDS_EACH)" scripts/fuzz.sh

valgrind: ## the native module under memcheck
	@scripts/valgrind.sh

fmt: ## format all sources
	@scripts/fmt.sh

clean: ## remove environments and build results
	@scripts/clean.sh
