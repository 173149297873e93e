//! The backend contract on a directory.

use cachekit_backends::{FileBackend, FileConfig};
use cachekit_testkit::TempDir;
use cachekit_testkit::contract;

#[test]
fn a_directory() {
    let directory = TempDir::new();
    let config = FileConfig::new(directory.path().join("cache"));
    contract::check(&FileBackend::new(config).expect("good settings"));
}
