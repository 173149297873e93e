//! Waiting for the release of locks: one connection listens for all of a backend's waiters.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use parking_lot::Mutex;
use redis::aio::{PubSub, PubSubSink};
use redis::{RedisConnectionInfo, RedisError};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::backend::Released;
use crate::deadline::after;
use crate::error::{BackendError, ErrorKind, Result};
use crate::net::{Failure, Login, connect};
use crate::redis::Live;
use crate::redis::command;
use crate::redis::error::refused;
use crate::redis::lock::Names;
use crate::redis::node::{Node, Request};
use crate::redis::reply::Refusal;

/// How long any one question to the server may take.
const ANSWER: Duration = Duration::from_secs(1);
/// How often a waiter that listens looks for itself, in case a message or the connection was lost
/// without a sign.
const LOOK: Duration = Duration::from_secs(1);
/// How often a waiter that cannot listen looks: at first, and at most after doubling.
const FIRST_POLL: Duration = Duration::from_millis(10);
const LAST_POLL: Duration = Duration::from_millis(250);

/// The channels that are listened to, and who waits on them.
#[derive(Default)]
pub(in crate::redis) struct Hub {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    channels: HashMap<Arc<str>, Channel>,
    numbers: u64,
    /// Leads to the task that owns the connection, while there is one.
    listener: Option<(u64, mpsc::UnboundedSender<Change>)>,
}

struct Channel {
    /// Tells this channel from a later one of the same name.
    number: u64,
    waiters: usize,
    signal: watch::Sender<Signal>,
}

/// What waiters on a channel learn.
#[derive(Clone, Copy)]
struct Signal {
    hearing: Hearing,
    /// How many messages have arrived.
    messages: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Hearing {
    /// The server has not confirmed the subscription yet.
    Unconfirmed,
    /// Messages arrive.
    Confirmed,
    /// Messages will not arrive.
    Deaf,
}

enum Change {
    Subscribe(Arc<str>, u64),
    Unsubscribe(Arc<str>),
}

/// A waiter's place at a channel.
struct Seat<'a> {
    hub: &'a Hub,
    channel: Arc<str>,
    number: u64,
    signal: watch::Receiver<Signal>,
    /// The messages that had arrived before.
    past: u64,
}

impl Seat<'_> {
    fn is_deaf(&self) -> bool {
        self.signal.borrow().hearing == Hearing::Deaf
    }

    fn has_heard(&self) -> bool {
        self.signal.borrow().messages > self.past
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut state = self.hub.state.lock();
        let Some(channel) = state.channels.get_mut(&self.channel) else {
            return;
        };
        if channel.number != self.number {
            return;
        }
        channel.waiters -= 1;
        if channel.waiters == 0 {
            state.channels.remove(&self.channel);
            // A listener that has stopped has nothing to unsubscribe.
            state.send(Change::Unsubscribe(Arc::clone(&self.channel)));
        }
    }
}

/// Waits until the lock on `key` is gone or the time is up.
pub(in crate::redis) async fn released(
    live: &Arc<Live>,
    key: &str,
    at_most: Duration,
) -> Result<Released> {
    let names = Names::of(key);
    let start = Instant::now();
    let deadline = Instant::from_std(after(at_most));
    let mut seat = Hub::sit(live, &names.channel);
    // Listen first, look then: a release in between is heard.
    let settled = seat
        .signal
        .wait_for(|signal| signal.hearing != Hearing::Unconfirmed);
    let _ = timeout_at(deadline.min(start + ANSWER), settled).await;
    let mut poll = FIRST_POLL;
    loop {
        if seat.has_heard() || !is_held(live, &names.lock).await? {
            return Ok(Released::Notified);
        }
        let now = Instant::now();
        if now >= deadline {
            return Ok(Released::Elapsed);
        }
        if seat.is_deaf() {
            sleep_until(deadline.min(now + poll)).await;
            poll = (poll * 2).min(LAST_POLL);
        } else {
            let past = seat.past;
            let news = seat
                .signal
                .wait_for(|signal| signal.messages > past || signal.hearing == Hearing::Deaf);
            let _ = timeout_at(deadline.min(now + LOOK), news).await;
        }
    }
}

async fn is_held(live: &Arc<Live>, lock: &str) -> Result<bool> {
    let batch = [command::exists(lock)];
    let request = Request::new("wait", &batch, ANSWER);
    live.topology.run_async(Some(lock), &request).await?.any()
}

impl Hub {
    /// A place at the channel, which is subscribed to if nobody is there yet.
    fn sit<'a>(live: &'a Arc<Live>, name: &str) -> Seat<'a> {
        let hub = &live.hub;
        let mut state = hub.state.lock();
        if let Some((channel, _)) = state.channels.get_key_value(name) {
            let channel = Arc::clone(channel);
            let there = state
                .channels
                .get_mut(name)
                .expect("it was there a moment ago");
            let signal = there.signal.subscribe();
            let now = *signal.borrow();
            if now.hearing != Hearing::Deaf {
                there.waiters += 1;
                let number = there.number;
                return Seat {
                    hub,
                    channel,
                    number,
                    signal,
                    past: now.messages,
                };
            }
        }
        let number = state.next_number();
        let channel: Arc<str> = name.into();
        let (sender, signal) = watch::channel(Signal {
            hearing: Hearing::Unconfirmed,
            messages: 0,
        });
        let new = Channel {
            number,
            waiters: 1,
            signal: sender,
        };
        state.channels.insert(Arc::clone(&channel), new);
        if !state.send(Change::Subscribe(Arc::clone(&channel), number)) {
            let (listener, changes) = mpsc::unbounded_channel();
            let listener_number = state.next_number();
            state.listener = Some((listener_number, listener));
            state.send(Change::Subscribe(Arc::clone(&channel), number));
            tokio::spawn(run_listener(Arc::downgrade(live), listener_number, changes));
        }
        drop(state);
        Seat {
            hub,
            channel,
            number,
            signal,
            past: 0,
        }
    }

    fn tell(&self, channel: &str, change: impl FnOnce(&mut Signal)) {
        if let Some(channel) = self.state.lock().channels.get(channel) {
            channel.signal.send_modify(change);
        }
    }

    fn settle(&self, channel: &str, number: u64, hearing: Hearing) {
        match self.state.lock().channels.get(channel) {
            Some(channel) if channel.number == number => {
                channel
                    .signal
                    .send_modify(|signal| signal.hearing = hearing);
            }
            _ => {}
        }
    }

    /// Tells all waiters that a listener has stopped.
    fn deafen(&self, listener_number: u64) {
        let mut state = self.state.lock();
        if matches!(state.listener, Some((number, _)) if number == listener_number) {
            state.listener = None;
            for (_, channel) in state.channels.drain() {
                channel
                    .signal
                    .send_modify(|signal| signal.hearing = Hearing::Deaf);
            }
        }
    }
}

