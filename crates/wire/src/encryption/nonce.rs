use std::sync::atomic::{AtomicU32, Ordering};

use super::NONCE_LEN;

/// Nonces of one encryptor: 64 random bits, drawn for each message, and a counter of 32.
///
/// AES-GCM breaks when a key meets a nonce twice. Within one process the counter keeps 2³² messages in
/// a row apart whatever the random bits are. Between processes, which do not know of each other, the
/// random bits do, and the counter's random start adds its own 32: among n messages under one key the
/// probability of a repetition is below n² / 2⁹⁷. A forked child and a virtual machine that was
/// restored twice from one snapshot continue with the same counter; bits that are drawn for each
/// message, not once for the encryptor, keep them apart. `docs/security.md` has the whole argument.
pub(super) struct Nonces {
    counter: AtomicU32,
}

impl Nonces {
    pub(super) const fn starting_at(start: u32) -> Self {
        Self {
            counter: AtomicU32::new(start),
        }
    }

    /// The next nonce; after 2³² of them the counter starts again.
    pub(super) fn next(&self, random: u64) -> [u8; NONCE_LEN] {
        let count = self.counter.fetch_add(1, Ordering::Relaxed);
        let mut nonce = [0; NONCE_LEN];
        nonce[..8].copy_from_slice(&random.to_be_bytes());
        nonce[8..].copy_from_slice(&count.to_be_bytes());
        nonce
    }
}
