//! Which server gets a command, and where it goes when that server cannot serve it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::cluster::Cluster;
use super::command::{Command, Replies};
use super::config::{Layout, RedisConfig};
use super::node::{Node, Request, Role, Shared};
use super::reply::Reply;
use super::sentinel::Sentinels;
use crate::error::{BackendError, ErrorKind, Result};
use crate::net::Failure;

/// How often a command follows redirections before it gives up.
const MAX_REDIRECTS: u32 = 8;
/// How long an answer about masters or slots is believed although a server seems lost.
const BELIEVED: Duration = Duration::from_secs(1);

/// The servers of a backend in their arrangement.
pub(super) struct Topology {
    arrangement: Arrangement,
    inquiry: Mutex<Inquiry>,
    /// Held by the one blocking caller that asks.
    turn: Mutex<()>,
    /// Held by the one asynchronous caller that asks.
    async_turn: tokio::sync::Mutex<()>,
}

enum Arrangement {
    Single(Arc<Node>),
    Sentinel(Sentinels),
    Cluster(Cluster),
}

/// What is known about the last time the servers were asked for their arrangement.
#[derive(Default)]
struct Inquiry {
    last: Option<(Instant, Result<()>)>,
    /// A server seemed lost or demoted since then.
    doubtful: bool,
}

/// What a command has been through.
#[derive(Default)]
struct Course {
    redirects: u32,
    /// The next server must be told that the slot is on its way to it.
    asking: bool,
    found_again: bool,
}

/// Where a command goes next.
enum Step {
    Done(Result<Vec<Reply>>),
    At(Arc<Node>),
    FindAgain,
}

impl Topology {
    pub(super) fn new(config: &RedisConfig) -> Self {
        let shared = Shared::new(config.clone());
        let arrangement = match &config.layout {
            Layout::Single(address) => Arrangement::Single(shared.node(address, Role::Store)),
            Layout::Sentinel { sentinels, service } => {
                Arrangement::Sentinel(Sentinels::new(sentinels, service, &shared))
            }
            Layout::Cluster(seeds) => Arrangement::Cluster(Cluster::new(seeds, &shared)),
        };
        Self {
            arrangement,
            inquiry: Mutex::default(),
            turn: Mutex::default(),
            async_turn: tokio::sync::Mutex::default(),
        }
    }

