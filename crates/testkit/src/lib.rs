//! Test tools: fake clock, seeded randomness, chaos backend, the backend contract.
