//! Files that are read again when they change: API keys and the certificate.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

/// How often files are looked at. Changes so take effect within a second.
const LOOK: Duration = Duration::from_millis(250);

/// What changes when a file is replaced or written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(Vec<Option<(SystemTime, u64, u64)>>);

impl Stamp {
    pub(crate) fn of(files: &[PathBuf]) -> Self {
        use std::os::unix::fs::MetadataExt;
        let one = |path: &PathBuf| {
            let found = std::fs::metadata(path).ok()?;
            Some((found.modified().ok()?, found.len(), found.ino()))
        };
        Self(files.iter().map(one).collect())
    }
}

/// Calls `read` whenever one of the files has changed and whenever `now` does, until that is
/// dropped. What the files were before they were first read is `seen`.
pub(crate) async fn watch(
    files: Vec<PathBuf>,
    mut seen: Stamp,
    mut now: watch::Receiver<()>,
    read: impl Fn() + Send + Sync + 'static,
) {
    let read = Arc::new(read);
    loop {
        let (files, again) = (files.clone(), read.clone());
        // Looking and reading may block.
        let looked = tokio::task::spawn_blocking(move || {
            let stamp = Stamp::of(&files);
            if stamp != seen {
                again();
            }
            stamp
        });
        seen = match looked.await {
            Ok(stamp) => stamp,
            Err(error) => {
                tracing::error!(%error, "reading files again failed");
                Stamp(Vec::new())
            }
        };
        match tokio::time::timeout(LOOK, now.changed()).await {
            Ok(Ok(())) => seen = Stamp(Vec::new()),
            Ok(Err(_)) => return,
            Err(_) => {}
        }
    }
}