    /// Whether keys are spread over servers, so that two keys cannot share a round trip.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.arrangement, Arrangement::Cluster(_))
    }

    /// The pooled connections to all servers that hold entries: idle and in use.
    pub(super) fn connections(&self) -> (usize, usize) {
        let nodes = match &self.arrangement {
            Arrangement::Single(node) => vec![Arc::clone(node)],
            Arrangement::Sentinel(sentinels) => sentinels.known_master().into_iter().collect(),
            Arrangement::Cluster(cluster) => cluster.nodes(),
        };
        let counts = nodes.iter().map(|node| node.connections());
        counts.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
    }

    /// Runs the commands, which all concern `key`, on the server that has it.
    pub(super) fn run(&self, key: Option<&str>, request: &Request<'_>) -> Result<Replies> {
        let mut course = Course::default();
        let mut node = self.find(key, request)?;
        loop {
            let outcome = if course.asking {
                let batch = with_asking(request.batch);
                node.call(&Request {
                    batch: &batch,
                    ..*request
                })
                .map(without_asking)
            } else {
                node.call(request)
            };
            node = match self.judge(&mut course, &node, outcome) {
                Step::Done(result) => {
                    return result.map(|replies| Replies::new(request.operation, replies));
                }
                Step::At(next) => next,
                Step::FindAgain => self.find(key, request)?,
            };
        }
    }

    /// As [`Self::run`], on the runtime's multiplexed connections.
    pub(super) async fn run_async(
        self: &Arc<Self>,
        key: Option<&str>,
        request: &Request<'_>,
    ) -> Result<Replies> {
        let mut course = Course::default();
        let mut node = self.find_async(key, request).await?;
        loop {
            let outcome = if course.asking {
                let batch = with_asking(request.batch);
                let asking = Request {
                    batch: &batch,
                    ..*request
                };
                node.call_async(&asking).await.map(without_asking)
            } else {
                node.call_async(request).await
            };
            node = match self.judge(&mut course, &node, outcome) {
                Step::Done(result) => {
                    return result.map(|replies| Replies::new(request.operation, replies));
                }
                Step::At(next) => next,
                Step::FindAgain => self.find_async(key, request).await?,
            };
        }
    }

    /// The server for a key, which the sentinels or the cluster are asked for when it is unknown
    /// or in doubt.
    fn find(&self, key: Option<&str>, request: &Request<'_>) -> Result<Arc<Node>> {
        let known = self.known(key);
        if let Some(node) = &known
            && !self.is_doubtful()
        {
            return Ok(Arc::clone(node));
        }
        let since = Instant::now();
        let turn = match &known {
            // Somebody is asking already.
            Some(node) => match self.turn.try_lock() {
                Some(turn) => turn,
                None => return Ok(Arc::clone(node)),
            },
            None => match self.turn.try_lock_until(request.deadline) {
                Some(turn) => turn,
                None => return Err(late(request)),
            },
        };
        // A call that could do without the answer keeps time for itself.
        let share = request.share(if known.is_some() { 2 } else { 1 });
        let asked = self.ask(since, &share);
        drop(turn);
        self.settle(key, known, asked, request)
    }

    /// As [`Self::find`]. Asking is rare, so it is done by the blocking code on a thread of the
    /// runtime's.
    pub(super) async fn find_async(
        self: &Arc<Self>,
        key: Option<&str>,
        request: &Request<'_>,
    ) -> Result<Arc<Node>> {
        let known = self.known(key);
        if let Some(node) = &known
            && !self.is_doubtful()
        {
            return Ok(Arc::clone(node));
        }
        let since = Instant::now();
        let deadline = request.deadline.into();
        let _turn = match &known {
            Some(node) => match self.async_turn.try_lock() {
                Ok(turn) => turn,
                Err(_) => return Ok(Arc::clone(node)),
            },
            None => tokio::time::timeout_at(deadline, self.async_turn.lock())
                .await
                .map_err(|_| late(request))?,
        };
        if let Some(asked) = self.answer_since(since) {
            return self.settle(key, known, asked, request);
        }
        let topology = Arc::clone(self);
        let (operation, timeout) = (request.operation, request.timeout);
        let until = request.share(if known.is_some() { 2 } else { 1 }).deadline;
        let asking = tokio::task::spawn_blocking(move || {
            let request = Request {
                operation,
                batch: &[],
                timeout,
                deadline: until,
            };
            match topology.turn.try_lock_until(until) {
                Some(_turn) => topology.ask(since, &request),
                None => Err(late(&request)),
            }
        });
        let asked = match tokio::time::timeout_at(until.into(), asking).await {
            Ok(Ok(asked)) => asked,
            Ok(Err(stopped)) => Err(BackendError::new(
                ErrorKind::Unknown,
                operation,
                "the runtime stopped while the servers were looked for",
            )
            .with_source(stopped)),
            Err(_) => Err(late(request)),
        };
        self.settle(key, known, asked, request)
    }

    /// The node to use after asking: what is known now, or what was known before if asking failed.
    fn settle(
        &self,
        key: Option<&str>,
        known: Option<Arc<Node>>,
        asked: Result<()>,
        request: &Request<'_>,
    ) -> Result<Arc<Node>> {
        match (self.known(key).or(known), asked) {
            (Some(node), _) => Ok(node),
            (None, Err(error)) => Err(error.with_operation(request.operation)),
            (None, Ok(())) => Err(BackendError::new(
                ErrorKind::Transient,
                request.operation,
                "no node serves this key's slot; is the cluster complete?",
            )),
        }
    }

    fn known(&self, key: Option<&str>) -> Option<Arc<Node>> {
        match &self.arrangement {
            Arrangement::Single(node) => Some(Arc::clone(node)),
            Arrangement::Sentinel(sentinels) => sentinels.master(),
            Arrangement::Cluster(cluster) => cluster.node(key),
        }
    }

    /// Whether it is time to ask again about servers that are known.
    fn is_doubtful(&self) -> bool {
        if let Arrangement::Single(_) = self.arrangement {
            return false;
        }
        let inquiry = self.inquiry.lock();
        let recently = |(at, _): &(Instant, Result<()>)| at.elapsed() < BELIEVED;
        inquiry.doubtful && !inquiry.last.as_ref().is_some_and(recently)
    }

    fn doubt(&self) {
        self.inquiry.lock().doubtful = true;
    }

    /// What came of asking, if that ended after `since`.
    fn answer_since(&self, since: Instant) -> Option<Result<()>> {
        match &self.inquiry.lock().last {
            Some((at, outcome)) if *at >= since => Some(outcome.clone()),
            _ => None,
        }
    }

    /// Asks for the arrangement, unless somebody else did while this caller waited for its turn.
    fn ask(&self, since: Instant, request: &Request<'_>) -> Result<()> {
        if let Some(outcome) = self.answer_since(since) {
            return outcome;
        }
        let outcome = match &self.arrangement {
            Arrangement::Single(_) => Ok(()),
            Arrangement::Sentinel(sentinels) => sentinels.ask(request),
            Arrangement::Cluster(cluster) => cluster.ask(request),
        };
        let mut inquiry = self.inquiry.lock();
        inquiry.doubtful = outcome.is_err();
        inquiry.last = Some((Instant::now(), outcome.clone()));
        outcome
    }

    /// Decides from what a server answered where the command goes next.
    fn judge(
        &self,
        course: &mut Course,
        node: &Arc<Node>,
        outcome: std::result::Result<Vec<Reply>, Failure>,
    ) -> Step {
        let replies = match outcome {
            Ok(replies) => replies,
            Err(failure) => {
                if failure.lost {
                    self.doubt();
                    let may_move = !matches!(self.arrangement, Arrangement::Single(_));
                    let in_time = failure.error.kind() != ErrorKind::Timeout;
                    if may_move && in_time && !std::mem::replace(&mut course.found_again, true) {
                        course.asking = false;
                        return Step::FindAgain;
                    }
                }
                return Step::Done(Err(failure.error));
            }
        };
        let refusal = replies.iter().find_map(|reply| match reply {
            Reply::Error(refusal) => Some(refusal),
            _ => None,
        });
        match (refusal.map(|refusal| &*refusal.code), &self.arrangement) {
            (Some(code @ ("MOVED" | "ASK")), Arrangement::Cluster(cluster)) => {
                let lasting = code == "MOVED";
                if lasting {
                    self.doubt();
                }
                course.redirects += 1;
                let detail = refusal.map_or("", |refusal| &*refusal.detail);
                match cluster.redirected(detail, node, lasting) {
                    Some(next) if course.redirects <= MAX_REDIRECTS => {
                        course.asking = !lasting;
                        Step::At(next)
                    }
                    _ => Step::Done(Ok(replies)),
                }
            }
            (Some("READONLY" | "MASTERDOWN"), _) => {
                // The server is no master any more. The name or the sentinels may know another.
                node.disconnect();
                self.doubt();
                if std::mem::replace(&mut course.found_again, true) {
                    Step::Done(Ok(replies))
                } else {
                    Step::FindAgain
                }
            }
            _ => Step::Done(Ok(replies)),
        }
    }
}

fn with_asking<'a>(batch: &[Command<'a>]) -> Vec<Command<'a>> {
    batch
        .iter()
        .flat_map(|&command| [Command::new("ASKING"), command])
        .collect()
}

fn without_asking(replies: Vec<Reply>) -> Vec<Reply> {
    replies.into_iter().skip(1).step_by(2).collect()
}

fn late(request: &Request<'_>) -> BackendError {
    BackendError::new(
        ErrorKind::Timeout,
        request.operation,
        format!(
            "the server for this key was not found within {:?}",
            request.timeout
        ),
    )
}
