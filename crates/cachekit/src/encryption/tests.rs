use std::sync::Arc;

use bytes::Bytes;
use cachekit_wire::frame::Extension;

use super::*;
use crate::payload::{self, Body, PayloadPolicy, Unusable};

fn encryption(byte: u8) -> Encryption {
    let key = MasterKey::from_bytes(&[byte; 32]).expect("long enough");
    Encryption {
        keychain: Arc::new(Keychain::new(key, vec![]).expect("one key")),
        encrypts: true,
        fail_closed: false,
        tenants: false,
    }
}

fn sealer(encryption: &Encryption, tenant: &str, key: &str) -> Sealer {
    Sealer::new(encryption, tenant, key).expect("a good name")
}

/// The bare entry of one document, and how it is read.
fn entry(sealer: Option<&Sealer>) -> Bytes {
    let body = Body::msgpack(b"\xa6secret");
    payload::seal(body, &PayloadPolicy::INTEROP, sealer, Extension::default()).expect("it is small")
}

fn read(entry: &Bytes, sealer: &Sealer) -> Result<Vec<u8>, Unusable> {
    let policy = PayloadPolicy::INTEROP;
    payload::open(entry, &policy, Some(sealer), &mut Vec::new(), |body, _| {
        Ok(body.to_vec())
    })
}

fn why(result: Result<Vec<u8>, Unusable>) -> Refusal {
    match result {
        Err(Unusable::Refused(refused)) => refused.why,
        other => panic!("it is not refused: {other:?}"),
    }
}

#[test]
fn an_entry_is_read_by_its_own_tenant_under_its_own_key_only() {
    let (ours, theirs) = (encryption(1), encryption(2));
    let mine = sealer(&ours, "acme", "k");
    let stored = entry(Some(&mine));
    assert_eq!(read(&stored, &mine).expect("its own"), b"\xa6secret");
    for other in [
        sealer(&ours, "acme", "other"),
        sealer(&ours, "rival", "k"),
        sealer(&theirs, "acme", "k"),
    ] {
        assert_eq!(why(read(&stored, &other)), Refusal::AuthTamper);
    }
    let short = stored.slice(..20);
    assert_eq!(why(read(&short, &mine)), Refusal::Corruption);
    let plain = entry(None);
    assert_eq!(why(read(&plain, &mine)), Refusal::Corruption);
}

#[test]
fn what_l1_holds_is_ciphertext_that_is_checked_at_each_reading() {
    let ours = encryption(1);
    let mine = sealer(&ours, "acme", "k");
    let stored = entry(Some(&mine));
    let held = ciphertext(&stored, &mine, &PayloadPolicy::INTEROP).expect("encrypted");
    assert_eq!(held.encode().as_deref(), Ok(&b"\xa6secret"[..]));
    assert!(held.weight() > stored.len() as u64);
    let mut changed = stored.to_vec();
    changed[15] ^= 1;
    let held = ciphertext(&changed.into(), &mine, &PayloadPolicy::INTEROP).expect("not read yet");
    let refused = held.encode().expect_err("it was changed");
    assert!(refused.contains("does not decrypt"), "{refused}");
}

#[test]
fn what_a_reader_says_of_a_decrypted_body_is_not_passed_on() {
    let ours = encryption(1);
    let mine = sealer(&ours, "acme", "k");
    let policy = PayloadPolicy::INTEROP;
    let quoting = |body: &[u8], _: &_| -> Result<(), String> {
        Err(format!("unexpected {}", String::from_utf8_lossy(body)))
    };
    let told = |stored: &Bytes, sealer| {
        let read = payload::open(stored, &policy, sealer, &mut Vec::new(), quoting);
        read.expect_err("it is not read").to_string()
    };
    assert!(told(&entry(None), None).contains("secret"));
    let told = told(&entry(Some(&mine)), Some(&mine));
    assert!(
        told.contains("does not read") && !told.contains("secret"),
        "{told}"
    );
}

#[test]
fn keys_of_tenants_are_derived_once_and_names_do_not_pile_up() {
    let chain = encryption(1).keychain;
    let first = chain.tenant("acme").expect("a good name");
    assert!(Arc::ptr_eq(
        &first,
        &chain.tenant("acme").expect("a good name")
    ));
    for number in 0..1024 {
        chain.tenant(&number.to_string()).expect("a good name");
    }
    assert!(!Arc::ptr_eq(
        &first,
        &chain.tenant("acme").expect("a good name")
    ));
    assert!(chain.tenant("").is_err());
    assert_eq!(format!("{chain:?}"), "Keychain([REDACTED])");
}

#[test]
fn refusals_are_counted_by_reason_and_layer() {
    let report = SecurityReport::default();
    report.refused(Refusal::AuthTamper, Tier::L2);
    report.refused(Refusal::AuthTamper, Tier::L2);
    report.refused(Refusal::Corruption, Tier::L1);
    report.drifted();
    assert_eq!(report.refusals(Refusal::AuthTamper, Tier::L2), 2);
    assert_eq!(report.refusals(Refusal::AuthTamper, Tier::L1), 0);
    assert_eq!(report.refusals(Refusal::Corruption, Tier::L1), 1);
    assert_eq!((report.total(), report.drift_reads()), (3, 1));
}
