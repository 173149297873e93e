//! The bytes of the CacheKit protocol: keys, MessagePack, envelope, encryption, frame and interop mode.
//!
//! Everything here is a pure function from bytes to bytes: no I/O, no clock, no randomness and no
//! Python. What is written is exact to the byte wherever the protocol fixes it; what is read may come
//! from anybody, so every length is checked against the input before memory is taken, and every
//! failure is a typed error.

#[cfg_attr(
    not(feature = "encryption"),
    allow(dead_code, reason = "what only the cipher uses")
)]
pub mod encryption;
pub mod envelope;
pub mod frame;
pub mod generation;
pub mod interop;
pub mod keys;
pub mod msgpack;
pub mod payload;
