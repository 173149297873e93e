//! Leases on distributed locks, renewed while they are held.

use std::time::Duration;

use cachekit_backends::process::generation;
use tokio::{
    task::AbortHandle,
    time::{MissedTickBehavior, interval},
};

use crate::{runtime, store::Store};

/// A lease that renews itself every third of its length, on the runtime's thread, so that it lives
/// however busy the holder's own thread is and ends soon after the holder's process does.
///
/// Dropping it stops the renewal; releasing the lock is a request of its own.
#[derive(Debug)]
pub struct Lease {
    renewal: AbortHandle,
    /// The process that holds the lock.
    process: u32,
}

impl Lease {
    pub(crate) fn keep(store: &Store, key: &str, token: &str, lease: Duration) -> Self {
        let (store, key, token) = (store.clone(), key.to_owned(), token.to_owned());
        let every = (lease / 3).max(Duration::from_millis(1));
        let renewal = runtime::handle().spawn(async move {
            let mut ticks = interval(every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks.tick().await; // The first tick is now, and the lease is new.
            loop {
                ticks.tick().await;
                // An error may pass before the lease does; a lease that was lost stays lost.
                if let Ok(false) = store.renew_async(&key, &token, lease, every).await {
                    break;
                }
            }
        });
        Self {
            renewal: renewal.abort_handle(),
            process: generation(),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // A forked child has only a picture of the runtime that renews, and the lock is the parent's.
        if self.process == generation() {
            self.renewal.abort();
        }
    }
}

/// A lock holder's secret: 128 random bits in hex.
pub(crate) fn token() -> String {
    use std::fmt::Write;
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system has randomness");
    bytes
        .iter()
        .fold(String::with_capacity(32), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to a string cannot fail");
            text
        })
}
