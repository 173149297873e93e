//! How Python asks for the File backend.

use std::{path::PathBuf, sync::Arc, time::Duration};

use cachekit_backends::Backend;
use pyo3::{PyResult, Python};

/// What Python says of a directory of entries.
pub(super) struct Settings {
    pub(super) directory: PathBuf,
    pub(super) max_size_mb: u64,
    pub(super) max_value_mb: u64,
    pub(super) max_entry_count: u32,
    pub(super) lock_timeout: Duration,
    pub(super) permissions: u32,
    pub(super) dir_permissions: u32,
}

/// Opens the directory, and makes it if it is missing.
#[cfg(unix)]
pub(super) fn open(py: Python<'_>, settings: Settings) -> PyResult<Arc<dyn Backend>> {
    use cachekit_backends::{FileBackend, FileConfig};

    let config = FileConfig::new(settings.directory)
        .max_size_mb(settings.max_size_mb)
        .max_value_mb(settings.max_value_mb)
        .max_entry_count(settings.max_entry_count)
        .lock_timeout(settings.lock_timeout)
        .permissions(settings.permissions)
        .dir_permissions(settings.dir_permissions);
    let opened = py.detach(|| {
        let backend = FileBackend::new(config)?;
        backend.open().map(|()| backend)
    });
    match opened {
        Ok(backend) => Ok(Arc::new(backend)),
        Err(error) => Err(super::native::raise(py, &error, None)),
    }
}

/// There is no such backend here.
#[cfg(not(unix))]
pub(super) fn open(py: Python<'_>, _: Settings) -> PyResult<Arc<dyn Backend>> {
    use cachekit_backends::{BackendError, ErrorKind};

    let error = BackendError::new(
        ErrorKind::Permanent,
        "open",
        "the File backend needs a Unix system; use Redis or Memcached here",
    );
    Err(super::native::raise(py, &error, None))
}
