//! What runs on a connection, so that one which rests or dawdles can be ended.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The other end of a connection and what it has asked for.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    next: u64,
    /// By number: when the answer must have been taken, once it is given.
    running: HashMap<u64, Option<Instant>>,
    /// Since when nothing runs.
    quiet: Instant,
}

/// What a connection deserves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Fine,
    /// It has rested for too long.
    Idle,
    /// It does not take an answer.
    Dawdles,
}

impl Peer {
    pub(crate) fn new(address: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            address,
            state: Mutex::new(State {
                next: 0,
                running: HashMap::new(),
                quiet: Instant::now(),
            }),
        })
    }

    /// A request has come.
    pub(crate) fn begin(self: &Arc<Self>) -> Exchange {
        let mut state = self.state.lock();
        let number = state.next;
        state.next += 1;
        state.running.insert(number, None);
        Exchange {
            peer: self.clone(),
            number,
        }
    }

    /// Looks at what runs. `first` is the time for the first request, `idle` that for the others.
    pub(super) fn judge(&self, now: Instant, first: Duration, idle: Duration) -> Verdict {
        let state = self.state.lock();
        if state.running.values().flatten().any(|limit| *limit < now) {
            return Verdict::Dawdles;
        }
        let patience = if state.next == 0 { first } else { idle };
        if state.running.is_empty() && now.saturating_duration_since(state.quiet) >= patience {
            return Verdict::Idle;
        }
        Verdict::Fine
    }
}

/// A request and its answer, until the answer has left. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Exchange {
    peer: Arc<Peer>,
    number: u64,
}

impl Exchange {
    /// The answer is given now and must be taken within `limit`.
    pub(crate) fn must_end_within(&self, limit: Duration) {
        let mut state = self.peer.state.lock();
        if let Some(running) = state.running.get_mut(&self.number) {
            *running = Some(Instant::now() + limit);
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let mut state = self.peer.state.lock();
        state.running.remove(&self.number);
        if state.running.is_empty() {
            state.quiet = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_rest_and_dawdle() {
        let peer = Peer::new("127.0.0.1:1".parse().unwrap());
        let (first, idle) = (Duration::from_secs(1), Duration::from_secs(60));
        let now = Instant::now();
        assert_eq!(peer.judge(now, first, idle), Verdict::Fine);
        assert_eq!(peer.judge(now + first * 2, first, idle), Verdict::Idle);
        let exchange = peer.begin();
        assert_eq!(peer.judge(now + idle * 9, first, idle), Verdict::Fine);
        exchange.must_end_within(Duration::from_secs(5));
        assert_eq!(peer.judge(now + first * 4, first, idle), Verdict::Fine);
        assert_eq!(peer.judge(now + first * 6, first, idle), Verdict::Dawdles);
        drop(exchange);
        assert_eq!(peer.judge(now + first * 6, first, idle), Verdict::Fine);
        assert_eq!(peer.judge(now + idle * 2, first, idle), Verdict::Idle);
    }
}
