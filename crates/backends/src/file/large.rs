//! Large values: a file each, written beside and then given its name, mapped into memory to be read.

use std::fs::File;
use std::hash::Hasher;
use std::io;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use rustix::fs::renameat;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use twox_hash::XxHash3_64;

use super::layout::{Record, Slot};
use super::live::{Live, within_limit};

/// From this length on a file is mapped; below, reading it costs less.
const MAP_FROM: u64 = 1 << 20;
/// How much is written before a writer looks at the time, or lets others run.
pub(super) const CHUNK: usize = 1 << 20;

/// The file of a large value while it is being written. Removed again unless it is published.
pub(super) struct Draft {
    live: Arc<Live>,
    file: File,
    name: Option<String>,
    key: String,
    record: Record,
    hasher: XxHash3_64,
    written: u64,
}

/// The name of a draft: whose it is, and a number.
fn draft_name(owner: u64) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("new-{owner:x}-{number:x}")
}

/// Whose draft a file of this name is.
pub(super) fn draft_owner(name: &str) -> Option<u64> {
    let (owner, _) = name.strip_prefix("new-")?.split_once('-')?;
    u64::from_str_radix(owner, 16).ok()
}

impl Draft {
    /// Begins the record of `key` with a value of `len` bytes.
    pub(super) fn new(live: &Arc<Live>, key: &str, len: u64) -> io::Result<Self> {
        within_limit(Record::size(key, len))?;
        let name = draft_name(live.alive.own()?);
        let file = live.directory.new_large(&name)?;
        let id = live.new_id();
        Ok(Self {
            live: Arc::clone(live),
            file,
            name: Some(name),
            key: key.to_owned(),
            record: Record {
                key: key.len() as u32,
                value: len,
                id,
                check: 0,
            },
            hasher: Record::hasher(id),
            written: Record::LEN as u64,
        })
    }

    /// Appends a part of the value.
    pub(super) fn write(&mut self, part: &[u8]) -> io::Result<()> {
        self.hasher.write(part);
        self.file.write_all_at(part, self.written)?;
        self.written += part.len() as u64;
        Ok(())
    }

    /// Ends the record.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        let key = std::mem::take(&mut self.key);
        self.write(key.as_bytes())?;
        self.record.check = self.hasher.finish();
        self.file.write_all_at(&self.record.to_bytes(), 0)
    }

    pub(super) fn id(&self) -> u64 {
        self.record.id
    }

    pub(super) fn size(&self) -> u64 {
        self.written
    }

    /// Gives the file the name that slot `index` of the store knows it by.
    pub(super) fn publish(&mut self, store: &Live, index: u32) -> io::Result<()> {
        let name = self.name.as_deref().expect("a draft is published once");
        let to = Slot::file_name(index, self.record.id);
        renameat(
            &self.live.directory.large,
            name,
            &store.directory.large,
            to.as_str(),
        )?;
        self.name = None;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(name) = self.name.take() {
            // What stays is removed by whoever opens the store after this process has ended.
            let _ = self.live.directory.remove_large(&name);
        }
    }
}

/// Reads a file of exactly `size` bytes; None when it has another length.
pub(super) fn read(file: &File, size: u64) -> io::Result<Option<Bytes>> {
    if file.metadata()?.len() != size {
        return Ok(None);
    }
    if size >= MAP_FROM {
        return Ok(Some(Bytes::from_owner(Mapping::new(file, size)?)));
    }
    let mut bytes = vec![0; size as usize];
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => Ok(Some(bytes.into())),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// A whole file in memory.
///
/// The files of large values are written before they get their names, never changed and never shortened
/// after that, only removed as a whole; what is mapped stays readable when its name is gone. So no access
/// meets the end of the file, which would be a SIGBUS. A disk that fails while a page is read is one.
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the memory is only ever read, from wherever, and belongs to this value alone.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(file: &File, size: u64) -> io::Result<Self> {
        let len = usize::try_from(size).map_err(|_| io::ErrorKind::FileTooLarge)?;
        // SAFETY: the address is the kernel's choice, so nothing else is mapped there; the file does
        // not change (see above).
        let start = unsafe {
            mmap(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ,
                MapFlags::SHARED,
                file,
                0,
            )
        }?;
        let start = NonNull::new(start.cast()).expect("the kernel maps nothing at address zero");
        Ok(Self { start, len })
    }
}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: mapped until dropped, and not written to by anybody.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `new` mapped exactly this, and nobody has a reference any more.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
    }
}
