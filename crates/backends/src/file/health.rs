//! What a health check tells of a store.

use std::time::Duration;

use super::config::FileConfig;
use super::layout::Header;
use crate::backend::{Detail, Health};

pub(super) fn report(config: &FileConfig, header: Header, latency: Duration) -> Health {
    let text = |text: String| Detail::Text(text);
    let int = |number: u64| Detail::Int(number.try_into().unwrap_or(i64::MAX));
    let details = [
        ("backend_type", text("file".to_owned())),
        ("latency_ms", Detail::Float(latency.as_secs_f64() * 1e3)),
        ("directory", text(config.directory.display().to_string())),
        ("entries", int(header.entries.into())),
        ("max_entries", int(config.max_entries.into())),
        ("used_bytes", int(header.bytes)),
        ("max_bytes", int(config.max_bytes)),
    ];
    Health {
        healthy: true,
        latency,
        details: details
            .map(|(name, detail)| (name.to_owned(), detail))
            .into(),
    }
}
