//! A two-layer function-result cache: in-process L1 over a shared L2.

pub mod clock;
pub mod guards;
pub mod lease;
pub mod park;
pub mod payload;
pub mod runtime;
pub mod shared;
pub mod store;
