//! Which server has which key.

use std::fmt;

use md5::{Digest, Md5};

use crate::net::Address;

/// How keys are spread over several servers. Clients that share entries must agree on it, on the
/// servers and on how these are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Routing {
    /// Highest random weight by MurmurHash3, as pymemcache's `HashClient` does by default.
    #[default]
    Rendezvous,
    /// A ring of 160 points per server by MD5, as libmemcached's `ketama_weighted` with equal
    /// weights, spymemcached and twemproxy do.
    Ketama,
}

impl Routing {
    /// The routing of this name: "rendezvous" or "ketama".
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "rendezvous" => Some(Self::Rendezvous),
            "ketama" => Some(Self::Ketama),
            _ => None,
        }
    }
}

/// The servers in the order in which a key prefers them, as indices.
pub(super) type Order = Vec<u16>;

/// Ranks servers for keys.
pub(super) enum Router {
    /// There is nothing to choose.
    One,
    /// The servers' names.
    Rendezvous(Vec<String>),
    /// Points of the ring in their order, each with its server; how many servers there are.
    Ketama(Vec<(u32, u16)>, usize),
}

impl Router {
    pub(super) fn new(routing: Routing, servers: &[Address]) -> Self {
        if let [_] = servers {
            return Self::One;
        }
        match routing {
            Routing::Rendezvous => Self::Rendezvous(servers.iter().map(plain_name).collect()),
            Routing::Ketama => {
                let mut points = Vec::with_capacity(servers.len() * POINTS);
                for (index, server) in (0..).zip(servers) {
                    let name = ring_name(server);
                    for part in 0..POINTS / 4 {
                        let digest = Md5::digest(format!("{name}-{part}"));
                        for four in digest.chunks_exact(4) {
                            points.push((little_endian(four), index));
                        }
                    }
                }
                points.sort_unstable();
                Self::Ketama(points, servers.len())
            }
        }
    }

    /// All servers, the one that should have the key first, then the one that has it if that one
    /// is gone, and so on.
    pub(super) fn order(&self, key: &str) -> Order {
        match self {
            // Nothing to choose is told by nothing, which needs no memory.
            Self::One => Vec::new(),
            Self::Rendezvous(names) => {
                let mut text = Vec::with_capacity(key.len() + 32);
                let mut ranked: Vec<(u32, &str, u16)> = (0..)
                    .zip(names)
                    .map(|(index, name)| {
                        text.clear();
                        text.extend_from_slice(name.as_bytes());
                        text.push(b'-');
                        text.extend_from_slice(key.as_bytes());
                        (murmur3(&text), name.as_str(), index)
                    })
                    .collect();
                ranked.sort_unstable_by(|a, b| b.cmp(a));
                ranked.into_iter().map(|(_, _, index)| index).collect()
            }
            Self::Ketama(points, count) => {
                let hash = little_endian(&Md5::digest(key)[..4]);
                let start = points.partition_point(|&(point, _)| point < hash);
                let mut order = Vec::with_capacity(*count);
                for &(_, index) in points[start..].iter().chain(&points[..start]) {
                    if !order.contains(&index) {
                        order.push(index);
                        if order.len() == *count {
                            break;
                        }
                    }
                }
                order
            }
        }
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::One => "One",
            Self::Rendezvous(_) => "Rendezvous",
            Self::Ketama(..) => "Ketama",
        })
    }
}

/// Points per server on the ring.
const POINTS: usize = 160;

/// A server as pymemcache names it: "host:port", or the path of its socket.
fn plain_name(server: &Address) -> String {
    match server {
        Address::Tcp { host, port } => format!("{host}:{port}"),
        Address::Unix(path) => path.display().to_string(),
    }
}

/// A server as libmemcached names it on the ring: without the usual port.
fn ring_name(server: &Address) -> String {
    match server {
        Address::Tcp { host, port: 11211 } => host.clone(),
        _ => plain_name(server),
    }
}

fn little_endian(four: &[u8]) -> u32 {
    u32::from_le_bytes(four.try_into().expect("four bytes"))
}

/// MurmurHash3, the 32-bit variant for x86, with seed 0.
fn murmur3(data: &[u8]) -> u32 {
    let scramble = |block: u32| {
        block
            .wrapping_mul(0xcc9e_2d51)
            .rotate_left(15)
            .wrapping_mul(0x1b87_3593)
    };
    let mut hash = 0u32;
    let blocks = data.chunks_exact(4);
    let rest = blocks.remainder();
    for block in blocks {
        hash ^= scramble(little_endian(block));
        hash = hash
            .rotate_left(13)
            .wrapping_mul(5)
            .wrapping_add(0xe654_6b64);
    }
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    hash ^= scramble(u32::from_le_bytes(last));
    hash ^= u32::try_from(data.len()).unwrap_or(u32::MAX);
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x85eb_ca6b);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

#[cfg(test)]
#[path = "routing_tests.rs"]
mod tests;
