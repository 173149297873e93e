//! The one background thread: a tokio runtime for asynchronous I/O, lease renewal and waiting.
//!
//! It is started at first use. A forked child starts its own, since threads do not survive `fork`;
//! no lock is involved, so a fork at any moment leaves the child nothing to get stuck on.

use std::{
    ptr,
    sync::atomic::{AtomicPtr, Ordering},
    thread,
};

use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

struct Running {
    /// The process that it runs in.
    process: u32,
    handle: Handle,
    _stop_on_drop: oneshot::Sender<()>,
}

/// The current runtime. Replaced, never freed: a reader may still be looking at the old one.
static CURRENT: AtomicPtr<Running> = AtomicPtr::new(ptr::null_mut());

/// The runtime's handle.
///
/// # Panics
/// When the operating system gives no thread or no poller; a process in that state cannot go on.
pub fn handle() -> Handle {
    let process = cachekit_backends::process::generation();
    let seen = CURRENT.load(Ordering::Acquire);
    // SAFETY: the pointer is null or came from `Box::into_raw` below and is never freed.
    if let Some(running) = unsafe { seen.as_ref() }
        && running.process == process
    {
        return running.handle.clone();
    }
    let started = start(process);
    let handle = started.handle.clone();
    let started = Box::into_raw(Box::new(started));
    match CURRENT.compare_exchange(seen, started, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => handle, // What was there belongs to the parent process: leaked, not stopped.
        Err(_) => {
            // SAFETY: `started` came from `Box::into_raw` above and nobody else has seen it.
            drop(unsafe { Box::from_raw(started) });
            self::handle()
        }
    }
}

fn start(process: u32) -> Running {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .thread_name("cachekit-blocking")
        .build()
        .expect("the operating system provides a poller");
    let handle = runtime.handle().clone();
    let (stop_on_drop, stopped) = oneshot::channel::<()>();
    thread::Builder::new()
        .name("cachekit-io".into())
        .spawn(move || {
            // Ends only when a racing start has won and this one is dropped.
            let _ = runtime.block_on(stopped);
        })
        .expect("the operating system provides a thread");
    Running {
        process,
        handle,
        _stop_on_drop: stop_on_drop,
    }
}
