//! A two-layer function-result cache: in-process L1 over a shared L2.
