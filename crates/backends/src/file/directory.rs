//! Opening a store's directory: whose it is, what it is on, and the files in it.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fchmod, fstat, mkdirat, openat, unlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::config::FileConfig;
use super::error::failed;
use crate::error::{BackendError, ErrorKind, Result};

/// What the store's own directory is called. The number is the layout's version: another version has
/// another directory, so that programs of both may run at once.
pub(super) const STORE: &str = "store-1";
/// Where the files of large values are.
pub(super) const LARGE: &str = "large";
/// Where releases of locks are announced.
pub(super) const WAKE: &str = "wake";

/// The open directories of a store.
pub(super) struct Directory {
    pub(super) store: OwnedFd,
    pub(super) large: OwnedFd,
    pub(super) wake: OwnedFd,
    /// The path of the store's own directory.
    pub(super) path: PathBuf,
    file_mode: u32,
    /// Whose the directories are, and all files must be.
    owner: u32,
}

// Opening a pipe that somebody has put there would wait for its other end.
const SAFE: OFlags = OFlags::CLOEXEC
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK);
const READ: OFlags = OFlags::RDONLY.union(SAFE);
const WRITE: OFlags = OFlags::RDWR.union(SAFE);

impl Directory {
    /// Opens the directories, and makes those that are missing.
    pub(super) fn open(config: &FileConfig) -> Result<Self> {
        // With a slash or a dot behind it, the name of a link would stand for what it points to.
        let directory = config.directory.components().as_path();
        let opened = match open_directory(CWD, directory) {
            Err(Errno::NOENT) => {
                make(directory, config.directory_mode).map_err(|e| failed("open", directory, e))?;
                open_directory(CWD, directory)
            }
            opened => opened,
        };
        let top = opened.map_err(|error| refused(directory, error))?;
        check(&top, directory, config.directory_mode)?;
        let sub = |parent: &OwnedFd, name: &str| {
            let opened = match open_directory(parent, Path::new(name)) {
                Err(Errno::NOENT) => {
                    let mode = Mode::from_raw_mode(config.directory_mode);
                    match mkdirat(parent, name, mode) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(error) => return Err(failed("open", directory, error.into())),
                    }
                    let opened = open_directory(parent, Path::new(name));
                    // What `mkdir` makes has less than the mode, by the process's umask.
                    opened.and_then(|made| fchmod(&made, mode).map(|()| made))
                }
                opened => opened,
            };
            let path = directory.join(name);
            let opened = opened.map_err(|error| refused(&path, error))?;
            check(&opened, &path, config.directory_mode)?;
            Ok(opened)
        };
        let store = sub(&top, STORE)?;
        Ok(Self {
            large: sub(&store, LARGE)?,
            wake: sub(&store, WAKE)?,
            store,
            path: directory.join(STORE),
            file_mode: config.file_mode,
            owner: geteuid().as_raw(),
        })
    }

    /// Opens a store that is there, and makes nothing.
    pub(super) fn existing(directory: &Path) -> Result<Self> {
        let open = |path: &Path| open_directory(CWD, path).map_err(|error| refused(path, error));
        let path = directory.join(STORE);
        let store = open_directory(CWD, &path).map_err(|error| match error {
            Errno::NOENT => BackendError::new(
                ErrorKind::Permanent,
                "open",
                format!(
                    "{} holds no store of this version ({STORE}); name the directory that programs have as \
                     cache_dir or CACHEKIT_FILE_CACHE_DIR",
                    directory.display()
                ),
            ),
            error => refused(&path, error),
        })?;
        let found = fstat(&store).map_err(|error| refused(&path, error))?;
        Ok(Self {
            owner: found.st_uid,
            store,
            large: open(&path.join(LARGE))?,
            wake: open(&path.join(WAKE))?,
            path,
            file_mode: 0,
        })
    }

    /// Opens a file of the store to read and write, and makes it if it is missing.
    pub(super) fn file(&self, name: &str) -> io::Result<File> {
        self.made(&self.store, name, WRITE | OFlags::CREATE)
    }

    /// Opens a file of the store to read.
    pub(super) fn file_to_read(&self, name: &str) -> io::Result<File> {
        self.own(openat(&self.store, name, READ, Mode::empty())?)
    }

    /// Makes the file of a large value.
    pub(super) fn new_large(&self, name: &str) -> io::Result<File> {
        self.made(&self.large, name, WRITE | OFlags::CREATE | OFlags::EXCL)
    }

    /// Opens the file of a large value.
    pub(super) fn large(&self, name: &str) -> io::Result<File> {
        self.own(openat(&self.large, name, READ, Mode::empty())?)
    }

    /// Removes the file of a large value; one that is gone already is as good.
    pub(super) fn remove_large(&self, name: &str) -> io::Result<()> {
        match unlinkat(&self.large, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a file of the announcements to write; opening and closing it is the announcement.
    pub(super) fn touch(&self, name: &str) -> io::Result<()> {
        self.made(&self.wake, name, WRITE | OFlags::CREATE)
            .map(drop)
    }

    fn made(&self, directory: &OwnedFd, name: &str, flags: OFlags) -> io::Result<File> {
        let mode = Mode::from_raw_mode(self.file_mode);
        let known = openat(directory, name, flags - OFlags::CREATE, Mode::empty());
        let file = match known {
            Err(Errno::NOENT) if flags.contains(OFlags::CREATE) => {
                let made = openat(directory, name, flags, mode)?;
                fchmod(&made, mode)?;
                made
            }
            Ok(_) if flags.contains(OFlags::EXCL) => return Err(Errno::EXIST.into()),
            known => known?,
        };
        self.own(file)
    }

    /// Refuses what somebody else has put among the files: where others may write to the directory, as
    /// `dir_permissions` can let them.
    fn own(&self, file: OwnedFd) -> io::Result<File> {
        let found = fstat(&file)?;
        let regular = FileType::from_raw_mode(found.st_mode) == FileType::RegularFile;
        if found.st_uid == self.owner && regular {
            return Ok(File::from(file));
        }
        let message = format!(
            "a file in {} belongs to user {} or is none; remove it",
            self.path.display(),
            found.st_uid
        );
        Err(io::Error::new(io::ErrorKind::PermissionDenied, message))
    }
}

fn open_directory(
    parent: impl rustix::fd::AsFd,
    path: &Path,
) -> std::result::Result<OwnedFd, Errno> {
    openat(parent, path, READ | OFlags::DIRECTORY, Mode::empty())
}

/// Makes the directory and those above it that are missing.
fn make(directory: &Path, mode: u32) -> io::Result<()> {
    if let Some(above) = directory
        .parent()
        .filter(|above| !above.as_os_str().is_empty())
    {
        DirBuilder::new().recursive(true).mode(mode).create(above)?;
    }
    match mkdirat(CWD, directory, Mode::from_raw_mode(mode)) {
        Ok(()) => {
            let made = open_directory(CWD, directory)?;
            Ok(fchmod(&made, Mode::from_raw_mode(mode))?)
        }
        Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn refused(path: &Path, error: Errno) -> BackendError {
    let link = path.is_symlink();
    if link && matches!(error, Errno::LOOP | Errno::NOTDIR) {
        let message = format!(
            "{} is a symbolic link, which is not followed; name the directory that it points to",
            path.display()
        );
        return BackendError::new(ErrorKind::Permanent, "open", message);
    }
    failed("open", path, error.into())
}

/// A directory into which others could put files is no place for a cache.
fn check(directory: &OwnedFd, path: &Path, mode: u32) -> Result<()> {
    let refuse = |message: String| {
        let message = format!("{} {message}", path.display());
        Err(BackendError::new(ErrorKind::Permanent, "open", message))
    };
    let found = fstat(directory).map_err(|error| failed("open", path, error.into()))?;
    let user = geteuid().as_raw();
    if found.st_uid != user {
        return refuse(format!(
            "belongs to user {} and the process runs as user {user}; name a directory of your own",
            found.st_uid
        ));
    }
    let excess = found.st_mode & 0o022 & !mode;
    if excess != 0 {
        return refuse(format!(
            "can be written to by others (mode {:o}); chmod it to {mode:o}, or name another directory",
            found.st_mode & 0o777
        ));
    }
    match network_file_system(directory) {
        Ok(None) => Ok(()),
        Ok(Some(name)) => refuse(format!(
            "is on {name}, where processes of several machines cannot share entries safely; name a \
             directory on a local disk, or use Redis"
        )),
        Err(error) => Err(failed("open", path, error)),
    }
}

/// The network file system that a directory is on. FUSE is not among them: what is behind it cannot be
/// told, and it is usually local.
#[cfg(target_os = "linux")]
fn network_file_system(directory: &OwnedFd) -> io::Result<Option<&'static str>> {
    Ok(name_of(rustix::fs::fstatfs(directory)?.f_type as u32))
}

#[cfg(not(target_os = "linux"))]
fn network_file_system(_: &OwnedFd) -> io::Result<Option<&'static str>> {
    Ok(None)
}

/// The network file system that has this number in `statfs`; the numbers are those of `linux/magic.h`
/// and `statfs(2)`.
#[cfg(target_os = "linux")]
fn name_of(number: u32) -> Option<&'static str> {
    Some(match number {
        0x6969 => "NFS",
        0x517B | 0xFF53_4D42 | 0xFE53_4D42 => "SMB",
        0x0102_1997 => "9P",
        0x00C3_6400 => "Ceph",
        0x5346_414F | 0x6B41_4653 => "AFS",
        0x7375_7245 => "Coda",
        0x564C => "NCP",
        0x0BD0_0BD0 => "Lustre",
        0x4750_4653 => "GPFS",
        0x0116_1970 => "GFS2",
        0x7461_636F => "OCFS2",
        0x786F_4256 => "a VirtualBox share",
        0xBACB_ACBC => "a VMware share",
        _ => return None,
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_known_by_their_numbers() {
        assert_eq!(name_of(0x6969), Some("NFS"));
        assert_eq!(name_of(0xFE53_4D42), Some("SMB"));
        for local in [
            0xEF53,
            0x0102_1994,
            0x5846_5342,
            0x9123_683E,
            0x794C_7630,
            0x6573_5546,
        ] {
            assert_eq!(name_of(local), None, "{local:x}");
        }
    }
}
