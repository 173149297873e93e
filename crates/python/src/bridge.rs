//! The way from the I/O thread back to an asyncio event loop: one queue and one socket per loop.
//!
//! The I/O thread never takes the GIL. It pushes the number of a finished operation and, if the
//! loop is not yet told, writes one byte; the loop then completes all that has finished at once.
//! Errands, which need the GIL, go the same way.

use std::{
    cell::RefCell,
    collections::HashMap,
    future::Future,
    io::{Read, Write},
    os::{fd::AsRawFd, unix::net::UnixStream},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use cachekit_backends::process::generation;
use crossbeam_queue::SegQueue;
use futures_util::future::{AbortHandle, abortable};
use parking_lot::Mutex;
use pyo3::{intern, prelude::*, sync::PyOnceLock, types::PyBool};

/// What both threads see.
struct Queue {
    finished: SegQueue<u64>,
    /// What operations want done on the loop's thread, with their numbers.
    errands: SegQueue<(u64, Errand)>,
    told: AtomicBool,
    sender: UnixStream,
    event_loop: Py<PyAny>,
}

/// What is to be done on the loop's thread. It gets the loop and, while its operation is under way,
/// the context of the operation's caller.
pub(crate) type Errand = Box<dyn FnOnce(&Bound<'_, PyAny>, Option<&Bound<'_, PyAny>>) + Send>;

impl Queue {
    fn tell(&self, number: u64) {
        self.finished.push(number);
        self.wake();
    }

    fn wake(&self) {
        if !self.told.swap(true, Ordering::AcqRel) {
            // A full or closed socket: the loop has a byte to read already, or is gone.
            let _ = (&self.sender).write(&[1]);
        }
    }
}

tokio::task_local! {
    static HERE: Here;
}

/// The event loop for which an operation runs on the I/O thread.
#[derive(Clone)]
pub(crate) struct Here {
    queue: Arc<Queue>,
    number: u64,
}

impl Here {
    /// That of the operation being polled; `None` in what no loop waits for.
    pub(crate) fn current() -> Option<Self> {
        HERE.try_with(Clone::clone).ok()
    }

    /// Sends an errand to the loop's thread. It is dropped unseen if the loop runs no more.
    pub(crate) fn send(&self, errand: Errand) {
        self.queue.errands.push((self.number, errand));
        self.queue.wake();
    }

    /// Asks the loop, on a thread that may wait for the GIL, whether it runs.
    pub(crate) async fn loop_runs(&self) -> bool {
        let queue = Arc::clone(&self.queue);
        let asked = tokio::task::spawn_blocking(move || {
            Python::attach(|py| {
                queue
                    .event_loop
                    .call_method0(py, intern!(py, "is_running"))
                    .and_then(|runs| runs.is_truthy(py))
                    .unwrap_or(false)
            })
        });
        asked.await.unwrap_or(false)
    }
}

/// Tells the loop when it is dropped, at an operation's end of whatever kind.
struct Tell {
    queue: Arc<Queue>,
    number: u64,
}

impl Drop for Tell {
    fn drop(&mut self) {
        self.queue.tell(self.number);
    }
}

/// The bridge of one event loop.
#[pyclass(frozen, module = "cachekit._native")]
pub(crate) struct LoopBridge {
    queue: Arc<Queue>,
    receiver: UnixStream,
    /// The process that it belongs to. A forked child may go on with its parent's loop, but shares
    /// the sockets here with the parent: it opens a bridge of its own.
    process: u32,
    waiting: Mutex<Waiting>,
}

/// The operations under way.
#[derive(Default)]
struct Waiting {
    next: u64,
    /// Their asyncio futures and callers' contexts, by number.
    futures: HashMap<u64, (Py<PyAny>, Py<PyAny>), foldhash::fast::RandomState>,
    /// Operations that gather for one hand-over to the I/O thread.
    gathered: Vec<Operation>,
}

type Operation = Pin<Box<dyn Future<Output = ()> + Send>>;

/// How many operations gather at most: while the event loop runs the tasks that are left, the I/O thread
/// and the store are at these.
const AT_ONCE: usize = 8;

thread_local! {
    /// The bridges of the loops that ran on this thread and are not closed.
    static BRIDGES: RefCell<Vec<Py<LoopBridge>>> = const { RefCell::new(Vec::new()) };
}

impl LoopBridge {
    /// Whether an asyncio event loop runs on this thread.
    pub(crate) fn available(py: Python<'_>) -> bool {
        running_loop(py).is_ok()
    }

    /// The bridge of the running event loop.
    ///
    /// # Errors
    /// When no loop runs on this thread, or it cannot watch a socket.
    fn current(py: Python<'_>) -> PyResult<Py<Self>> {
        let event_loop = running_loop(py)?;
        let known = BRIDGES.with_borrow(|bridges| {
            let found = bridges.iter().find(|bridge| {
                let bridge = bridge.get();
                bridge.queue.event_loop.is(&event_loop) && bridge.is_of_this_process()
            });
            found.map(|bridge| bridge.clone_ref(py))
        });
        match known {
            Some(bridge) => Ok(bridge),
            None => Self::open(py, event_loop),
        }
    }

    fn is_of_this_process(&self) -> bool {
        self.process == generation()
    }

    #[cold]
    fn open(py: Python<'_>, event_loop: Bound<'_, PyAny>) -> PyResult<Py<Self>> {
        let (receiver, sender) = UnixStream::pair()?;
        receiver.set_nonblocking(true)?;
        sender.set_nonblocking(true)?;
        let descriptor = receiver.as_raw_fd();
        let queue = Queue {
            finished: SegQueue::new(),
            errands: SegQueue::new(),
            told: AtomicBool::new(false),
            sender,
            event_loop: event_loop.clone().unbind(),
        };
        let bridge = Py::new(
            py,
            Self {
                queue: Arc::new(queue),
                receiver,
                process: generation(),
                waiting: Mutex::default(),
            },
        )?;
        let drain = bridge.getattr(py, intern!(py, "drain"))?;
        event_loop.call_method1(intern!(py, "add_reader"), (descriptor, drain))?;
        let all = BRIDGES.take();
        let mut open = Vec::with_capacity(all.len() + 1);
        for other in all {
            // Asking a loop runs foreign code, so the list is not borrowed meanwhile.
            let closed = other
                .get()
                .queue
                .event_loop
                .call_method0(py, intern!(py, "is_closed"))?;
            if !closed.is_truthy(py)? {
                open.push(other);
            }
        }
        open.push(bridge.clone_ref(py));
        let closed = BRIDGES.replace(open);
        drop(closed);
        Ok(bridge)
    }

    /// Runs `operation` on the I/O thread for the running event loop; the returned asyncio future is done when it has ended or
    /// was aborted. The operation leaves its result where both sides find it.
    ///
    /// Waking the I/O thread is a system call. So only the first operation under way wakes it at
    /// once; others gather until there are [`AT_ONCE`] or the event loop has run the tasks that are
    /// ready, and go together.
    ///
    /// # Errors
    /// When no asyncio event loop runs on this thread, or it cannot watch a socket.
    pub(crate) fn submit(
        py: Python<'_>,
        operation: impl Future<Output = ()> + Send + 'static,
    ) -> PyResult<(Py<PyAny>, AbortHandle)> {
        let bridge = Self::current(py)?;
        let this = bridge.get();
        let future = this
            .queue
            .event_loop
            .call_method0(py, intern!(py, "create_future"))?;
        let context = copy_context(py)?;
        let mut waiting = this.waiting.lock();
        waiting.next += 1;
        let number = waiting.next;
        let tell = Tell {
            queue: Arc::clone(&this.queue),
            number,
        };
        let here = Here {
            queue: Arc::clone(&this.queue),
            number,
        };
        let (operation, abort) = abortable(HERE.scope(here, operation));
        let operation = async move {
            let _tell = tell;
            // Aborted or not: the loop is told either way.
            let _ = operation.await;
        };
        let alone = waiting.futures.is_empty();
        waiting
            .futures
            .insert(number, (future.clone_ref(py), context));
        if alone {
            drop(waiting);
            cachekit::runtime::handle().spawn(operation);
            return Ok((future, abort));
        }
        waiting.gathered.push(Box::pin(operation));
        let gathered = waiting.gathered.len();
        if gathered == AT_ONCE {
            let gathered = std::mem::take(&mut waiting.gathered);
            drop(waiting);
            hand_over(gathered);
            return Ok((future, abort));
        }
        drop(waiting);
        if gathered == 1 {
            let flush = bridge.getattr(py, intern!(py, "flush"))?;
            this.queue
                .event_loop
                .call_method1(py, intern!(py, "call_soon"), (flush,))?;
        }
        Ok((future, abort))
    }
}

/// Starts the operations on the I/O thread.
fn hand_over(operations: Vec<Operation>) {
    if operations.is_empty() {
        return;
    }
    cachekit::runtime::handle().spawn(async move {
        for operation in operations {
            tokio::spawn(operation);
        }
    });
}

fn running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static GET: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    GET.import(py, "asyncio", "get_running_loop")?.call0()
}

