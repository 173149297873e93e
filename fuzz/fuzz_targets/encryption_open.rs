//! Any bytes as ciphertext under any header; damaged and misplaced real ciphertext.
#![no_main]

use std::sync::LazyLock;

use cachekit_wire::encryption::{Binding, Keyring, MasterKey, NONCE_LEN, TAG_LEN, TenantKeys};
use libfuzzer_sys::fuzz_target;

static KEYS: LazyLock<TenantKeys> = LazyLock::new(|| {
    let key = |byte| MasterKey::from_bytes(&[byte; 32]).expect("32 bytes");
    let ring = Keyring::new(key(1), vec![key(2)]).expect("different keys");
    TenantKeys::derive(&ring, "tenant", 0).expect("a tenant")
});

fn binding(key: &str, compressed: bool) -> Vec<u8> {
    let mut out = vec![];
    Binding {
        tenant: "tenant",
        key,
        format: "msgpack",
        compressed,
        original_type: compressed.then_some("msgpack"),
    }
    .write(&mut out);
    out
}

fuzz_target!(|data: &[u8]| {
    let Some((&[mode, at, flip, cut], rest)) = data.split_first_chunk::<4>() else {
        return;
    };
    let text = String::from_utf8_lossy(rest);
    // Nobody has the keys: what is made up is never opened.
    let fingerprint = (mode & 1 != 0).then_some(&*text);
    let mut into = vec![7; usize::from(cut)];
    assert!(
        KEYS.open(rest, fingerprint, &binding("k", true), &mut into)
            .is_err()
    );
    assert!(into.is_empty());

    // An entry always has a key.
    let key = format!("k{text}");
    let mine = binding(&key, mode & 2 != 0);
    let mut ciphertext = rest.to_vec();
    let (nonce, tag) = KEYS.seal(u64::from(at), &mine, &mut ciphertext);
    let mut sealed = [&nonce[..], &ciphertext, &tag].concat();
    assert_eq!(sealed.len(), rest.len() + NONCE_LEN + TAG_LEN);
    for name in [None, Some("of no key")] {
        KEYS.open(&sealed, name, &mine, &mut into).expect("whole");
        assert_eq!(into, rest);
    }
    let other = binding(&key, mode & 2 == 0);
    assert!(KEYS.open(&sealed, None, &other, &mut into).is_err());
    let at = usize::from(at) * sealed.len() / 256;
    sealed[at] ^= flip;
    if cut > 0 {
        sealed.truncate(sealed.len().saturating_sub(usize::from(cut)));
    }
    let opened = KEYS.open(&sealed, None, &mine, &mut into);
    assert_eq!(opened.is_ok(), flip == 0 && cut == 0);
});
