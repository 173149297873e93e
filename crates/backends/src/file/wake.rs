//! Waking those who wait for a lock, in whatever process.
//!
//! A release opens and closes a file of the directory `wake`, whose name is part of the lock's hash. Each
//! process that waits watches that directory (inotify, on Linux) with one thread. Where watching is not to
//! be had, waiters look for themselves, often.

use std::sync::Arc;

use tokio::sync::Notify;

use super::directory::Directory;

const GROUPS: usize = 64;

/// The file that announces releases of the lock with this hash.
fn group(hash: u128) -> usize {
    (hash >> 64) as usize % GROUPS
}

/// Announces that the lock with this hash was released.
pub(super) fn announce(directory: &Directory, hash: u128) -> std::io::Result<()> {
    directory.touch(&name(group(hash)))
}

fn name(group: usize) -> String {
    format!("{group:02x}")
}

/// This process's waiters, woken by a thread of their own.
pub(super) struct Waiters {
    groups: Arc<[Notify; GROUPS]>,
    #[cfg(target_os = "linux")]
    _watch: linux::Watch,
}

impl Waiters {
    /// What wakes those who wait for the lock with this hash, and some others.
    pub(super) fn of(&self, hash: u128) -> &Notify {
        &self.groups[group(hash)]
    }

    /// None where the directory cannot be watched.
    #[cfg(target_os = "linux")]
    pub(super) fn new(directory: &Directory) -> Option<Self> {
        let groups = Arc::new(std::array::from_fn(|_| Notify::new()));
        let watch = linux::Watch::start(directory, &groups);
        let _watch = watch
            .inspect_err(|error| {
                tracing::debug!("waiters for locks look by themselves: inotify: {error}");
            })
            .ok()?;
        Some(Self { groups, _watch })
    }

    /// None where the directory cannot be watched.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn new(_: &Directory) -> Option<Self> {
        None
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::mem::MaybeUninit;
    use std::os::fd::OwnedFd;
    use std::sync::{Arc, Weak};

    use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
    use tokio::sync::Notify;

    use super::super::directory::{Directory, WAKE};
    use super::GROUPS;

    type Groups = [Notify; GROUPS];

    /// Ends the thread when dropped: removing the watch is the last event.
    pub(super) struct Watch {
        inotify: Arc<OwnedFd>,
        directory: i32,
    }

    impl Watch {
        pub(super) fn start(directory: &Directory, groups: &Arc<Groups>) -> io::Result<Self> {
            let inotify = Arc::new(inotify::init(CreateFlags::CLOEXEC)?);
            let path = directory.path.join(WAKE);
            let watched = inotify::add_watch(&inotify, &path, WatchFlags::CLOSE_WRITE)?;
            let (events, groups) = (Arc::clone(&inotify), Arc::downgrade(groups));
            std::thread::Builder::new()
                .name("cachekit-wake".into())
                .spawn(move || wake(&events, &groups))?;
            Ok(Self {
                inotify,
                directory: watched,
            })
        }
    }

    impl Drop for Watch {
        fn drop(&mut self) {
            // It is gone already if the directory is, and then the thread has ended.
            let _ = inotify::remove_watch(&self.inotify, self.directory);
        }
    }

    fn wake(events: &OwnedFd, groups: &Weak<Groups>) {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = Reader::new(events, &mut buffer);
        loop {
            let event = match events.next() {
                Ok(event) => event,
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => return,
            };
            let Some(groups) = groups.upgrade() else {
                return;
            };
            if event.events().contains(ReadFlags::IGNORED) {
                return;
            }
            let name = event.file_name().and_then(|name| name.to_str().ok());
            match name.and_then(|name| usize::from_str_radix(name, 16).ok()) {
                Some(group) if group < GROUPS => groups[group].notify_waiters(),
                // Events were lost: everybody looks.
                _ => groups.iter().for_each(Notify::notify_waiters),
            }
        }
    }
}
