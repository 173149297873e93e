//! Look-ups of names, few at a time.
//!
//! The system's look-up blocks and knows no timeout, so it is done on threads of its own, which are left
//! behind when it takes too long. Callers of one name share its look-up: a name that nobody answers for
//! keeps one thread, and others are still found.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{LazyLock, mpsc};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout_at;

use crate::process::PerProcess;

/// How many look-ups run at a time in a process; more wait.
const AT_ONCE: usize = 8;

/// A host's addresses, looked up on behalf of the calling thread.
///
/// # Errors
/// `TimedOut` when the deadline passes; that of the look-up when there is no such name.
pub(crate) fn resolve(host: &str, port: u16, deadline: Instant) -> io::Result<Vec<SocketAddr>> {
    here().resolve(host, port, deadline)
}

/// As [`resolve`], for those who must not block their thread.
///
/// # Errors
/// Those of [`resolve`].
pub(crate) async fn resolve_async(
    host: &str,
    port: u16,
    deadline: Instant,
) -> io::Result<Vec<SocketAddr>> {
    here().resolve_async(host, port, deadline).await
}

/// This process's. A fork's child has none under way: its parent's do not come back there.
fn here() -> &'static Lookups {
    static LOOKUPS: LazyLock<PerProcess<Lookups>> =
        LazyLock::new(|| PerProcess::new(Lookups::new(by_the_system)));
    LOOKUPS.get(|| Lookups::new(by_the_system))
}

fn by_the_system(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok((host, port).to_socket_addrs()?.collect())
}

type Name = (String, u16);
/// What a look-up brought: addresses, or the error's kind and text.
type Answer = Result<Vec<SocketAddr>, (io::ErrorKind, String)>;

type Resolver = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

struct Lookups {
    resolver: Box<Resolver>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Those who wait for a name that is queued or being looked up.
    waiting: HashMap<Name, Vec<Waiter>>,
    queue: VecDeque<Name>,
    threads: usize,
}

struct Waiter {
    until: Instant,
    tell: Box<dyn FnOnce(Answer) + Send>,
}

impl Lookups {
    fn new(
        resolver: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            resolver: Box::new(resolver),
            state: Mutex::default(),
        }
    }

    fn resolve(
        &'static self,
        host: &str,
        port: u16,
        deadline: Instant,
    ) -> io::Result<Vec<SocketAddr>> {
        if let Some(address) = literal(host, port) {
            return Ok(vec![address]);
        }
        let (answer, answered) = mpsc::sync_channel(1);
        // Nobody listens any more when the deadline has passed.
        let tell = move |found| drop(answer.send(found));
        self.ask(host, port, deadline, Box::new(tell))?;
        let left = deadline.saturating_duration_since(Instant::now());
        told(host, answered.recv_timeout(left).ok())
    }

    async fn resolve_async(
        &'static self,
        host: &str,
        port: u16,
        deadline: Instant,
    ) -> io::Result<Vec<SocketAddr>> {
        if let Some(address) = literal(host, port) {
            return Ok(vec![address]);
        }
        let (answer, answered) = oneshot::channel();
        let tell = move |found| drop(answer.send(found));
        self.ask(host, port, deadline, Box::new(tell))?;
        let answered = timeout_at(deadline.into(), answered).await;
        told(host, answered.ok().and_then(Result::ok))
    }

    /// Has the name looked up, unless it is already, and the answer told.
    fn ask(
        &'static self,
        host: &str,
        port: u16,
        until: Instant,
        tell: Box<dyn FnOnce(Answer) + Send>,
    ) -> io::Result<()> {
        let name = (host.to_owned(), port);
        let waiter = Waiter { until, tell };
        let mut state = self.state.lock();
        let State {
            waiting,
            queue,
            threads,
        } = &mut *state;
        match waiting.entry(name.clone()) {
            Entry::Occupied(mut there) => {
                let now = Instant::now();
                there.get_mut().retain(|waiter| waiter.until > now);
                there.get_mut().push(waiter);
            }
            Entry::Vacant(place) => {
                if *threads < AT_ONCE {
                    let thread = std::thread::Builder::new().name("cachekit-lookup".to_owned());
                    match thread.spawn(|| self.work()) {
                        Ok(_) => *threads += 1,
                        // Those that run come to it.
                        Err(_) if *threads > 0 => {}
                        Err(error) => return Err(error),
                    }
                }
                place.insert(vec![waiter]);
                queue.push_back(name);
            }
        }
        Ok(())
    }

    /// Looks up names until there are none.
    fn work(&self) {
        while let Some(name) = self.next() {
            let found = (self.resolver)(&name.0, name.1);
            let answer = found.map_err(|error| (error.kind(), error.to_string()));
            let waiters = self.state.lock().waiting.remove(&name);
            for waiter in waiters.unwrap_or_default() {
                (waiter.tell)(answer.clone());
            }
        }
    }

    /// The next name that somebody still waits for; without one, the thread counts as gone.
    fn next(&self) -> Option<Name> {
        let mut state = self.state.lock();
        let now = Instant::now();
        while let Some(name) = state.queue.pop_front() {
            let waiters = state.waiting.get(&name);
            if waiters.is_some_and(|all| all.iter().any(|waiter| waiter.until > now)) {
                return Some(name);
            }
            state.waiting.remove(&name);
        }
        state.threads -= 1;
        None
    }
}

/// The address that a host is without any look-up.
fn literal(host: &str, port: u16) -> Option<SocketAddr> {
    let ip: IpAddr = host.parse().ok()?;
    Some(SocketAddr::new(ip, port))
}

/// The result of a look-up; `None` is one that took too long.
fn told(host: &str, answer: Option<Answer>) -> io::Result<Vec<SocketAddr>> {
    let (kind, message) = match answer {
        Some(Ok(addresses)) => return Ok(addresses),
        Some(Err((kind, error))) => (kind, format!("the name '{host}' was not found: {error}")),
        None => (
            io::ErrorKind::TimedOut,
            format!("the name '{host}' was not looked up in time; check the name service"),
        ),
    };
    Err(io::Error::new(kind, message))
}

#[cfg(test)]
#[path = "lookup_tests.rs"]
mod tests;
