//! What a request's path asks for.

use percent_encoding::percent_decode_str;

/// The longest key, in characters.
const MAX_KEY: usize = 400;

/// What a path below `/v1/cache/` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Health,
    Entry(String),
    Lock(String),
    Ttl(String),
}

/// Why a path names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoRoute {
    /// The API has no such path.
    Unknown,
    /// The key is not one; the text says why.
    BadKey(&'static str),
}

/// Reads the path behind `/v1/cache/`, as it came.
pub(crate) fn parse(path: &str) -> Result<Route, NoRoute> {
    let mut parts = path.split('/');
    let segment = parts.next().expect("a split has a first part");
    match (parts.next(), parts.next()) {
        (None, _) => match key(segment)? {
            key if key == "health" => Ok(Route::Health),
            key => Ok(Route::Entry(key)),
        },
        (Some("lock"), None) => key(segment).map(Route::Lock),
        (Some("ttl"), None) => key(segment).map(Route::Ttl),
        _ => Err(NoRoute::Unknown),
    }
}

/// A key after percent-decoding.
fn key(segment: &str) -> Result<String, NoRoute> {
    let key = percent_decode_str(segment)
        .decode_utf8()
        .map_err(|_| NoRoute::BadKey("the key is not UTF-8 after percent-decoding"))?;
    if key.is_empty() {
        return Err(NoRoute::BadKey("the key is empty"));
    }
    if key.len() > MAX_KEY {
        return Err(NoRoute::BadKey("the key is longer than 400 characters"));
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
    if !key.bytes().all(allowed) {
        return Err(NoRoute::BadKey(
            "the key has a character other than A-Z, a-z, 0-9, '_', '.', ':' and '-'",
        ));
    }
    if key.contains("..") {
        return Err(NoRoute::BadKey("the key contains '..'"));
    }
    Ok(key.into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(key: &str) -> Result<Route, NoRoute> {
        Ok(Route::Entry(key.to_owned()))
    }

    #[test]
    fn paths_name_entries_locks_and_lives() {
        assert_eq!(parse("a"), entry("a"));
        assert_eq!(parse("ns%3Aa:b"), entry("ns:a:b"));
        assert_eq!(parse("lock"), entry("lock"));
        assert_eq!(parse("a/lock"), Ok(Route::Lock("a".to_owned())));
        assert_eq!(parse("health/ttl"), Ok(Route::Ttl("health".to_owned())));
        assert_eq!(parse("health"), Ok(Route::Health));
        assert_eq!(parse(&"k".repeat(400)), entry(&"k".repeat(400)));
        for unknown in ["a/b", "a/lock/", "a/lock/b", "a/", "a//lock"] {
            assert_eq!(parse(unknown), Err(NoRoute::Unknown), "{unknown}");
        }
    }

    #[test]
    fn keys_are_checked_after_decoding() {
        for wrong in [
            "", "%20", "a%2Fb", "a%", "%zz", "é", "%C3%A9", "%ff", "%00", "a..b", "%2e.", "..",
            "/lock", "a b",
        ] {
            assert!(matches!(parse(wrong), Err(NoRoute::BadKey(_))), "{wrong}");
        }
        assert!(matches!(parse(&"k".repeat(401)), Err(NoRoute::BadKey(_))));
    }

    proptest! {
        #[test]
        fn no_path_panics_or_gives_a_key_outside_the_alphabet(path in "\\PC{0,40}|[%/a-f0-9.:]{0,40}") {
            if let Ok(Route::Entry(key) | Route::Lock(key) | Route::Ttl(key)) = parse(&path) {
                prop_assert!((1..=400).contains(&key.len()) && !key.contains(".."));
                prop_assert!(key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.:-".contains(&b)));
            }
        }

        #[test]
        fn every_key_arrives_however_it_is_encoded(key in "[A-Za-z0-9_:-]{1,60}", encode in any::<u64>()) {
            let path: String = key
                .bytes()
                .enumerate()
                .map(|(at, byte)| match encode >> (at % 64) & 1 {
                    1 => format!("%{byte:02X}"),
                    _ => char::from(byte).to_string(),
                })
                .collect();
            let expected = if key == "health" { Ok(Route::Health) } else { entry(&key) };
            prop_assert_eq!(parse(&path), expected);
        }
    }
}
