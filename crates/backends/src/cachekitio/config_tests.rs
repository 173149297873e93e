use super::*;

const KEY: &str = "ck_test_verysecret";

fn refused(result: Result<CachekitIOConfig>) -> String {
    let error = result.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Permanent);
    error.to_string()
}

#[test]
fn only_the_managed_service_without_leave() {
    for url in [
        "https://api.cachekit.io",
        "https://API.CacheKit.io/",
        "https://eu.api.cachekit.io:8443/base/",
        "https://api.staging.cachekit.io",
    ] {
        CachekitIOConfig::new(url, KEY).unwrap_or_else(|error| panic!("{url}: {error}"));
    }
    for url in [
        "https://example.com",
        "https://api.cachekit.io.example.com",
        "https://notapi.cachekit.io",
        "https://cachekit.io",
        "https://api.cachekit.io.",
        "https://127.0.0.1",
        "https://2130706433",
        "https://0x7f000001",
        "https://[::1]",
        "https://localhost:8443",
    ] {
        let message = refused(CachekitIOConfig::new(url, KEY));
        assert!(
            message.contains("CACHEKIT_ALLOW_CUSTOM_HOST"),
            "{url}: {message}"
        );
        CachekitIOConfig::with_custom_host(url, KEY)
            .unwrap_or_else(|error| panic!("{url}: {error}"));
    }
}

#[test]
fn nothing_but_an_https_address() {
    for (url, why) in [
        ("http://api.cachekit.io", "https://"),
        ("ftp://api.cachekit.io", "https://"),
        ("api.cachekit.io", "no scheme"),
        ("", "not a URL"),
        ("https://", "not a URL"),
        ("https://user:hunter2@api.cachekit.io", "user or password"),
        ("https://api.cachekit.io@evil.example", "user or password"),
        ("https://api.cachekit.io/?next=http://hunter2", "? or #"),
        ("https://api.cachekit.io/#x", "? or #"),
        ("https://api.cachekit.io:0", "port"),
        ("https://api.cachekit.io:70000", "port"),
        ("https://api.cachekit.io:", "port"),
        ("https://api.cachekit.io\\@evil.example", "not a URL"),
        ("https://api.cachekit.io/\r\nHost: x", "not a URL"),
    ] {
        for result in [
            CachekitIOConfig::new(url, KEY),
            CachekitIOConfig::with_custom_host(url, KEY),
        ] {
            let message = refused(result);
            assert!(message.contains(why), "{url}: {message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
    }
}

#[test]
fn the_parts_of_a_url() {
    let endpoint = |url| {
        CachekitIOConfig::with_custom_host(url, KEY)
            .expect("a good URL")
            .endpoint
    };
    let parts = endpoint(" https://[::1]:8443/base// ");
    assert_eq!((&*parts.host, parts.port), ("::1", 8443));
    assert_eq!(parts.base, "https://[::1]:8443/base");
    let parts = endpoint("https://Cache.Example");
    assert_eq!((&*parts.host, parts.port), ("cache.example", 443));
    assert_eq!(parts.base, "https://cache.example");
}

#[test]
fn the_key_is_never_shown() {
    let config = CachekitIOConfig::new(DEFAULT_URL, KEY).expect("a good configuration");
    assert_eq!(config.key(), KEY);
    assert!(!format!("{config:?}").contains("verysecret"));
    for key in [
        "",
        "ck_live_very secret",
        "ck_live_verysecret\r\nX: y",
        "verysécret",
    ] {
        let message = refused(CachekitIOConfig::new(DEFAULT_URL, key));
        assert!(!message.contains("ecret"), "{message}");
    }
}
