//! Locks on open files do not survive a fork as they should: the child shares them.
//!
//! A lock of `flock` or of an open file description belongs to the open file, which a forked child has too.
//! It would keep the lock when its parent is killed, and could release it while the parent works. So the
//! child puts `/dev/null` in the place of those files as soon as it is made, and opens its own on use.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Once;
use std::sync::atomic::{AtomicI32, Ordering};

const NONE: i32 = -1;

static OPEN: [AtomicI32; 128] = [const { AtomicI32::new(NONE) }; 128];

/// The descriptor of a file that a forked child must not share, for as long as this lives.
pub(super) struct Private(Option<&'static AtomicI32>);

impl Private {
    /// With more than 128 of them at once, children share what is beyond: a lock may then outlive a
    /// parent that was killed while it wrote, until the child ends.
    pub(super) fn new(file: BorrowedFd<'_>) -> Self {
        register();
        let fd = file.as_raw_fd();
        let free = OPEN.iter().find(|place| {
            place
                .compare_exchange(NONE, fd, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        });
        Self(free)
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        if let Some(place) = self.0 {
            place.store(NONE, Ordering::Release);
        }
    }
}

fn register() {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // SAFETY: the handler calls only what may be called after a fork, and stays loaded as long as
        // the process lives (see `process::generation`).
        let failed = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        assert_eq!(
            failed, 0,
            "the handler's few bytes of memory were not to be had"
        );
    });
}

extern "C" fn in_child() {
    // SAFETY: open, dup2, fcntl and close are async-signal-safe, and the path ends in a zero.
    unsafe {
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
        if null < 0 {
            return;
        }
        for place in &OPEN {
            let fd = place.swap(NONE, Ordering::AcqRel);
            if fd != NONE && libc::dup2(null, fd) == fd {
                libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
            }
        }
        libc::close(null);
    }
}