fn copy_context(py: Python<'_>) -> PyResult<Py<PyAny>> {
    static COPY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    Ok(COPY
        .import(py, "contextvars", "copy_context")?
        .call0()?
        .unbind())
}

#[pymethods]
impl LoopBridge {
    /// Hands the operations that have gathered to the I/O thread. The event loop calls it.
    fn flush(&self) {
        let gathered = std::mem::take(&mut self.waiting.lock().gathered);
        if !self.is_of_this_process() {
            std::mem::forget(gathered); // The parent does them.
            return;
        }
        hand_over(gathered);
    }

    /// Runs the errands and completes the futures of all finished operations. The event loop calls it.
    fn drain(&self, py: Python<'_>) -> PyResult<()> {
        if !self.is_of_this_process() {
            return Ok(()); // What there is to read is for the parent.
        }
        let mut told = [0; 64];
        // Nothing to read means that an earlier call has taken the byte.
        let _ = (&self.receiver).read(&mut told);
        self.queue.told.store(false, Ordering::SeqCst);
        while let Some((number, errand)) = self.queue.errands.pop() {
            let waiting = self.waiting.lock();
            let operation = waiting.futures.get(&number);
            let context = operation.map(|(_, context)| context.clone_ref(py));
            drop(waiting);
            errand(
                self.queue.event_loop.bind(py),
                context.as_ref().map(|context| context.bind(py)),
            );
        }
        while let Some(number) = self.queue.finished.pop() {
            let operation = self.waiting.lock().futures.remove(&number);
            let Some((future, _)) = operation else {
                continue;
            };
            let done = future.call_method0(py, intern!(py, "done"))?;
            if !done.bind(py).cast::<PyBool>()?.is_true() {
                future.call_method1(py, intern!(py, "set_result"), (py.None(),))?;
            }
        }
        Ok(())
    }
}
