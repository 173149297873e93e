//! Whether another process still lives: a lock on one byte of a file, kept for as long as it does.
//!
//! The kernel removes the lock with the process, however that ends, and whatever the other process can
//! see of it: containers that share a directory need not share process numbers.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::OnceLock;

use super::forks::Private;

/// This process's own byte, and questions about those of others.
pub(super) struct Alive {
    file: Option<File>,
    own: OnceLock<u64>,
    _private: Option<Private>,
}

impl Alive {
    /// With `file` missing, as where nothing can be written, everybody counts as alive.
    pub(super) fn new(file: Option<File>) -> Self {
        Self {
            _private: file.as_ref().map(|file| Private::new(file.as_fd())),
            file,
            own: OnceLock::new(),
        }
    }

    /// The number under which others may ask for this process.
    pub(super) fn own(&self) -> io::Result<u64> {
        if let Some(own) = self.own.get() {
            return Ok(*own);
        }
        let number = random()? >> 2 | 1;
        if let Some(file) = &self.file {
            mark(file, number)?;
        }
        // A second thread's number stays marked too, and nobody asks for it.
        Ok(*self.own.get_or_init(|| number))
    }

    /// False when that process has certainly ended.
    pub(super) fn is(&self, number: u64) -> bool {
        let own = self.own.get() == Some(&number);
        match &self.file {
            Some(file) if !own && number != 0 => is_marked(file, number).unwrap_or(true),
            _ => true,
        }
    }
}

/// 64 bits that no other process has.
pub(super) fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

#[cfg(target_os = "linux")]
fn byte(number: u64) -> libc::flock {
    // SAFETY: a structure of plain numbers, for which zero is a value.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = libc::F_WRLCK as libc::c_short;
    range.l_whence = libc::SEEK_SET as libc::c_short;
    range.l_start = number as libc::off_t;
    range.l_len = 1;
    range
}

#[cfg(target_os = "linux")]
fn mark(file: &File, number: u64) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let range = byte(number);
    // SAFETY: the descriptor is open and the structure is whole.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &range) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(target_os = "linux")]
fn is_marked(file: &File, number: u64) -> io::Result<bool> {
    use std::os::fd::AsRawFd;
    let mut range = byte(number);
    // SAFETY: the descriptor is open and the structure is whole, and ours to write to.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &mut range) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(range.l_type != libc::F_UNLCK as libc::c_short),
    }
}

#[cfg(not(target_os = "linux"))]
fn mark(_: &File, _: u64) -> io::Result<()> {
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn is_marked(_: &File, _: u64) -> io::Result<bool> {
    Ok(true)
}
