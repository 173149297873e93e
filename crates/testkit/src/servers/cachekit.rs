use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Certificates;
use super::process::{Process, wait_until};
use crate::TempDir;

/// A real `cachekit serve` on a loopback port, with TLS by an authority of its own and one key.
///
/// The program is the one that `CACHEKIT_SERVER_BIN` names, else the one beside the test's own
/// binary, which is built if it is missing.
#[derive(Debug)]
pub struct CachekitServer {
    dir: TempDir,
    certificates: Certificates,
    settings: Vec<String>,
    port: u16,
    key: String,
    process: Process,
}

impl CachekitServer {
    /// Starts one with the default settings.
    ///
    /// # Panics
    /// When the program does not come up.
    #[must_use]
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts one with these flags besides.
    ///
    /// # Panics
    /// When the program does not come up.
    #[must_use]
    pub fn with(flags: &[&str]) -> Self {
        let dir = TempDir::new();
        let certificates = Certificates::new();
        let settings: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let key = create_key(dir.path(), &["--tenant", "tests"]);
        let (process, port) = spawn(dir.path(), &certificates, &settings, 0);
        Self {
            dir,
            certificates,
            settings,
            port,
            key,
            process,
        }
    }

    /// The program that is run.
    #[must_use]
    pub fn program() -> PathBuf {
        program()
    }

    /// The API's URL, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The port that it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The key of the tenant `tests`.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The certificate of the authority that clients must trust.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.certificates.ca()
    }

    /// The files of its certificate and key.
    #[must_use]
    pub fn certificate(&self) -> (PathBuf, PathBuf) {
        self.certificates.server()
    }

    /// The data directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.dir.path()
    }

    /// Makes another key with these arguments of `cachekit keys create`. The server knows it within
    /// a second.
    ///
    /// # Panics
    /// When the program refuses.
    #[must_use]
    pub fn create_key(&self, arguments: &[&str]) -> String {
        create_key(self.dir.path(), arguments)
    }

    /// What it has logged since it was last started.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(log_path(self.dir.path())).unwrap_or_default()
    }

    /// Sends a signal by name: "TERM", "HUP", "STOP", ….
    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Whether the process has not ended.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// The process's id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Ends the process at once, as a crash would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the same port and data.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn restart(&mut self) {
        self.process.kill();
        let again = spawn(
            self.dir.path(),
            &self.certificates,
            &self.settings,
            self.port,
        );
        (self.process, _) = again;
    }
}

fn log_path(directory: &Path) -> PathBuf {
    directory.join("server.log")
}

fn spawn(
    directory: &Path,
    certificates: &Certificates,
    settings: &[String],
    port: u16,
) -> (Process, u16) {
    let (certificate, key) = certificates.server();
    let log = File::create(log_path(directory)).expect("the directory is writable");
    let mut process = Process::spawn(
        Command::new(program())
            .arg("serve")
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .arg("--data-dir")
            .arg(directory)
            .arg("--tls-cert")
            .arg(certificate)
            .arg("--tls-key")
            .arg(key)
            .args(settings)
            .stdout(Stdio::null())
            .stderr(log),
    );
    let mut found = None;
    wait_until("cachekit serve says where it listens", || {
        let log = fs::read_to_string(log_path(directory)).unwrap_or_default();
        found = log.lines().find_map(port_of);
        assert!(process.is_running(), "cachekit serve ended at once:\n{log}");
        found.is_some()
    });
    (process, found.expect("waited for it"))
}

/// The port in the line of the log that says that the server serves.
fn port_of(line: &str) -> Option<u16> {
    let serving = line.find("\"message\":\"serving\"")?;
    let (_, address) = line[serving..].split_once("\"address\":\"127.0.0.1:")?;
    address.split('"').next()?.parse().ok()
}

fn create_key(directory: &Path, arguments: &[&str]) -> String {
    let made = Command::new(program())
        .args(["keys", "create", "--data-dir"])
        .arg(directory)
        .args(arguments)
        .output()
        .expect("the program can be run");
    let text = |bytes| String::from_utf8(bytes).expect("the program prints text");
    assert!(made.status.success(), "{}", text(made.stderr));
    text(made.stdout).trim().to_owned()
}

fn program() -> PathBuf {
    if let Some(named) = std::env::var_os("CACHEKIT_SERVER_BIN") {
        return named.into();
    }
    // …/debug/deps/test-0123 and …/debug/examples/bench lie one below the program.
    let test = std::env::current_exe().expect("a process knows its own path");
    let folder = test.ancestors().nth(2).expect("binaries lie in folders");
    let path = folder.join("cachekit");
    if !path.exists() {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--package", "cachekit-cli"]);
        if folder.ends_with("release") {
            build.arg("--release");
        }
        let built = build.status().expect("cargo can be run");
        assert!(
            built.success() && path.exists(),
            "cargo build -p cachekit-cli failed"
        );
    }
    path
}
