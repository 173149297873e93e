//! What stands for the cipher without the feature `encryption`: no master key is ever made, so there is no
//! key to derive.

use super::{Fingerprint, MasterKey, NONCE_LEN, TAG_LEN};

/// One tenant's key from one master key, of which there are none.
pub(super) enum DerivedKey {}

impl DerivedKey {
    pub(super) fn new(_: &MasterKey, _: &str) -> Self {
        unreachable!("MasterKey::from_bytes fails without the feature")
    }

    pub(super) fn fingerprint(&self) -> &Fingerprint {
        match *self {}
    }

    pub(super) fn seal(&self, _: [u8; NONCE_LEN], _: &[u8], _: &mut [u8]) -> [u8; TAG_LEN] {
        match *self {}
    }

    pub(super) fn seal_into(
        &self,
        _: [u8; NONCE_LEN],
        _: &[u8],
        _: &[u8],
        _: &mut [u8],
        _: &mut [u8],
    ) {
        match *self {}
    }

    pub(super) fn open(&self, _: &[u8], _: &[u8], _: &[u8], _: &[u8], _: &mut [u8]) -> bool {
        match *self {}
    }
}

pub(super) fn are_equal(_: &[u8], _: &[u8]) -> bool {
    unreachable!("there are no keys to compare")
}
