"""Measures cachekit beside its rivals in one run and prints one table. ``make bench``; docs/benchmarks.md explains."""
