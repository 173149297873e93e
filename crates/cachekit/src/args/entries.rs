//! The entries of a map, in the order that the protocol gives their keys.

use std::cmp::Ordering;

use cachekit_wire::{
    interop,
    msgpack::{self, Reader, Sink, Token},
};

use super::{ArgsError, KeyBytes};

/// The extension type of a map whose keys the protocol does not order: pairs in the order of their
/// keys' bytes, as Python's arguments have it.
const UNORDERED: i8 = 7;

/// Where one entry begins, from the map's start: the key, then the value up to the next entry's key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) key: usize,
    pub(super) value: usize,
}

/// How a map's keys compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Text,
    Bytes,
    Numbers,
    /// The protocol takes such a key only alone.
    Alone,
    None,
}

fn order(key: Option<Token<'_>>, len: usize) -> Order {
    match key {
        Some(Token::Str(_)) => Order::Text,
        Some(Token::Bin(_)) => Order::Bytes,
        Some(Token::Bool(_) | Token::Int(_) | Token::UInt(_)) => Order::Numbers,
        // A NaN has no place among others.
        Some(Token::F64(v)) if v.is_nan() && len > 1 => Order::None,
        Some(Token::F64(_)) => Order::Numbers,
        Some(Token::Nil) if len == 1 => Order::Alone,
        _ => Order::None,
    }
}

fn number(key: Option<Token<'_>>) -> (i128, f64) {
    match key {
        Some(Token::Bool(v)) => (v.into(), f64::from(u8::from(v))),
        Some(Token::Int(v)) => (v.into(), v as f64),
        Some(Token::UInt(v)) => (v.into(), v as f64),
        Some(Token::F64(v)) => (v as i128, v),
        _ => unreachable!("only numbers are compared as such"),
    }
}

fn compare(a: Option<Token<'_>>, b: Option<Token<'_>>) -> Ordering {
    match (a, b) {
        (Some(Token::Str(a)), Some(Token::Str(b))) => a.cmp(b),
        (Some(Token::Bin(a)), Some(Token::Bin(b))) => a.cmp(b),
        (Some(Token::Nil), Some(Token::Nil)) => Ordering::Equal,
        (a, b) => {
            let ((a, near_a), (b, near_b)) = (number(a), number(b));
            // The whole parts decide, then the fractions.
            a.cmp(&b)
                .then_with(|| near_a.partial_cmp(&near_b).unwrap_or(Ordering::Equal))
        }
    }
}

/// Puts the entries that were written from `start` on in order, below a map's header.
pub(super) fn finish(out: &mut KeyBytes, start: usize, entries: &[Entry]) -> Result<(), ArgsError> {
    let written = out.split_off(start);
    let len = entries.len();
    let end = |at: usize| entries.get(at + 1).map_or(written.len(), |next| next.key);
    let token = |entry: &Entry| {
        Reader::new(&written[entry.key..entry.value])
            .next()
            .ok()
            .filter(|token| !matches!(token, Token::Array(_) | Token::Map(_) | Token::Ext(..)))
    };
    let mut orders = entries.iter().map(|entry| order(token(entry), len));
    let first = orders.next().unwrap_or(Order::Text);
    let common = if orders.all(|order| order == first) {
        first
    } else {
        Order::None
    };
    let mut sorted: Vec<usize> = (0..len).collect();
    if common == Order::None {
        sorted.sort_by_key(|&at| &written[entries[at].key..entries[at].value]);
        let pairs: Vec<u8> = sorted
            .iter()
            .flat_map(|&at| &written[entries[at].key..end(at)])
            .copied()
            .collect();
        super::canonical::count(pairs.len())?;
        msgpack::write_ext(out, UNORDERED, &pairs);
        return Ok(());
    }
    sorted.sort_by(|&a, &b| compare(token(&entries[a]), token(&entries[b])));
    msgpack::write_map_header(out, super::canonical::count(len)?);
    for at in sorted {
        out.extend(&written[entries[at].key..end(at)]);
    }
    Ok(())
}

/// Puts the values that were written from `start` on into an array, in their order.
pub(super) fn finish_flat(
    out: &mut KeyBytes,
    start: usize,
    entries: &[Entry],
) -> Result<(), ArgsError> {
    let written = out.split_off(start);
    msgpack::write_array_header(out, super::canonical::count(entries.len())?);
    for (at, entry) in entries.iter().enumerate() {
        let end = entries.get(at + 1).map_or(written.len(), |next| next.key);
        out.extend(&written[entry.value..end]);
    }
    Ok(())
}

/// Puts the entries that were written from `start` on into a map of interop mode.
pub(super) fn finish_text(
    out: &mut KeyBytes,
    start: usize,
    entries: &[Entry],
) -> Result<(), ArgsError> {
    let written = out.split_off(start);
    let mut pairs = Vec::with_capacity(entries.len());
    for (at, entry) in entries.iter().enumerate() {
        let end = entries.get(at + 1).map_or(written.len(), |next| next.key);
        let Ok(Token::Str(key)) = Reader::new(&written[entry.key..entry.value]).next() else {
            return Err(ArgsError(
                "the keys of a map are text in the interop data model".into(),
            ));
        };
        pairs.push((key, &written[entry.value..end]));
    }
    interop::write_map(out, &mut pairs);
    Ok(())
}

/// Whether every key of the map that `bytes` are is text.
pub(super) fn check_names(bytes: &[u8]) -> Result<(), ArgsError> {
    let refused = || ArgsError("the names of keyword arguments are text".into());
    let mut reader = Reader::new(bytes);
    let Ok(Token::Map(pairs)) = reader.next() else {
        return Err(refused());
    };
    for _ in 0..pairs {
        match reader.next() {
            Ok(Token::Str(_)) => msgpack::skip(&mut reader).map_err(|_| refused())?,
            _ => return Err(refused()),
        }
    }
    Ok(())
}
