use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::process::{Process, free_port, wait_until};
use super::tls::Certificates;
use crate::TempDir;

/// How a memcached server is started.
#[derive(Clone, Debug, Default)]
pub struct MemcachedOptions {
    /// Let in only this user with this password.
    pub login: Option<(String, String)>,
    /// Listen with TLS.
    pub tls: Option<Arc<Certificates>>,
    /// Listen on a Unix socket instead of a port.
    pub unix: bool,
    /// More command-line arguments.
    pub extra: Vec<String>,
}

/// A memcached server of 1 GB that stores items of up to 128 MB, killed when dropped.
#[derive(Debug)]
pub struct MemcachedServer {
    options: MemcachedOptions,
    dir: TempDir,
    port: u16,
    process: Process,
}

impl MemcachedServer {
    /// A server with the default options.
    ///
    /// # Panics
    /// When `memcached` is not installed or does not come up.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(MemcachedOptions::default())
    }

    /// A server with these options.
    ///
    /// # Panics
    /// When `memcached` is not installed or does not come up.
    #[must_use]
    pub fn start_with(options: MemcachedOptions) -> Self {
        // Somebody may take the free port in between.
        for _ in 0..5 {
            let dir = TempDir::new();
            let port = free_port();
            let process = spawn(&options, &dir, port);
            let mut server = Self {
                options: options.clone(),
                dir,
                port,
                process,
            };
            if server.wait_until_up() {
                return server;
            }
        }
        panic!("memcached did not start five times in a row");
    }

    fn wait_until_up(&mut self) -> bool {
        let mut running = true;
        wait_until("memcached listens", || {
            running = self.process.is_running();
            let listens = if self.options.unix {
                self.socket().exists()
            } else {
                TcpStream::connect(("127.0.0.1", self.port)).is_ok()
            };
            !running || listens
        });
        running
    }

    /// The port that it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path of its Unix socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("memcached.sock")
    }

    /// The server as lists of servers name it.
    #[must_use]
    pub fn name(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The URL, with the login and trusting this server's authority.
    #[must_use]
    pub fn url(&self) -> String {
        let login = match &self.options.login {
            Some((user, password)) => format!("{user}:{password}@"),
            None => String::new(),
        };
        if self.options.unix {
            return format!("memcached+unix://{login}{}", self.socket().display());
        }
        match &self.options.tls {
            Some(certificates) => format!(
                "memcacheds://{login}{}?ssl_ca={}",
                self.name(),
                certificates.ca().display()
            ),
            None => format!("memcached://{login}{}", self.name()),
        }
    }

    /// Sends a line to the server, beside the client under test, and returns the first line of the
    /// answer. Not for servers with TLS, login or a Unix socket.
    ///
    /// # Panics
    /// When the server does not answer.
    pub fn command(&self, line: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("the server listens");
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a timeout");
        write!(stream, "{line}\r\n").expect("written");
        let mut answer = String::new();
        BufReader::new(stream)
            .read_line(&mut answer)
            .expect("the server answers");
        answer.trim_end().to_owned()
    }

    /// Freezes the process: connections stay, nothing answers.
    pub fn pause(&self) {
        self.process.pause();
    }

    /// Lets a frozen process go on.
    pub fn resume(&self) {
        self.process.signal("CONT");
    }

    /// Ends the process as a crash would. Its entries are gone.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts the killed server again on the same port, empty.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = spawn(&self.options, &self.dir, self.port);
        assert!(self.wait_until_up(), "memcached did not come up again");
    }
}

fn spawn(options: &MemcachedOptions, dir: &TempDir, port: u16) -> Process {
    let mut command = Command::new("memcached");
    command
        .args(["-m", "1024", "-I", "128m", "-U", "0"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // Root must say that it means to be root; others cannot change who they are.
    if std::env::var_os("USER").is_none_or(|user| user == "root") {
        command.args(["-u", "root"]);
    }
    if options.unix {
        command.arg("-s").arg(dir.path().join("memcached.sock"));
    } else {
        command.args(["-l", "127.0.0.1", "-p", &port.to_string()]);
    }
    if let Some((user, password)) = &options.login {
        let file = dir.path().join("logins");
        std::fs::write(&file, format!("{user}:{password}\n")).expect("the directory is writable");
        command.arg("-Y").arg(file);
    }
    if let Some(certificates) = &options.tls {
        let (certificate, key) = certificates.server();
        command.arg("-Z").arg("-o").arg(format!(
            "ssl_chain_cert={},ssl_key={}",
            certificate.display(),
            key.display()
        ));
    }
    command.args(&options.extra);
    Process::spawn(&mut command)
}
