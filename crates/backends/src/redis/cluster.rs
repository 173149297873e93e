//! Which node of a cluster serves which slot.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::RwLock;

use super::command::{Command, Replies};
use super::node::{Node, Request, Role, Shared};
use super::reply::Reply;
use crate::error::{BackendError, ErrorKind, Result};
use crate::net::Address;

const SLOTS: usize = 16384;
/// No node is known.
const NOBODY: u16 = u16::MAX;

/// The cluster's nodes and who serves which slot, as far as known.
pub(super) struct Cluster {
    shared: Arc<Shared>,
    seeds: Vec<Arc<Node>>,
    map: RwLock<Map>,
    /// Spreads what any node can do.
    turn: AtomicUsize,
}

struct Map {
    nodes: Vec<Arc<Node>>,
    /// Index into `nodes` for every slot.
    slots: Vec<u16>,
}

impl Cluster {
    pub(super) fn new(seeds: &[Address], shared: &Arc<Shared>) -> Self {
        let node = |address: &Address| shared.node(address, Role::Store);
        Self {
            shared: Arc::clone(shared),
            seeds: seeds.iter().map(node).collect(),
            map: RwLock::new(Map {
                nodes: Vec::new(),
                slots: vec![NOBODY; SLOTS],
            }),
            turn: AtomicUsize::new(0),
        }
    }

    /// The nodes that are known to serve slots.
    pub(super) fn nodes(&self) -> Vec<Arc<Node>> {
        self.map.read().nodes.clone()
    }

    /// The node that serves the key; one after the other when there is no key.
    pub(super) fn node(&self, key: Option<&str>) -> Option<Arc<Node>> {
        let map = self.map.read();
        let index = match key {
            Some(key) => usize::from(map.slots[usize::from(slot_of(key.as_bytes()))]),
            None => self.turn.fetch_add(1, Ordering::Relaxed) % map.nodes.len().max(1),
        };
        map.nodes.get(index).cloned()
    }

    /// The node that a redirection (`<slot> <host>:<port>`) names. A lasting one is remembered.
    pub(super) fn redirected(&self, detail: &str, from: &Node, lasting: bool) -> Option<Arc<Node>> {
        let (slot, endpoint) = detail.split_once(' ')?;
        let (host, port) = endpoint.rsplit_once(':')?;
        let address = endpoint_address(host, port.parse().ok()?, &from.address);
        let slot: usize = slot.parse().ok().filter(|&slot| slot < SLOTS)?;
        let mut map = self.map.write();
        let index = map.index_of(&address, &self.shared)?;
        if lasting {
            map.slots[slot] = index;
        }
        Some(Arc::clone(&map.nodes[usize::from(index)]))
    }

    /// Asks one node after the other who serves which slot.
    pub(super) fn ask(&self, request: &Request<'_>) -> Result<()> {
        let known = self.map.read().nodes.clone();
        // The known nodes are the likelier ones; the URL's may be long gone.
        let candidates: Vec<&Arc<Node>> = known.iter().chain(&self.seeds).collect();
        let mut last = None;
        for (asked, node) in candidates.iter().enumerate() {
            let share = request.share(candidates.len() - asked);
            match self.ask_one(node, &share) {
                Ok(()) => return Ok(()),
                Err(error) => last = Some(error),
            }
            if Instant::now() >= request.deadline {
                break;
            }
        }
        Err(last.expect("a cluster has at least one address to ask"))
    }

    fn ask_one(&self, node: &Arc<Node>, request: &Request<'_>) -> Result<()> {
        let batch = [Command::new("CLUSTER").arg("SLOTS")];
        let request = Request {
            batch: &batch,
            ..*request
        };
        let replies = node.call(&request).map_err(|failure| failure.error)?;
        let ranges = Replies::new(request.operation, replies).array()?;
        let mut map = Map {
            nodes: Vec::new(),
            slots: vec![NOBODY; SLOTS],
        };
        // Nodes that stay keep their connections.
        let mut keep = self.map.read().nodes.clone();
        keep.push(Arc::clone(node));
        for range in &ranges {
            let (first, last, address) = parse_range(range, &node.address).ok_or_else(|| {
                BackendError::new(
                    ErrorKind::Permanent,
                    request.operation,
                    format!(
                        "the answer of {} to CLUSTER SLOTS is not understood",
                        node.address
                    ),
                )
            })?;
            if let Some(kept) = keep.iter().find(|kept| kept.address == address)
                && !map.nodes.iter().any(|listed| listed.address == address)
            {
                map.nodes.push(Arc::clone(kept));
            }
            if let Some(index) = map.index_of(&address, &self.shared) {
                map.slots[first..=last].fill(index);
            }
        }
        if map.nodes.is_empty() {
            return Err(BackendError::new(
                ErrorKind::Transient,
                request.operation,
                format!(
                    "{} knows nobody who serves a slot; is the cluster complete?",
                    node.address
                ),
            ));
        }
        *self.map.write() = map;
        Ok(())
    }
}

