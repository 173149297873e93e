use std::{collections::HashMap, ffi::OsString, time::Duration};

use super::read;
use crate::{Cache, CacheBuilder, Error, ErrorKind};

fn built(variables: &[(&str, &str)]) -> Result<CacheBuilder, Error> {
    let variables: HashMap<&str, &str> = variables.iter().copied().collect();
    read(Cache::production(), |name| {
        variables.get(name).map(OsString::from)
    })
}

fn shown(variables: &[(&str, &str)]) -> String {
    let cache = built(variables).and_then(CacheBuilder::build);
    format!("{:?}", cache.expect("these variables are good"))
}

fn refused(variables: &[(&str, &str)]) -> String {
    let error = built(variables)
        .err()
        .expect("these variables are not good");
    assert_eq!(error.kind(), ErrorKind::Configuration);
    error.to_string()
}

#[test]
fn nothing_is_this_process_only_and_empty_is_nothing() {
    assert!(shown(&[]).contains("backend: None"));
    assert!(shown(&[("REDIS_URL", ""), ("CACHEKIT_API_KEY", " ")]).contains("backend: None"));
}

#[test]
fn a_url_is_redis_for_the_tenant_default() {
    for name in ["CACHEKIT_REDIS_URL", "REDIS_URL"] {
        let builder = built(&[(name, "redis://localhost:1")]).expect("a good URL");
        let cache = builder.build().expect("a good builder");
        assert!(format!("{cache:?}").contains("redis"));
        let key = cache.function("m", "f").key_for(&()).expect("a key");
        assert!(key.starts_with("t:default:func:m.f:args:"), "{key}");
    }
}

