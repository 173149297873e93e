//! The tables. Change `cachekit.config.fields` with them.

use cachekit_wire::encryption::MAX_TENANT_BYTES;

use super::{Kind, Range, Setting};

const ANY: Range = Range {
    least: None,
    above: None,
    most: None,
};

const fn least(least: f64) -> Range {
    Range {
        least: Some(least),
        ..ANY
    }
}

const fn above(above: f64) -> Range {
    Range {
        above: Some(above),
        ..ANY
    }
}

/// A timeout in seconds: more than a year is none.
const TIMEOUT: Range = Range {
    most: Some(31_536_000.0),
    ..above(0.0)
};

const fn between(least: f64, most: f64) -> Range {
    Range {
        least: Some(least),
        most: Some(most),
        ..ANY
    }
}

const fn setting(
    name: &'static str,
    variables: &'static [&'static str],
    kind: Kind,
    default: Option<&'static str>,
) -> Setting {
    Setting {
        name,
        variables,
        kind,
        default,
        secret: false,
    }
}

const fn secret(
    name: &'static str,
    variables: &'static [&'static str],
    default: Option<&'static str>,
) -> Setting {
    Setting {
        secret: true,
        ..setting(name, variables, Kind::Text, default)
    }
}

const REDIS_URL: Setting = secret(
    "redis_url",
    &["CACHEKIT_REDIS_URL", "REDIS_URL"],
    Some("redis://localhost:6379"),
);
const CONNECTION_POOL_SIZE: Setting = setting(
    "connection_pool_size",
    &["CACHEKIT_CONNECTION_POOL_SIZE"],
    Kind::Integer(above(0.0)),
    Some("10"),
);
const SOCKET_TIMEOUT: Setting = setting(
    "socket_timeout",
    &["CACHEKIT_SOCKET_TIMEOUT"],
    Kind::Number(TIMEOUT),
    Some("1.0"),
);
const SOCKET_CONNECT_TIMEOUT: Setting = setting(
    "socket_connect_timeout",
    &["CACHEKIT_SOCKET_CONNECT_TIMEOUT"],
    Kind::Number(TIMEOUT),
    Some("1.0"),
);

/// How Redis is reached.
pub const REDIS: &[Setting] = &[
    REDIS_URL,
    CONNECTION_POOL_SIZE,
    SOCKET_TIMEOUT,
    SOCKET_CONNECT_TIMEOUT,
];

/// The account at a CachekitIO service, and how it is reached.
pub const CACHEKITIO: &[Setting] = &[
    setting(
        "api_url",
        &["CACHEKIT_API_URL"],
        Kind::Text,
        Some("https://api.cachekit.io"),
    ),
    secret("api_key", &["CACHEKIT_API_KEY"], None),
    setting(
        "timeout",
        &["CACHEKIT_TIMEOUT"],
        Kind::Number(TIMEOUT),
        Some("5.0"),
    ),
    setting(
        "max_retries",
        &["CACHEKIT_MAX_RETRIES"],
        Kind::Integer(least(0.0)),
        Some("3"),
    ),
    CONNECTION_POOL_SIZE,
    setting(
        "allow_custom_host",
        &["CACHEKIT_ALLOW_CUSTOM_HOST"],
        Kind::Boolean,
        Some("false"),
    ),
];

/// A directory of entries and what it may hold. Without `cache_dir` it is `cachekit` in the system's
/// directory for temporary files.
pub const FILE: &[Setting] = &[
    setting("cache_dir", &["CACHEKIT_FILE_CACHE_DIR"], Kind::Text, None),
    setting(
        "max_size_mb",
        &["CACHEKIT_FILE_MAX_SIZE_MB"],
        Kind::Integer(between(1.0, 1_000_000.0)),
        Some("1024"),
    ),
    setting(
        "max_value_mb",
        &["CACHEKIT_FILE_MAX_VALUE_MB"],
        Kind::Integer(least(1.0)),
        Some("100"),
    ),
    setting(
        "max_entry_count",
        &["CACHEKIT_FILE_MAX_ENTRY_COUNT"],
        Kind::Integer(between(100.0, 1_000_000.0)),
        Some("10000"),
    ),
    setting(
        "lock_timeout_seconds",
        &["CACHEKIT_FILE_LOCK_TIMEOUT_SECONDS"],
        Kind::Number(between(0.5, 30.0)),
        Some("5.0"),
    ),
    setting(
        "permissions",
        &["CACHEKIT_FILE_PERMISSIONS"],
        Kind::Mode(0o600),
        Some("0600"),
    ),
    setting(
        "dir_permissions",
        &["CACHEKIT_FILE_DIR_PERMISSIONS"],
        Kind::Mode(0o700),
        Some("0700"),
    ),
];

