//! All servers of a backend: which one gets a request, and what happens when it fails.

use std::borrow::Cow;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use super::command::{Command, Only, Replies};
use super::config::MemcachedConfig;
use super::key::fitted;
use super::life::at_most;
use super::lock;
use super::operations::Way;
use super::protocol::{Meta, Node, Request};
use super::reply::Reply;
use super::routing::{Order, Router};
use super::server::{Outdated, Server, Use};
use crate::error::{ErrorKind, Result};
use crate::net::{Address, Dial, Failure};

/// The longest life, in seconds, of what is stored on a server in place of another one.
const SUBSTITUTE_LIFE: i64 = 60;
/// How many requests are sent in one round trip at most.
pub(super) const AT_ONCE: usize = 256;
/// The pause before a request is tried once more, apart from the first time.
const RETRY: Duration = Duration::from_millis(20);

/// A key as it is stored, and the servers that it prefers.
pub(super) struct Place<'a> {
    pub(super) stored: Cow<'a, str>,
    order: Order,
}

/// The servers.
pub(super) struct Servers {
    list: Vec<Server>,
    router: Router,
    key_prefix: String,
    retry_attempts: u32,
}

/// What a request has been through.
#[derive(Default)]
struct Course {
    failures: u32,
}

/// A request as one server gets it.
struct Attempt<'a, 'b> {
    server: &'a Server,
    /// What it has missed, to be removed first.
    missed: Vec<Outdated>,
    batch: Cow<'b, [Command<'b>]>,
    /// Part of the time is kept for another server.
    is_probe: bool,
}

/// Where a request goes next.
enum Step {
    Done(Result<Replies>),
    Again(Duration),
}

impl Servers {
    pub(super) fn new(config: &MemcachedConfig) -> Self {
        let dial = Dial::new(config.connect_timeout, config.pool_size, config.tls.clone());
        let server = |address: &Address| {
            Server::new(Node::new(
                address.clone(),
                Meta(config.login.clone()),
                &dial,
            ))
        };
        Self {
            list: config.servers.iter().map(server).collect(),
            router: Router::new(config.routing, &config.servers),
            key_prefix: config.key_prefix.clone(),
            retry_attempts: config.retry_attempts,
        }
    }

