//! Any namespace, function name, arguments and limits: keys keep to their shape.
#![no_main]

use cachekit_wire::keys::{
    KeyPrefix, MAX_KEY_CHARS, SerializerCode, custom_key, fit_key, tenant_key,
};
use libfuzzer_sys::fuzz_target;

fn safe(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b':' | b'-')
}

fuzz_target!(|data: &[u8]| {
    // Parts are separated by 0xff, which is in no UTF-8 text.
    let mut parts = data.splitn(4, |&b| b == 0xff).map(String::from_utf8_lossy);
    let mut part = || parts.next().unwrap_or_default();
    let (namespace, module, qualname) = (part(), part(), part());
    let args = part();
    let prefix = KeyPrefix::new(Some(&namespace), &module, &qualname);
    let key = prefix.key(args.as_bytes(), true, SerializerCode::Std);
    assert!(key.chars().count() <= MAX_KEY_CHARS);
    assert!(!key.contains([' ', '\n', '\r']));
    assert_ne!(
        key,
        prefix.key(args.as_bytes(), true, SerializerCode::Arrow)
    );

    let bare =
        KeyPrefix::new(None, &module, &qualname).key(args.as_bytes(), false, SerializerCode::Local);
    assert!(bare.starts_with("func:") && bare.bytes().all(safe) && !bare.contains(".."));

    let stored = tenant_key(&namespace, &key);
    assert!(stored.ends_with(&key));
    let custom = custom_key(Some(&namespace), &module);
    let max_len = 33 + args.len() % 400;
    for key in [&key, &stored, &custom] {
        let fitted = fit_key(key, max_len, safe);
        assert!(fitted.len() <= max_len && fitted.bytes().all(safe));
        assert!(*fitted == **key || !fitted.contains(".."));
    }
});