#[test]
fn our_own_url_wins_and_bad_ones_are_not_repeated() {
    assert!(
        shown(&[
            ("CACHEKIT_REDIS_URL", "redis://localhost:1"),
            ("REDIS_URL", "nonsense")
        ])
        .contains("redis")
    );
    let error = refused(&[("REDIS_URL", "http://:hunter2@h")]);
    assert!(error.starts_with("REDIS_URL: bad Redis URL"), "{error}");
    assert!(error.ends_with("correct REDIS_URL or unset it"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn the_first_variable_that_is_set_names_the_backend() {
    let directory = std::env::temp_dir().join(format!("cachekit-env-{}", std::process::id()));
    let directory = directory.to_str().expect("a plain name");
    let all = [
        ("CACHEKIT_API_KEY", "ck_test_secret", "cachekitio"),
        ("REDIS_URL", "redis://localhost:1", "redis"),
        (
            "CACHEKIT_MEMCACHED_SERVERS",
            r#"["localhost:1"]"#,
            "memcached",
        ),
        ("CACHEKIT_FILE_CACHE_DIR", directory, "file"),
    ];
    for first in 0..all.len() {
        let variables: Vec<(&str, &str)> = all[first..].iter().map(|(n, v, _)| (*n, *v)).collect();
        let cache = shown(&variables);
        assert!(cache.contains(all[first].2), "{cache}");
        assert!(!cache.contains("secret"), "{cache}");
    }
}

#[test]
fn what_a_backend_cannot_use_is_refused_by_its_variable() {
    for (variables, named) in [
        (
            &[("CACHEKIT_API_KEY", "ck test\nsecret")][..],
            "CACHEKIT_API_KEY",
        ),
        (
            &[
                ("CACHEKIT_API_KEY", "ck_test_secret"),
                ("CACHEKIT_API_URL", "http://api.cachekit.io"),
            ],
            "CACHEKIT_API_URL",
        ),
        (
            &[
                ("CACHEKIT_API_KEY", "ck_test_secret"),
                ("CACHEKIT_API_URL", "https://example.org"),
            ],
            "CACHEKIT_API_URL",
        ),
        (
            &[("CACHEKIT_MEMCACHED_SERVERS", "localhost")],
            "CACHEKIT_MEMCACHED_SERVERS",
        ),
        (
            &[(
                "CACHEKIT_MEMCACHED_SERVERS",
                "memcached://bob:secret@mc1:11211",
            )],
            "CACHEKIT_MEMCACHED_SERVERS",
        ),
        (
            &[
                ("CACHEKIT_FILE_CACHE_DIR", "/tmp/x"),
                ("CACHEKIT_FILE_MAX_SIZE_MB", "10"),
                ("CACHEKIT_FILE_MAX_VALUE_MB", "6"),
            ],
            "CACHEKIT_FILE_MAX_VALUE_MB",
        ),
    ] {
        let error = refused(variables);
        assert!(
            error.contains(named) && !error.contains("secret"),
            "{error}"
        );
    }
    let custom = [
        ("CACHEKIT_API_KEY", "ck_test_secret"),
        ("CACHEKIT_API_URL", "https://example.org"),
        ("CACHEKIT_ALLOW_CUSTOM_HOST", "true"),
    ];
    assert!(shown(&custom).contains("cachekitio"));
    // A default that does not fit gives way.
    shown(&[
        ("CACHEKIT_FILE_CACHE_DIR", "/tmp/x"),
        ("CACHEKIT_FILE_MAX_SIZE_MB", "10"),
    ]);
}

#[test]
fn settings_are_read_and_wrong_ones_named() {
    assert!(shown(&[("CACHEKIT_DEFAULT_TTL", "90")]).contains("ttl: Some(90s)"));
    for (name, value) in [
        ("CACHEKIT_DEFAULT_TTL", "0"),
        ("CACHEKIT_DEFAULT_TTL", "soon"),
        ("CACHEKIT_L1_MAX_SIZE_MB", "-1"),
        ("CACHEKIT_L1_ENABLED", "perhaps"),
        ("CACHEKIT_SOCKET_TIMEOUT", "inf"),
        ("CACHEKIT_MAX_VALUE_SIZE", "1.5"),
    ] {
        let error = refused(&[(name, value)]);
        assert!(error.contains(name) && error.contains(value), "{error}");
    }
}

fn two() -> Result<u8, ()> {
    Ok(2)
}

#[test]
fn disabled_caches_nothing() {
    let cache = built(&[("CACHEKIT_DISABLED", "1")]).and_then(CacheBuilder::build);
    let cache = cache.expect("good");
    cache.set_blocking("k", 1u8).expect("nothing to fail");
    assert_eq!(cache.get_blocking::<u8>("k"), None);
    assert_eq!(cache.get_or_compute_blocking("k", two), Ok(2));
    assert_eq!(cache.stats().entries, 0);
}

#[test]
fn the_caches_of_a_process_have_a_limit_together() {
    let one_mib = "x".repeat(1 << 20);
    let kept = |variables: &[(&str, &str)]| {
        let cache = || {
            built(variables)
                .and_then(CacheBuilder::build)
                .expect("good")
        };
        let caches = [cache(), cache(), cache(), cache()];
        for cache in &caches {
            cache.set_blocking("k", one_mib.clone()).expect("no store");
        }
        let held = |cache: &&Cache| cache.get_blocking::<String>("k").is_some();
        caches.iter().filter(held).count()
    };
    assert_eq!(kept(&[]), 4);
    assert_eq!(kept(&[("CACHEKIT_L1_TOTAL_MB", "3")]), 2);
    // The process's: not left behind for other tests.
    assert_eq!(kept(&[("CACHEKIT_L1_TOTAL_MB", "1000000")]), 4);
}

#[test]
fn l1_is_sized_and_switched_off() {
    let kept = |variables: &[(&str, &str)], bytes: usize| {
        let cache = built(variables)
            .and_then(CacheBuilder::build)
            .expect("good");
        cache
            .set_blocking("k", "x".repeat(bytes))
            .expect("no store");
        cache.get_blocking::<String>("k").is_some()
    };
    assert!(kept(&[], 2 << 20));
    assert!(kept(&[("CACHEKIT_L1_MAX_SIZE_MB", "1")], 1 << 10));
    assert!(!kept(&[("CACHEKIT_L1_MAX_SIZE_MB", "1")], 2 << 20));
    assert!(!kept(&[("CACHEKIT_L1_ENABLED", "false")], 1 << 10));
}

#[test]
fn the_timeout_bounds_what_a_call_spends() {
    // Nobody answers at this address, and nobody refuses either.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("redis://{}", listener.local_addr().expect("bound"));
    let cache = built(&[("REDIS_URL", &url), ("CACHEKIT_SOCKET_TIMEOUT", "0.05")])
        .and_then(CacheBuilder::build)
        .expect("good");
    let start = std::time::Instant::now();
    assert_eq!(cache.get_or_compute_blocking("k", two), Ok(2));
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(50), "{took:?}");
    assert!(took < Duration::from_millis(900), "{took:?}");
}

#[cfg(feature = "encryption")]
#[test]
fn what_is_wrong_with_keys_is_told_of_their_variable_and_no_key_is_shown() {
    let (key, short) = ("ab".repeat(32), "cd".repeat(31));
    let later = format!("{},{short}", "ef".repeat(32));
    let previous = |text: &str| refused(&[("CACHEKIT_PREVIOUS_MASTER_KEYS", text)]);
    let both = |text: &str| {
        refused(&[
            ("CACHEKIT_MASTER_KEY", &key),
            ("CACHEKIT_PREVIOUS_MASTER_KEYS", text),
        ])
    };
    for (error, begins) in [
        (
            refused(&[("CACHEKIT_MASTER_KEY", &short)]),
            "CACHEKIT_MASTER_KEY has 31 bytes",
        ),
        (
            previous("zz"),
            "CACHEKIT_PREVIOUS_MASTER_KEYS (key 1) is not hexadecimal",
        ),
        (
            previous(&later),
            "CACHEKIT_PREVIOUS_MASTER_KEYS (key 2) has 31 bytes",
        ),
        (
            both(&later),
            "CACHEKIT_PREVIOUS_MASTER_KEYS (key 2) has 31 bytes",
        ),
        (
            both(&key),
            "CACHEKIT_PREVIOUS_MASTER_KEYS has the same key twice",
        ),
    ] {
        assert!(error.starts_with(begins), "{error}");
        assert!(
            !error.contains("abab") && !error.contains("cdcd"),
            "{error}"
        );
    }
    let long = "x".repeat(1025);
    let error = refused(&[("CACHEKIT_DEPLOYMENT_UUID", &long)]);
    assert!(
        error.starts_with("CACHEKIT_DEPLOYMENT_UUID is not valid: text of at most 1024 bytes"),
        "{error}"
    );
    assert!(built(&[("CACHEKIT_DEPLOYMENT_UUID", &long[1..])]).is_ok());
}

#[cfg(not(any(feature = "encryption", feature = "lz4hc")))]
#[test]
fn what_is_asked_for_without_the_feature_is_told() {
    let hex = "ab".repeat(32);
    let error = refused(&[("CACHEKIT_MASTER_KEY", &hex)]);
    assert!(error.contains("\"encryption\""), "{error}");
    assert!(error.starts_with("CACHEKIT_MASTER_KEY"), "{error}");
    assert!(!error.contains(&hex), "{error}");
    let error = refused(&[("CACHEKIT_COMPRESSION_LEVEL", "9")]);
    assert!(error.contains("\"lz4hc\""), "{error}");
}
