//! A report as text and as JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::entry::{Content, Entry};
use super::{KINDS, Report};
use crate::text::{plain, size, span, table};

pub(super) fn text(report: &Report, limit: usize) -> String {
    let counts = KINDS
        .iter()
        .zip(report.counts)
        .filter(|(_, count)| *count > 0);
    let counts: Vec<String> = counts
        .map(|(kind, count)| match (*kind, count) {
            ("cleared" | "expired" | "damaged", _) | (_, 1) => format!("{count} {kind}"),
            (kind, _) => format!("{count} {kind}s"),
        })
        .collect();
    let counts = match counts.is_empty() {
        true => "nothing".to_owned(),
        false => counts.join(", "),
    };
    let mut out = format!(
        "{}: {counts}; {} on the disk\n",
        plain(&report.directory.to_string_lossy()),
        size(report.store.bytes)
    );
    for note in notes(report) {
        out.push_str(&format!("- {note}\n"));
    }
    let functions = functions(&report.entries);
    if !functions.is_empty() {
        out.push('\n');
        let head = ["FUNCTION", "NAMESPACE", "TENANT", "ENTRIES", "SIZE"];
        out.push_str(&table(&head, &functions));
    }
    let shown = match limit {
        0 => &report.entries[..],
        limit => &report.entries[..limit.min(report.entries.len())],
    };
    if !shown.is_empty() {
        out.push('\n');
        let head = ["KIND", "SIZE", "ON DISK", "AGE", "LEFT", "CONTENT", "KEY"];
        out.push_str(&table(&head, &shown.iter().map(row).collect::<Vec<_>>()));
    }
    if let more @ 1.. = report.entries.len() - shown.len() {
        out.push_str(&format!("… and {more} more; --limit 0 shows all\n"));
    }
    out
}

/// What is to be explained of the directory as a whole.
fn notes(report: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    if report.count("damaged") > 0 {
        notes.push(
            "damaged: does not verify, as after a writer that was killed while it replaced the entry, or a \
             change by another program; it is never given out, and is replaced when its key is stored again"
                .to_owned(),
        );
    }
    if report.count("free-lock") > 0 {
        notes.push("free-lock: its holder has ended; whoever asks for it next gets it".to_owned());
    }
    if report.count("cleared") > 0 {
        notes.push(
            "cleared: stored before its function was cleared, or before the item that names the generation \
             was lost; never given out, and removed when its life ends"
                .to_owned(),
        );
    }
    if report.count("expired") > 0 {
        notes.push("expired: never given out; its room is used again".to_owned());
    }
    if report.store.interrupted {
        notes.push(
            "a writer was killed in the middle of a change; the next writer puts it in order"
                .to_owned(),
        );
    }
    if !report.store.abandoned.is_empty() {
        notes.push(format!(
            "left by killed writers, and removed when the directory is next opened or put in order: {}",
            listed(&report.store.abandoned)
        ));
    }
    if !report.store.foreign.is_empty() {
        notes.push(format!(
            "not the File backend's, and never touched by it: {}",
            listed(&report.store.foreign)
        ));
    }
    notes
}

/// The first names of many.
fn listed(names: &[String]) -> String {
    const FIRST: usize = 5;
    let shown: Vec<String> = names.iter().take(FIRST).map(|name| plain(name)).collect();
    match names.len().saturating_sub(FIRST) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Sums per function.
fn functions(entries: &[Entry]) -> Vec<Vec<String>> {
    let mut sums: BTreeMap<_, (usize, u64)> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.kind == "value") {
        if let Some(function) = &entry.function {
            let sum = sums
                .entry((function, &entry.namespace, &entry.tenant))
                .or_default();
            *sum = (sum.0 + 1, sum.1 + entry.size);
        }
    }
    let or_dash = |name: &Option<String>| name.as_deref().map_or("-".to_owned(), plain);
    let row = |((function, namespace, tenant), (count, bytes)): ((&String, _, _), (usize, u64))| {
        vec![
            plain(function),
            or_dash(namespace),
            or_dash(tenant),
            count.to_string(),
            size(bytes),
        ]
    };
    sums.into_iter().map(row).collect()
}

fn row(entry: &Entry) -> Vec<String> {
    vec![
        entry.kind.to_owned(),
        size(entry.size),
        size(entry.on_disk),
        entry.age.map_or("-".to_owned(), span),
        entry.left.map_or("for ever".to_owned(), span),
        plain(&entry.content.words()),
        plain(&entry.key),
    ]
}

/// The same for programs: bytes, and seconds. `limit` 0 is all.
pub(super) fn json(report: &Report, limit: usize) -> Value {
    let counts = KINDS.iter().zip(report.counts);
    let counts: serde_json::Map<_, _> = counts
        .map(|(kind, count)| ((*kind).to_owned(), count.into()))
        .collect();
    let limit = if limit == 0 { usize::MAX } else { limit };
    json!({
        "directory": report.directory.to_string_lossy(),
        "sound": report.is_sound(),
        "bytes_on_disk": report.store.bytes,
        "counts": counts,
        "interrupted": report.store.interrupted,
        "abandoned_files": report.store.abandoned,
        "foreign": report.store.foreign,
        "matching": report.entries.len(),
        "entries": report.entries.iter().take(limit).map(entry).collect::<Vec<_>>(),
    })
}

fn entry(entry: &Entry) -> Value {
    let mut shown = json!({
        "key": entry.key,
        "kind": entry.kind,
        "tenant": entry.tenant,
        "namespace": entry.namespace,
        "function": entry.function,
        "size": entry.size,
        "size_on_disk": entry.on_disk,
        "age_seconds": entry.age.map(|age| age.as_secs()),
        "left_seconds": entry.left.map(|left| left.as_secs_f64()),
        "file": entry.file,
    });
    if let Some(header) = entry.header() {
        shown["header"] = json!({
            "serializer": header.serializer.name(),
            "format": header.format,
            "original_type": header.original_type,
            "compressed": header.compressed,
            "encrypted": header.encrypted,
            "tenant_id": header.tenant_id,
            "encryption_algorithm": header.encryption_algorithm,
            "key_fingerprint": header.key_fingerprint,
        });
    } else if !matches!(entry.content, Content::None) {
        shown["content"] = entry.content.words().into();
    }
    if let Content::Other(error) = &entry.content {
        shown["problem"] = error.to_string().into();
    }
    shown
}
