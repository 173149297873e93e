//! Open connections: one per runtime for asynchronous calls, a pool of them for blocking ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http2::SendRequest;
use parking_lot::Mutex;
use tokio::runtime::{self, Runtime};

use super::connect::Connector;
use super::error::Failure;

/// The connection that the callers of one runtime share, opened when it is first needed.
#[derive(Default)]
pub(super) struct Link {
    line: tokio::sync::Mutex<Option<Arc<Line>>>,
}

/// An open connection.
pub(super) struct Line {
    pub(super) sender: SendRequest<Full<Bytes>>,
    opened: Instant,
    /// When the last answer came, in nanoseconds since `opened`.
    last_answer: AtomicU64,
    given_up: AtomicBool,
}

impl Link {
    /// The connection, and whether it is new. Whoever comes while it is opened waits for it.
    pub(super) async fn line(
        &self,
        connector: &Connector,
        deadline: Instant,
    ) -> Result<(Arc<Line>, bool), Failure> {
        let mut line = self.line.lock().await;
        if let Some(open) = line.as_ref().filter(|open| open.is_usable()) {
            return Ok((Arc::clone(open), false));
        }
        let open = Arc::new(Line {
            sender: connector.connect(deadline).await?,
            opened: Instant::now(),
            last_answer: AtomicU64::new(0),
            given_up: AtomicBool::new(false),
        });
        *line = Some(Arc::clone(&open));
        Ok((open, true))
    }

    /// Whether there is no connection that is open.
    fn is_dead(&self) -> bool {
        self.line
            .try_lock()
            .is_ok_and(|line| line.as_ref().is_none_or(|open| !open.is_usable()))
    }
}

impl Line {
    /// Lets go of a connection that does not answer: calls that wait for it go on waiting, the next
    /// one gets a new connection. Done without the link's lock, which whoever connects holds.
    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }

    fn is_usable(&self) -> bool {
        !self.sender.is_closed() && !self.given_up.load(Ordering::Relaxed)
    }

    /// Nanoseconds since the connection was opened.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    pub(super) fn answered(&self) {
        self.last_answer.store(self.now(), Ordering::Relaxed);
    }

    /// Whether an answer came after this moment.
    pub(super) fn is_alive_since(&self, moment: u64) -> bool {
        self.last_answer.load(Ordering::Relaxed) > moment
    }
}

/// The links of the runtimes that call.
#[derive(Default)]
pub(super) struct Links(Mutex<Vec<(runtime::Id, Arc<Link>)>>);

impl Links {
    /// The link of the runtime that polls this.
    pub(super) fn here(&self) -> Arc<Link> {
        let id = runtime::Handle::current().id();
        let mut links = self.0.lock();
        if let Some((_, link)) = links.iter().find(|(runtime, _)| *runtime == id) {
            return Arc::clone(link);
        }
        // A connection ends with the runtime that serves it.
        links.retain(|(_, link)| !link.is_dead());
        let link = Arc::new(Link::default());
        links.push((id, Arc::clone(&link)));
        link
    }
}

/// A connection for blocking calls: it is served by the thread that calls, while it does, so that
/// no call is handed to another thread and back.
pub(super) struct Slot {
    runtime: Option<Runtime>,
    pub(super) link: Arc<Link>,
}

impl Slot {
    pub(super) fn new() -> std::io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(Self {
            runtime: Some(runtime),
            link: Arc::default(),
        })
    }

    /// Runs the call on this thread, after what has happened to the connection since the last one.
    pub(super) fn block_on<R>(&self, call: impl Future<Output = R>) -> R {
        let runtime = self.runtime.as_ref().expect("it is only taken by drop");
        runtime.block_on(async {
            if !self.link.is_dead() {
                // One turn to read from the socket, one for each task that hears of its end.
                for _ in 0..3 {
                    tokio::task::yield_now().await;
                }
            }
            call.await
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A look-up of a name that hangs is left to its thread.
            runtime.shutdown_background();
        }
    }
}
