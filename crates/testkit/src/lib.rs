//! Test tools: servers, faults between them and their clients, and the contract that every
//! backend must pass.

#[cfg(feature = "contract")]
pub mod contract;
pub mod proxy;
pub mod raw;
#[cfg(feature = "scripted")]
pub mod scripted;
pub mod servers;
mod temp;

pub use temp::TempDir;
