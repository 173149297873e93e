"""What the tests and benchmarks share: real servers, faults between them and us, a clean environment."""