    /// Where the item under `key` is. A lock is where its key is.
    pub(super) fn place<'a>(&self, key: &'a str) -> Place<'a> {
        let stored = |key: &'a str| {
            let whole: Cow<'a, str> = if self.key_prefix.is_empty() {
                key.into()
            } else {
                format!("{}{key}", self.key_prefix).into()
            };
            fitted(whole)
        };
        let order = match lock::key_of(key) {
            _ if matches!(self.router, Router::One) => Order::new(),
            Some(key) => self.router.order(&stored(key)),
            None => self.router.order(&stored(key)),
        };
        Place {
            stored: stored(key),
            order,
        }
    }

    /// Whether both places are on the same server for the time being.
    pub(super) fn are_together(&self, one: &Place<'_>, other: &Place<'_>) -> bool {
        let (one, other) = (self.preferred(one), self.preferred(other));
        matches!((one, other), (Some((one, _)), Some((other, _))) if one == other)
            || self.list.len() == 1
    }

    pub(super) fn all(&self) -> &[Server] {
        &self.list
    }

    /// The server that the place prefers, if it is well.
    pub(super) fn preferred(&self, place: &Place<'_>) -> Option<(usize, &Server)> {
        let first = place.order.first().map_or(0, |&index| usize::from(index));
        let server = &self.list[first];
        server.is_well().then_some((first, server))
    }

    /// The server that stands in for the place's first one, if there are several.
    pub(super) fn second(&self, place: &Place<'_>) -> Option<&Server> {
        let index = place.order.get(1)?;
        Some(&self.list[usize::from(*index)])
    }

    /// The servers that the place prefers to the one it has at the moment, the first one first.
    pub(super) fn passed<'s>(&'s self, place: &'s Place<'_>) -> impl Iterator<Item = &'s Server> {
        let order = place
            .order
            .iter()
            .map(|&index| &self.list[usize::from(index)]);
        order.take_while(|server| server.is_closed())
    }

    /// Whether a server that is left alone answers; then it is used again.
    pub(super) async fn is_back(&self, way: Way, server: &Server, timeout: Duration) -> bool {
        let batch = [Command::Version];
        let request = Request::new("version", &batch, timeout);
        let attempt = Attempt {
            server,
            missed: server.outdated(),
            batch: (&batch[..]).into(),
            is_probe: false,
        };
        let outcome = match way {
            Way::Blocking => attempt.send_blocking(&request),
            Way::Shared => attempt.send_shared(&request).await,
        };
        let answers = outcome.is_ok();
        if answers {
            attempt.answered();
        }
        answers
    }

    /// Runs requests on this server and no other; None where it did not answer.
    pub(super) fn ask_blocking(
        &self,
        server: &Server,
        operation: &'static str,
        batch: &[Command<'_>],
        timeout: Duration,
    ) -> Option<Replies> {
        let request = Request::new(operation, batch, timeout);
        (0..=self.retry_attempts).find_map(|_| {
            let attempt = Attempt::at(server, batch, request.deadline)?;
            let outcome = attempt.send_blocking(&request);
            self.note(&attempt, operation, outcome)
        })
    }

    /// As [`Self::ask_blocking`], on the runtime's shared connections.
    pub(super) async fn ask_shared(
        &self,
        server: &Server,
        operation: &'static str,
        batch: &[Command<'_>],
        timeout: Duration,
    ) -> Option<Replies> {
        let request = Request::new(operation, batch, timeout);
        for _ in 0..=self.retry_attempts {
            let attempt = Attempt::at(server, batch, request.deadline)?;
            let outcome = attempt.send_shared(&request).await;
            if let Some(replies) = self.note(&attempt, operation, outcome) {
                return Some(replies);
            }
        }
        None
    }

    /// Keeps the record of a server that was asked.
    fn note(
        &self,
        attempt: &Attempt<'_, '_>,
        operation: &'static str,
        outcome: std::result::Result<Vec<Reply>, Failure>,
    ) -> Option<Replies> {
        match outcome {
            Ok(replies) => {
                attempt.answered();
                Some(Replies::new(operation, replies))
            }
            Err(failure) => {
                if failure.lost {
                    attempt.server.failed(self.retry_attempts, Instant::now());
                }
                None
            }
        }
    }

    /// Runs requests that all concern `place`.
    pub(super) fn run_blocking(
        &self,
        operation: &'static str,
        place: &Place<'_>,
        batch: &[Command<'_>],
        timeout: Duration,
    ) -> Result<Replies> {
        let request = Request::new(operation, batch, timeout);
        let mut course = Course::default();
        loop {
            let attempt = self.attempt(place, batch);
            let request = attempt.request(&request);
            let outcome = attempt.send_blocking(&request);
            match self.judge(&mut course, &attempt, &request, outcome) {
                Step::Done(result) => return result,
                Step::Again(pause) => std::thread::sleep(pause),
            }
        }
    }

    /// As [`Self::run_blocking`], on the runtime's shared connections.
    pub(super) async fn run_shared(
        &self,
        operation: &'static str,
        place: &Place<'_>,
        batch: &[Command<'_>],
        timeout: Duration,
    ) -> Result<Replies> {
        let request = Request::new(operation, batch, timeout);
        let mut course = Course::default();
        loop {
            let attempt = self.attempt(place, batch);
            let request = attempt.request(&request);
            let outcome = attempt.send_shared(&request).await;
            match self.judge(&mut course, &attempt, &request, outcome) {
                Step::Done(result) => return result,
                Step::Again(pause) => tokio::time::sleep(pause).await,
            }
        }
    }

    /// The request for the server that should get it now: the first in the place's order that is
    /// not left alone, or else the first.
    fn attempt<'b>(&self, place: &Place<'_>, batch: &'b [Command<'b>]) -> Attempt<'_, 'b> {
        let now = Instant::now();
        let mut passed = Vec::new();
        for &index in &place.order {
            let server = &self.list[usize::from(index)];
            let is_probe = match server.admit(now) {
                Use::Closed => {
                    passed.push(server);
                    continue;
                }
                admitted => admitted == Use::Probe,
            };
            let missed = server.outdated();
            let batch = if passed.is_empty() {
                batch.into()
            } else {
                for key in batch.iter().filter_map(Command::changes) {
                    if lock::key_of(key).is_none() {
                        passed.iter().for_each(|server| server.missed(key));
                    }
                }
                batch
                    .iter()
                    .map(|command| for_substitute(*command))
                    .collect()
            };
            return Attempt {
                server,
                missed,
                batch,
                is_probe: is_probe && place.order.len() > 1,
            };
        }
        let first = place.order.first().map_or(0, |&index| usize::from(index));
        let server = &self.list[first];
        Attempt {
            server,
            missed: server.outdated(),
            batch: batch.into(),
            is_probe: false,
        }
    }

    fn judge(
        &self,
        course: &mut Course,
        attempt: &Attempt<'_, '_>,
        request: &Request<'_>,
        outcome: std::result::Result<Vec<Reply>, Failure>,
    ) -> Step {
        let failure = match outcome {
            Ok(replies) => {
                attempt.answered();
                return Step::Done(Ok(Replies::new(request.operation, replies)));
            }
            Err(failure) => failure,
        };
        if !failure.lost {
            return Step::Done(Err(failure.error));
        }
        let now = Instant::now();
        let several = self.list.len() > 1;
        let is_closed = several && attempt.server.failed(self.retry_attempts, now);
        course.failures += 1;
        let is_late = failure.error.kind() == ErrorKind::Timeout && !attempt.is_probe;
        let may_go_on = if is_closed {
            self.list.iter().any(|server| !server.is_closed())
        } else {
            course.failures <= self.retry_attempts
        };
        if is_late || !may_go_on {
            return Step::Done(Err(failure.error));
        }
        let pause = if is_closed || course.failures == 1 {
            Duration::ZERO
        } else {
            jittered(RETRY)
        };
        if now + pause >= request.deadline && !attempt.is_probe {
            return Step::Done(Err(failure.error));
        }
        Step::Again(pause)
    }
}

impl<'a, 'b> Attempt<'a, 'b> {
    /// The batch for this very server; None while it is left alone, or once the time is over.
    fn at(server: &'a Server, batch: &'b [Command<'b>], deadline: Instant) -> Option<Self> {
        let now = Instant::now();
        (now < deadline && server.admit(now) != Use::Closed).then(|| Self {
            server,
            missed: server.outdated(),
            batch: batch.into(),
            is_probe: false,
        })
    }

    fn request<'c>(&'c self, whole: &Request<'_>) -> Request<'c> {
        let request = whole.with(&self.batch[..]);
        if self.is_probe {
            request.share(2)
        } else {
            request
        }
    }

    /// The removal of what the server has missed.
    fn catching_up(&self) -> Vec<Command<'_>> {
        let missed = self.missed.iter();
        missed.map(|(key, _)| Command::delete(key)).collect()
    }

    fn send_blocking(&self, request: &Request<'_>) -> std::result::Result<Vec<Reply>, Failure> {
        let node = &self.server.node;
        for batch in self.catching_up().chunks(AT_ONCE) {
            node.call(&request.with(batch))?;
        }
        node.call(request)
    }

    async fn send_shared(&self, request: &Request<'_>) -> std::result::Result<Vec<Reply>, Failure> {
        let node = &self.server.node;
        for batch in self.catching_up().chunks(AT_ONCE) {
            node.call_async(&request.with(batch)).await?;
        }
        node.call_async(request).await
    }

    fn answered(&self) {
        self.server.removed(&self.missed);
        self.server.answered();
    }
}

/// The request as a server gets it that stands in for another one. What is stored there is not
/// looked for any more once the other one is back, and must be gone before that one fails again.
/// What is added has no life of its own and stays: it names a generation.
fn for_substitute(command: Command<'_>) -> Command<'_> {
    match command {
        Command::Set {
            key,
            value,
            life,
            only,
        } if only != Only::IfAbsent => Command::Set {
            key,
            value,
            life: at_most(life, SUBSTITUTE_LIFE),
            only,
        },
        Command::Touch { key, life } => Command::Touch {
            key,
            life: at_most(life, SUBSTITUTE_LIFE),
        },
        other => other,
    }
}

/// A random duration between half and one and a half of this one.
pub(super) fn jittered(mean: Duration) -> Duration {
    // Every `RandomState` has keys of its own.
    let random = RandomState::new().build_hasher().finish();
    mean / 2 + mean.mul_f64(random as f64 / u64::MAX as f64)
}