impl Map {
    /// The index of the node at `address`, which is added if it is new.
    fn index_of(&mut self, address: &Address, shared: &Arc<Shared>) -> Option<u16> {
        let found = self.nodes.iter().position(|node| node.address == *address);
        let index = found.unwrap_or_else(|| {
            self.nodes.push(shared.node(address, Role::Store));
            self.nodes.len() - 1
        });
        u16::try_from(index).ok().filter(|&index| index != NOBODY)
    }
}

/// First slot, last slot and master of one entry of CLUSTER SLOTS.
fn parse_range(range: &Reply, asked: &Address) -> Option<(usize, usize, Address)> {
    let Reply::Array(parts) = range else {
        return None;
    };
    let [
        Reply::Int(first),
        Reply::Int(last),
        Reply::Array(master),
        ..,
    ] = parts.as_slice()
    else {
        return None;
    };
    let [host, Reply::Int(port), ..] = master.as_slice() else {
        return None;
    };
    let (first, last) = (usize::try_from(*first).ok()?, usize::try_from(*last).ok()?);
    if first > last || last >= SLOTS {
        return None;
    }
    let host = match host {
        Reply::Nil => "",
        other => other.text()?,
    };
    Some((
        first,
        last,
        endpoint_address(host, u16::try_from(*port).ok()?, asked),
    ))
}

/// An endpoint without a host is on the host that was asked.
fn endpoint_address(host: &str, port: u16, asked: &Address) -> Address {
    let host = match asked {
        Address::Tcp { host: asked, .. } if host.is_empty() || host == "?" => asked.clone(),
        _ => host.to_owned(),
    };
    Address::Tcp { host, port }
}

/// Whether one server has both keys, whichever it is.
pub(super) fn are_together(one: &str, other: &str) -> bool {
    slot_of(one.as_bytes()) == slot_of(other.as_bytes())
}

/// The hash slot of a key: CRC-16/XMODEM of the key, or of its part in `{…}`, modulo 16384.
///
/// Format: <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>
fn slot_of(key: &[u8]) -> u16 {
    let tag = key.iter().position(|&b| b == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        let close = rest.iter().position(|&b| b == b'}')?;
        (close > 0).then(|| &rest[..close])
    });
    crc16(tag.unwrap_or(key)) % SLOTS as u16
}

fn crc16(bytes: &[u8]) -> u16 {
    const TABLE: [u16; 256] = {
        let mut table = [0; 256];
        let mut i = 0;
        while i < 256 {
            let mut crc = (i as u16) << 8;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 0x8000 != 0 {
                    (crc << 1) ^ 0x1021
                } else {
                    crc << 1
                };
                bit += 1;
            }
            table[i] = crc;
            i += 1;
        }
        table
    };
    bytes.iter().fold(0, |crc: u16, &byte| {
        (crc << 8) ^ TABLE[usize::from((crc >> 8) as u8 ^ byte)]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_cluster_specification() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(slot_of(b"123456789"), 0x31C3);
        assert_eq!(
            slot_of(b"{user1000}.following"),
            slot_of(b"{user1000}.followers")
        );
        assert_eq!(slot_of(b"foo{}{bar}"), crc16(b"foo{}{bar}") % 16384);
        assert_eq!(slot_of(b"foo{{bar}}zap"), slot_of(b"{bar"));
        assert_eq!(slot_of(b"foo{bar}{zap}"), slot_of(b"bar"));
        assert_eq!(slot_of(b"foo{bar"), crc16(b"foo{bar") % 16384);
    }

    #[test]
    fn endpoints_without_a_host_are_on_the_host_that_was_asked() {
        let asked = Address::Tcp {
            host: "a".into(),
            port: 1,
        };
        for (host, port, expected) in [
            ("", 2, "a:2"),
            ("?", 2, "a:2"),
            ("b", 2, "b:2"),
            ("::1", 2, "[::1]:2"),
        ] {
            assert_eq!(endpoint_address(host, port, &asked).to_string(), expected);
        }
    }

    #[test]
    fn ranges_that_make_no_sense_are_refused() {
        let asked = Address::Tcp {
            host: "a".into(),
            port: 1,
        };
        let range = |first, last, port| {
            let master = Reply::Array(vec![Reply::Nil, Reply::Int(port)]);
            Reply::Array(vec![Reply::Int(first), Reply::Int(last), master])
        };
        assert!(parse_range(&range(0, 16383, 7), &asked).is_some());
        for (first, last, port) in [(0, 16384, 7), (5, 4, 7), (-1, 4, 7), (0, 1, 70000)] {
            assert!(parse_range(&range(first, last, port), &asked).is_none());
        }
        assert!(parse_range(&Reply::Nil, &asked).is_none());
    }
}
