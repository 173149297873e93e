//! How a Redis server is: its version, memory and clients.

use std::time::{Duration, Instant};

use super::command::{Command, Replies};
use super::node::Request;
use crate::backend::{Detail, Health};
use crate::error::Result;

/// The facts that are taken from INFO.
const FACTS: [(&str, &str); 3] = [
    ("redis_version", "version"),
    ("used_memory_human", "used_memory_human"),
    ("connected_clients", "connected_clients"),
];

/// What is asked, in one round trip.
pub(super) fn commands() -> [Command<'static>; 2] {
    [Command::new("PING"), Command::new("INFO")]
}

/// The pool of blocking connections, as health reports show it.
pub(super) fn pool((idle, in_use): (usize, usize), size: usize) -> [(String, Detail); 3] {
    let count = |name: &str, number: usize| {
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        (name.to_owned(), Detail::Int(number))
    };
    [
        count("created_connections", idle + in_use),
        count("available_connections", size.saturating_sub(in_use)),
        count("in_use_connections", in_use),
    ]
}

/// Reads the answers. A user that may not ask for INFO gets fewer details.
pub(super) fn read(request: &Request<'_>, mut replies: Replies) -> Result<Health> {
    let left = request.deadline.saturating_duration_since(Instant::now());
    let latency = request.timeout.saturating_sub(left);
    let healthy = replies.done()?;
    let mut details = vec![
        ("backend_type".to_owned(), Detail::Text("redis".to_owned())),
        (
            "latency_ms".to_owned(),
            Detail::Float(milliseconds(latency)),
        ),
    ];
    if let Ok(Some(info)) = replies.value() {
        details.extend(facts(&String::from_utf8_lossy(&info)));
    }
    Ok(Health {
        healthy,
        latency,
        details,
    })
}

fn facts(info: &str) -> impl Iterator<Item = (String, Detail)> {
    FACTS.iter().filter_map(move |(name, shown)| {
        let line = info
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let value = line.trim();
        let detail = match value.parse() {
            Ok(number) => Detail::Int(number),
            Err(_) => Detail::Text(value.to_owned()),
        };
        Some(((*shown).to_owned(), detail))
    })
}

fn milliseconds(latency: Duration) -> f64 {
    latency.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_found() {
        let info = "# Server\r\nredis_version:7.0.15\r\n\r\nconnected_clients:3\r\nused_memory_human:1.5M\r\n";
        let found: Vec<_> = facts(info).collect();
        assert_eq!(
            found,
            [
                ("version".to_owned(), Detail::Text("7.0.15".to_owned())),
                (
                    "used_memory_human".to_owned(),
                    Detail::Text("1.5M".to_owned())
                ),
                ("connected_clients".to_owned(), Detail::Int(3)),
            ]
        );
        assert_eq!(facts("").count(), 0);
    }
}
