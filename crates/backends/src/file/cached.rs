//! Reading without waiting for a disk.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Where bytes of a file are taken from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// Wherever they are, which may take as long as the disk does.
    Disk,
    /// The kernel's memory; `WouldBlock` when they are not there.
    Cache,
}

impl Source {
    /// Fills `bytes` with what is at `at`.
    pub(super) fn read(self, file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
        match self {
            Self::Disk => file.read_exact_at(bytes, at),
            Self::Cache => cached(file, bytes, at),
        }
    }
}

#[cfg(target_os = "linux")]
fn cached(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    use std::io::IoSliceMut;

    use rustix::io::{Errno, ReadWriteFlags, preadv2};

    let whole = bytes.len();
    match preadv2(
        file,
        &mut [IoSliceMut::new(bytes)],
        at,
        ReadWriteFlags::NOWAIT,
    ) {
        Ok(read) if read == whole => Ok(()),
        // The rest is not in memory, or the file has ended.
        Ok(_) | Err(Errno::INTR) => Err(io::ErrorKind::WouldBlock.into()),
        // A file system that cannot tell.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.read_exact_at(bytes, at),
        Err(error) => Err(error.into()),
    }
}

/// No other system tells.
#[cfg(not(target_os = "linux"))]
fn cached(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    file.read_exact_at(bytes, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_memory_is_read_and_the_end_is_not() {
        let directory = cachekit_testkit::TempDir::new();
        let path = directory.path().join("file");
        std::fs::write(&path, b"0123456789").expect("written");
        let file = File::open(&path).expect("it is there");
        let mut bytes = [0; 4];
        for source in [Source::Disk, Source::Cache] {
            source.read(&file, &mut bytes, 3).expect("just written");
            assert_eq!(&bytes, b"3456");
            assert!(source.read(&file, &mut bytes, 8).is_err());
        }
    }
}
