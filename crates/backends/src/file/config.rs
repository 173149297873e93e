//! Where a store is and how much it may hold.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::error::{BackendError, ErrorKind, Result};

const MB: u64 = 1 << 20;

/// Where a [`FileBackend`](super::FileBackend) keeps its entries, and how much it may hold.
#[derive(Clone, Debug)]
pub struct FileConfig {
    pub(super) directory: PathBuf,
    pub(super) max_bytes: u64,
    pub(super) max_value: u64,
    pub(super) max_entries: u32,
    pub(super) lock_timeout: Duration,
    pub(super) file_mode: u32,
    pub(super) directory_mode: u32,
    pub(super) clock: Clock,
}

/// Wall-clock time in microseconds since the epoch.
pub(super) type Clock = fn() -> u64;

fn wall_clock() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as u64)
}

impl FileConfig {
    /// Entries in `directory`: 1024 MB and 10,000 of them at most, values of at most 100 MB, files that
    /// only their owner can read.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            max_bytes: 1024 * MB,
            max_value: 100 * MB,
            max_entries: 10_000,
            lock_timeout: Duration::from_secs(5),
            file_mode: 0o600,
            directory_mode: 0o700,
            clock: wall_clock,
        }
    }

    /// The room on the disk that all entries may take, in MiB; 1 to 1,000,000.
    #[must_use]
    pub fn max_size_mb(mut self, mebibytes: u64) -> Self {
        self.max_bytes = mebibytes.saturating_mul(MB);
        self
    }

    /// The longest value, in MiB; at most half of all the room, if that is 1 MiB or more.
    #[must_use]
    pub fn max_value_mb(mut self, mebibytes: u64) -> Self {
        self.max_value = mebibytes.saturating_mul(MB);
        self
    }

    /// How many entries there may be; 1 to 1,000,000.
    #[must_use]
    pub fn max_entry_count(mut self, entries: u32) -> Self {
        self.max_entries = entries;
        self
    }

    /// How long a call waits while other processes write.
    #[must_use]
    pub fn lock_timeout(mut self, limit: Duration) -> Self {
        self.lock_timeout = limit;
        self
    }

    /// The permissions of files, as for `chmod`; the owner's read and write among them.
    #[must_use]
    pub fn permissions(mut self, mode: u32) -> Self {
        self.file_mode = mode;
        self
    }

    /// The permissions of directories, as for `chmod`; all of the owner's among them.
    #[must_use]
    pub fn dir_permissions(mut self, mode: u32) -> Self {
        self.directory_mode = mode;
        self
    }

    /// Another source of wall-clock time, in microseconds since the epoch: for tests.
    #[must_use]
    pub fn clock(mut self, clock: fn() -> u64) -> Self {
        self.clock = clock;
        self
    }

    /// The directory that was named.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn check(&self) -> Result<()> {
        let wrong = |message: String| {
            Err(BackendError::new(
                ErrorKind::Permanent,
                "configure",
                message,
            ))
        };
        if self.directory.as_os_str().is_empty() {
            return wrong("cache_dir is empty; name a directory".to_owned());
        }
        if self.max_bytes == 0 || self.max_bytes > 1_000_000 * MB {
            let size = self.max_bytes / MB;
            return wrong(format!("max_size_mb must be 1 to 1000000, got {size}"));
        }
        if self.max_value == 0 || self.max_value > (self.max_bytes / 2).max(MB) {
            return wrong(format!(
                "max_value_mb must be at least 1 and at most half of max_size_mb ({}), got {}",
                self.max_bytes / MB,
                self.max_value / MB
            ));
        }
        if !(1..=1_000_000).contains(&self.max_entries) {
            let entries = self.max_entries;
            return wrong(format!(
                "max_entry_count must be 1 to 1000000, got {entries}"
            ));
        }
        if self.file_mode & 0o600 != 0o600 || self.file_mode > 0o777 {
            return wrong(format!(
                "permissions must let the owner read and write (0o600), got {:#o}",
                self.file_mode
            ));
        }
        if self.directory_mode & 0o700 != 0o700 || self.directory_mode > 0o777 {
            return wrong(format!(
                "dir_permissions must let the owner do everything (0o700), got {:#o}",
                self.directory_mode
            ));
        }
        Ok(())
    }
}