/// Memcached servers and how they are reached.
pub const MEMCACHED: &[Setting] = &[
    setting(
        "servers",
        &["CACHEKIT_MEMCACHED_SERVERS"],
        Kind::Servers,
        Some(r#"["127.0.0.1:11211"]"#),
    ),
    setting(
        "connect_timeout",
        &["CACHEKIT_MEMCACHED_CONNECT_TIMEOUT"],
        Kind::Number(between(0.1, 30.0)),
        Some("2.0"),
    ),
    setting(
        "timeout",
        &["CACHEKIT_MEMCACHED_TIMEOUT"],
        Kind::Number(between(0.1, 30.0)),
        Some("1.0"),
    ),
    setting(
        "max_pool_size",
        &["CACHEKIT_MEMCACHED_MAX_POOL_SIZE"],
        Kind::Integer(between(1.0, 100.0)),
        Some("10"),
    ),
    setting(
        "retry_attempts",
        &["CACHEKIT_MEMCACHED_RETRY_ATTEMPTS"],
        Kind::Integer(between(0.0, 10.0)),
        Some("2"),
    ),
    setting(
        "key_prefix",
        &["CACHEKIT_MEMCACHED_KEY_PREFIX"],
        Kind::Text,
        Some(""),
    ),
    setting(
        "max_item_size_bytes",
        &["CACHEKIT_MEMCACHED_MAX_ITEM_SIZE_BYTES"],
        Kind::Integer(least(0.0)),
        Some("1048576"),
    ),
];

/// The settings of a process, Redis among them.
pub const PROCESS: &[Setting] = &[
    REDIS_URL,
    CONNECTION_POOL_SIZE,
    SOCKET_TIMEOUT,
    SOCKET_CONNECT_TIMEOUT,
    setting(
        "default_ttl",
        &["CACHEKIT_DEFAULT_TTL"],
        Kind::Integer(above(0.0)),
        Some("3600"),
    ),
    setting(
        "max_value_size",
        &["CACHEKIT_MAX_VALUE_SIZE"],
        Kind::Integer(above(0.0)),
        Some("104857600"),
    ),
    setting(
        "max_chunk_size_mb",
        &["CACHEKIT_MAX_CHUNK_SIZE_MB"],
        Kind::Integer(above(0.0)),
        Some("50"),
    ),
    setting(
        "enable_compression",
        &["CACHEKIT_ENABLE_COMPRESSION"],
        Kind::Boolean,
        Some("true"),
    ),
    setting(
        "compression_level",
        &["CACHEKIT_COMPRESSION_LEVEL"],
        Kind::Integer(between(1.0, 9.0)),
        None,
    ),
    setting(
        "arrow_compression",
        &["CACHEKIT_ARROW_COMPRESSION"],
        Kind::Choice(&["zstd", "lz4", "none"]),
        Some("zstd"),
    ),
    setting(
        "l1_enabled",
        &["CACHEKIT_L1_ENABLED"],
        Kind::Boolean,
        Some("true"),
    ),
    setting(
        "l1_max_size_mb",
        &["CACHEKIT_L1_MAX_SIZE_MB"],
        Kind::Integer(least(1.0)),
        Some("100"),
    ),
    setting(
        "l1_total_mb",
        &["CACHEKIT_L1_TOTAL_MB"],
        Kind::Integer(least(1.0)),
        None,
    ),
    setting(
        "disabled",
        &["CACHEKIT_DISABLED"],
        Kind::Boolean,
        Some("false"),
    ),
    secret("master_key", &["CACHEKIT_MASTER_KEY"], None),
    Setting {
        kind: Kind::Keys,
        ..secret(
            "previous_master_keys",
            &["CACHEKIT_PREVIOUS_MASTER_KEYS"],
            Some(""),
        )
    },
    setting(
        "encryption_fail_closed",
        &["CACHEKIT_ENCRYPTION_FAIL_CLOSED"],
        Kind::Boolean,
        Some("false"),
    ),
    setting(
        "deployment_uuid",
        &["CACHEKIT_DEPLOYMENT_UUID"],
        Kind::Name(MAX_TENANT_BYTES),
        None,
    ),
    setting(
        "encryption",
        &["CACHEKIT_ENCRYPTION"],
        Kind::Choice(&["all"]),
        None,
    ),
];
