use cachekit_wire::keys::{
    KeyPrefix, MAX_KEY_CHARS, SerializerCode, fit_key, shorten_key, tenant_key,
};
use proptest::prelude::*;

fn safe(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b':' | b'-')
}

proptest! {
    #[test]
    fn keys_keep_to_the_limit_and_the_shape(
        namespace in prop::option::of(prop_oneof![any::<String>(), "\\PC{100,300}"]),
        module in any::<String>(),
        qualname in prop_oneof![any::<String>(), "[a-z.<> ]{0,300}"],
        args in prop::collection::vec(any::<u8>(), 0..50),
        integrity in any::<bool>(),
    ) {
        let prefix = KeyPrefix::new(namespace.as_deref(), &module, &qualname);
        let key = prefix.key(&args, integrity, SerializerCode::Auto);
        prop_assert!(key.chars().count() <= MAX_KEY_CHARS);
        prop_assert!(!key.contains([' ', '\n', '\r']));
        prop_assert_eq!(&key, &prefix.key(&args, integrity, SerializerCode::Auto));
        prop_assert_ne!(&key, &prefix.key(&args, !integrity, SerializerCode::Auto));
        prop_assert_ne!(&key, &prefix.key(&[&args[..], &[0]].concat(), integrity, SerializerCode::Auto));
        if namespace.is_none() {
            let function = key.strip_prefix("func:").expect("no namespace");
            prop_assert!(!function.contains(".."));
            prop_assert!(function.bytes().all(safe));
        }
    }

    #[test]
    fn tenants_never_share_a_key(a in any::<String>(), b in any::<String>(), key in any::<String>()) {
        let stored = tenant_key(&a, &key);
        prop_assert_eq!(a == b, stored == tenant_key(&b, &key));
        let encoded = &stored["t:".len()..stored.len() - key.len() - 1];
        prop_assert!(encoded.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-~%".contains(&b)));
    }

    #[test]
    fn fitted_keys_fit(key in prop_oneof![any::<String>(), "[a-z:. ]{0,500}"], max_len in 33..400_usize) {
        let fitted = fit_key(&key, max_len, safe);
        prop_assert!(fitted.len() <= max_len);
        prop_assert!(fitted.bytes().all(safe));
        if key.len() <= max_len && key.bytes().all(safe) {
            prop_assert_eq!(&*fitted, &key);
        } else {
            prop_assert_eq!(&*fitted, shorten_key(&key, max_len, safe));
            prop_assert!(!fitted.contains(".."));
        }
    }
}