impl State {
    fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Tells the listener; false when there is none, or it has stopped.
    fn send(&self, change: Change) -> bool {
        match &self.listener {
            Some((_, listener)) => listener.send(change).is_ok(),
            None => false,
        }
    }
}

async fn run_listener(live: Weak<Live>, number: u64, changes: mpsc::UnboundedReceiver<Change>) {
    let ended = listen(&live, changes).await;
    if let Some(live) = live.upgrade() {
        live.hub.deafen(number);
    }
    if let Err(error) = ended {
        tracing::debug!(%error, "waiters for locks look for themselves");
    }
}

/// Serves the listening connection until it breaks or the backend is gone.
async fn listen(live: &Weak<Live>, mut changes: mpsc::UnboundedReceiver<Change>) -> Result<()> {
    let pubsub = match live.upgrade() {
        Some(live) => timeout(ANSWER, open(&live)).await.unwrap_or_else(|_| {
            let message = format!("no listening connection was made within {ANSWER:?}");
            Err(BackendError::new(ErrorKind::Timeout, "listen", message))
        })?,
        None => return Ok(()),
    };
    let (mut sink, mut messages) = pubsub.split();
    loop {
        tokio::select! {
            change = changes.recv() => match (change, live.upgrade()) {
                (Some(change), Some(live)) => apply(&live.hub, &mut sink, change).await?,
                _ => return Ok(()),
            },
            message = messages.next() => match (message, live.upgrade()) {
                (Some(message), Some(live)) => {
                    live.hub.tell(message.get_channel_name(), |signal| signal.messages += 1);
                }
                (None, _) => return Err(lost("it was closed")),
                (_, None) => return Ok(()),
            },
        }
    }
}

async fn open(live: &Arc<Live>) -> Result<PubSub> {
    let request = Request::new("listen", &[], ANSWER);
    let node = live.topology.find_async(None, &request).await?;
    let stream = connect(&node, request.deadline)
        .await
        .map_err(|failure| failure.error)?;
    PubSub::new(&connection_info(&node), stream)
        .await
        .map_err(|error| failed("listen", &node, &error).error)
}

/// Subscribes or unsubscribes. A refusal concerns one channel; a broken connection all of them.
async fn apply(hub: &Hub, sink: &mut PubSubSink, change: Change) -> Result<()> {
    match change {
        Change::Subscribe(channel, number) => {
            let hearing = match timeout(ANSWER, sink.subscribe(&*channel)).await {
                Ok(Ok(())) => Hearing::Confirmed,
                Ok(Err(error)) if error.code().is_some() => Hearing::Deaf,
                Ok(Err(error)) => return Err(lost(&error.to_string())),
                Err(_) => return Err(lost("a subscription was not confirmed in time")),
            };
            hub.settle(&channel, number, hearing);
        }
        Change::Unsubscribe(channel) => match timeout(ANSWER, sink.unsubscribe(&*channel)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(lost(&error.to_string())),
            Err(_) => return Err(lost("the end of a subscription was not confirmed in time")),
        },
    }
    Ok(())
}

fn lost(why: &str) -> BackendError {
    let message = format!("the listening connection was lost: {why}");
    BackendError::new(ErrorKind::Transient, "listen", message)
}

/// How the client library logs in.
fn connection_info(node: &Node) -> RedisConnectionInfo {
    let Login { username, password } = node.protocol.login();
    let mut info = RedisConnectionInfo::default()
        .set_db(node.protocol.database().into())
        .set_skip_set_lib_name();
    if let Some(username) = username {
        info = info.set_username(username);
    }
    if let Some(password) = password {
        info = info.set_password(password);
    }
    info
}

/// What an error of the client library means.
fn failed(operation: &'static str, node: &Node, error: &RedisError) -> Failure {
    if let Some(code) = error.code() {
        let refusal = Refusal {
            code: code.into(),
            detail: error.detail().unwrap_or_default().into(),
        };
        return Failure {
            error: refused(operation, &refusal),
            lost: false,
        };
    }
    if error.kind() == redis::ErrorKind::AuthenticationFailed {
        let message = format!(
            "{} refused the login; check the user and password of the URL",
            node.address
        );
        return Failure {
            error: BackendError::new(ErrorKind::Authentication, operation, message),
            lost: false,
        };
    }
    Failure {
        error: BackendError::new(
            ErrorKind::Transient,
            operation,
            format!("{}: {error}", node.address),
        ),
        lost: true,
    }
}
