use super::*;

fn load(
    file: &str,
    environment: &[(&str, &str)],
    flags: &[(&str, &str)],
) -> Result<Config, String> {
    let dir = cachekit_testkit::TempDir::new();
    let path = dir.path().join("server.toml");
    std::fs::write(&path, file).unwrap();
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect()
    };
    Config::load(Some(&path), pairs(environment), pairs(flags)).map_err(|error| error.to_string())
}

#[test]
fn the_tables_defaults_can_be_read_and_are_in_range() {
    let config = load("plain = true", &[], &[]).unwrap();
    assert_eq!(config.max_bytes, Size(1 << 30));
    assert_eq!(config.drain_timeout, Duration::from_secs(30));
    assert_eq!(config.key_path(), Path::new("cachekit-data/keys.json"));
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let file = "plain = true\nmax_entries = 1\nmax_streams = 2\nmax_connections = 3";
    let environment = [
        ("CACHEKIT_SERVER_MAX_STREAMS", "20"),
        ("CACHEKIT_SERVER_MAX_CONNECTIONS", "30"),
        ("CACHEKIT_SERVER_MAX_ENTRIES", ""),
    ];
    let config = load(file, &environment, &[("max_connections", "300")]).unwrap();
    assert_eq!(
        (
            config.max_entries,
            config.max_streams,
            config.max_connections
        ),
        (1, 20, 300)
    );
}

#[test]
fn errors_name_the_source() {
    let wrong = |file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]| {
        load(file, environment, flags).unwrap_err()
    };
    let error = wrong("max_bytes = \"much\"", &[], &[]);
    assert!(
        error.contains("max_bytes in") && error.contains("server.toml"),
        "{error}"
    );
    assert!(error.contains("\"much\" is not a size"), "{error}");
    let error = wrong("", &[("CACHEKIT_SERVER_MAX_BYTES", "1")], &[]);
    assert_eq!(
        error,
        "CACHEKIT_SERVER_MAX_BYTES: 1 is out of range; use 1MiB to 1024TiB"
    );
    let error = wrong("", &[], &[("drain_timeout", "soon")]);
    assert!(
        error.starts_with("--drain-timeout: \"soon\" is not a duration"),
        "{error}"
    );
    let error = wrong("max_byte = 1", &[], &[]);
    assert!(error.contains("no setting is called max_byte"), "{error}");
    let error = wrong("max_bytes = [1]", &[], &[]);
    assert!(error.contains("max_bytes must be"), "{error}");
    let error = wrong("max_bytes =", &[], &[]);
    assert!(error.contains("server.toml"), "{error}");
}

#[test]
fn settings_must_fit_each_other() {
    let wrong = |file: &str| load(file, &[], &[]).unwrap_err();
    assert!(wrong("").contains("tls_cert and tls_key are needed"));
    assert!(wrong("plain = true\nlisten = \"0.0.0.0:1\"").contains("loopback"));
    assert!(wrong("plain = true\nstore = \"redis\"").contains("needs redis_url"));
    let redis = "plain = true\nstore = \"redis\"\nredis_url = \"redis://:hunter2@h\"\n";
    assert!(wrong(&format!("{redis}tenant_max_bytes = 1")).contains("maxmemory"));
    assert!(wrong(&format!("{redis}[tenants.a]\nmax_entries = 1")).contains("maxmemory"));
    assert!(wrong("plain = true\nmax_in_flight = \"1MiB\"").contains("never fit"));
    assert!(wrong("plain = true\nlog_level = \"loud\"").contains("\"loud\" is not error"));
    let shown = format!("{:?}", load(redis, &[], &[]).unwrap());
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn tenants_have_sections() {
    let config = load(
        "plain = true\nrequests_per_second = 10\n[tenants.acme]\nmax_bytes = \"1MiB\"\ndefault_ttl = \"5m\"",
        &[],
        &[],
    )
    .unwrap();
    let limits = config.limits("acme");
    assert_eq!(limits.max_bytes, Some(1 << 20));
    assert_eq!(limits.default_ttl, Duration::from_secs(300));
    assert_eq!((limits.requests_per_second, limits.burst), (Some(10), 20));
    assert_eq!(config.limits("other").max_bytes, None);

    let error = load("plain = true\n[tenants.acme]\nmax_byte = 1", &[], &[]).unwrap_err();
    assert!(
        error.contains("tenants.acme.max_byte: a tenant has"),
        "{error}"
    );
    let error = load("plain = true\n[tenants.\"a b\"]\nburst = 1", &[], &[]).unwrap_err();
    assert!(error.contains("\"a b\""), "{error}");
    let error = load("plain = true\n[tenants.a]\nburst = 0", &[], &[]).unwrap_err();
    assert!(error.contains("tenants.a.burst: \"0\""), "{error}");
    let error = load("plain = true\n[tenants.a]\ndefault_ttl = \"31d\"", &[], &[]).unwrap_err();
    assert!(error.contains("1s to 30d"), "{error}");
}

#[test]
fn the_manual_has_the_table() {
    let manual = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/server.md");
    let manual = std::fs::read_to_string(manual).unwrap();
    let rows = SETTINGS.iter().map(|setting| {
        let range = match setting.range {
            Some((least, greatest)) => format!(" {least} to {greatest} "),
            None => "  ".to_owned(),
        };
        let default = if setting.default.is_empty() {
            "none"
        } else {
            setting.default
        };
        format!(
            "| `{}` | {default} |{range}| {} |\n",
            setting.name, setting.about
        )
    });
    let table: String = rows.collect();
    assert!(
        manual.contains(&table),
        "docs/server.md should have:\n{table}"
    );
}

#[test]
fn a_rate_of_nothing_is_refused() {
    for (name, flag) in [
        ("requests_per_second", "--requests-per-second"),
        ("burst", "--burst"),
    ] {
        let error = load("plain = true", &[], &[(name, "0")]).unwrap_err();
        assert!(
            error.starts_with(flag) && error.contains("above 0"),
            "{error}"
        );
    }
    let config = load("plain = true", &[], &[("requests_per_second", "none")]).unwrap();
    assert_eq!(config.requests_per_second, None);
}

#[test]
fn variables_that_no_setting_has_are_found() {
    let names = [
        "PATH",
        "CACHEKIT_SERVER_MAX_BITES",
        "CACHEKIT_SERVER_MAX_BYTES",
        "CACHEKIT_SERVER_CONFIG",
        "CACHEKIT_SERVER_LISTENS",
    ];
    assert_eq!(
        unknown_variables(names.map(str::to_owned)),
        ["CACHEKIT_SERVER_LISTENS", "CACHEKIT_SERVER_MAX_BITES"]
    );
}
