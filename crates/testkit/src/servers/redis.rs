use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::process::{Process, free_port, wait_until};
use super::tls::Certificates;
use crate::TempDir;
use crate::raw::{self, Answer, RawClient};

/// How a Redis server is started.
#[derive(Clone, Debug, Default)]
pub struct RedisOptions {
    /// The default user's password.
    pub password: Option<String>,
    /// Listen with TLS on a second port.
    pub tls: Option<Arc<Certificates>>,
    /// Require a client certificate on the TLS port.
    pub tls_clients: bool,
    /// More command-line arguments.
    pub extra: Vec<String>,
}

/// A Redis server without persistence, killed when dropped.
#[derive(Debug)]
pub struct RedisServer {
    options: RedisOptions,
    dir: TempDir,
    port: u16,
    tls_port: u16,
    process: Process,
}

impl RedisServer {
    /// A server with the default options.
    ///
    /// # Panics
    /// When `redis-server` is not installed or does not come up.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(RedisOptions::default())
    }

    /// A server with these options.
    ///
    /// # Panics
    /// When `redis-server` is not installed or does not come up.
    #[must_use]
    pub fn start_with(options: RedisOptions) -> Self {
        // Somebody may take the free port in between.
        for _ in 0..5 {
            let dir = TempDir::new();
            let (port, tls_port) = (free_port(), free_port());
            let process = spawn(&options, &dir, port, tls_port);
            let mut server = Self {
                options: options.clone(),
                dir,
                port,
                tls_port,
                process,
            };
            if server.wait_for_answer() {
                return server;
            }
        }
        panic!("redis-server did not start five times in a row");
    }

    fn wait_for_answer(&mut self) -> bool {
        let port = self.port;
        let mut running = true;
        wait_until("redis-server answers", || {
            running = self.process.is_running();
            let answers = RawClient::connect(port).and_then(|mut client| client.command(&["PING"]));
            !running || answers.is_ok_and(|answer| !matches!(answer, Answer::Error(error) if error.starts_with("LOADING")))
        });
        running
    }

    /// The port that it listens on without TLS.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path of its Unix socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("redis.sock")
    }

    /// The URL for plain TCP.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}127.0.0.1:{}", self.login(), self.port)
    }

    /// The URL for TLS, trusting this server's authority.
    ///
    /// # Panics
    /// When the server was started without TLS.
    #[must_use]
    pub fn tls_url(&self) -> String {
        let certificates = self.options.tls.as_ref().expect("the server has TLS");
        let mut url = format!(
            "rediss://{}127.0.0.1:{}?ssl_ca={}",
            self.login(),
            self.tls_port,
            certificates.ca().display()
        );
        if self.options.tls_clients {
            let (certificate, key) = certificates.client();
            url += &format!(
                "&ssl_cert={}&ssl_key={}",
                certificate.display(),
                key.display()
            );
        }
        url
    }

    /// The TLS port.
    #[must_use]
    pub fn tls_port(&self) -> u16 {
        self.tls_port
    }

    /// The URL for the Unix socket.
    #[must_use]
    pub fn unix_url(&self) -> String {
        format!("unix://{}{}", self.login(), self.socket().display())
    }

    fn login(&self) -> String {
        match &self.options.password {
            Some(password) => format!(":{password}@"),
            None => String::new(),
        }
    }

    /// Runs one command on the server, beside the client under test.
    ///
    /// # Panics
    /// When the server cannot be reached or refuses it.
    pub fn command(&self, words: &[&str]) -> Answer {
        raw::command(self.port, self.options.password.as_deref(), words)
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

    /// Starts the killed server again on the same ports, empty.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = spawn(&self.options, &self.dir, self.port, self.tls_port);
        assert!(self.wait_for_answer(), "redis-server did not come up again");
    }
}

fn spawn(options: &RedisOptions, dir: &TempDir, port: u16, tls_port: u16) -> Process {
    let mut command = Command::new("redis-server");
    command
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
        .args(["--repl-diskless-sync-delay", "0"])
        .arg("--unixsocket")
        .arg(dir.path().join("redis.sock"))
        .arg("--dir")
        .arg(dir.path())
        .stdout(Stdio::null());
    if let Some(password) = &options.password {
        command.args(["--requirepass", password, "--masterauth", password]);
    }
    if let Some(certificates) = &options.tls {
        let (certificate, key) = certificates.server();
        command
            .args(["--tls-port", &tls_port.to_string()])
            .arg("--tls-cert-file")
            .arg(certificate)
            .arg("--tls-key-file")
            .arg(key)
            .arg("--tls-ca-cert-file")
            .arg(certificates.ca())
            .args([
                "--tls-auth-clients",
                if options.tls_clients { "yes" } else { "no" },
            ]);
    }
    command.args(&options.extra);
    Process::spawn(&mut command)
}

/// A cluster of three masters without replicas.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts the nodes and waits until they have found each other.
    ///
    /// # Panics
    /// When they do not.
    #[must_use]
    pub fn start() -> Self {
        let node = || {
            let bus = free_port().to_string();
            let extra = [
                "--cluster-enabled",
                "yes",
                "--cluster-port",
                &bus,
                "--cluster-node-timeout",
                "2000",
            ];
            RedisServer::start_with(RedisOptions {
                extra: extra.map(str::to_owned).to_vec(),
                ..RedisOptions::default()
            })
        };
        let nodes: Vec<RedisServer> = (0..3).map(|_| node()).collect();
        for (index, (node, [first, last])) in nodes
            .iter()
            .zip([["0", "5460"], ["5461", "10922"], ["10923", "16383"]])
            .enumerate()
        {
            node.command(&["CLUSTER", "ADDSLOTSRANGE", first, last]);
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
        }
        let first = &nodes[0];
        for other in &nodes[1..] {
            let bus = other.cluster_port();
            first.command(&[
                "CLUSTER",
                "MEET",
                "127.0.0.1",
                &other.port.to_string(),
                &bus,
            ]);
        }
        let cluster = Self { nodes };
        for node in &cluster.nodes {
            wait_until("the cluster is complete", || {
                let Answer::Text(info) = node.command(&["CLUSTER", "INFO"]) else {
                    return false;
                };
                info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
            });
        }
        cluster
    }

    /// The nodes.
    #[must_use]
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// The nodes, to kill and restart them.
    pub fn nodes_mut(&mut self) -> &mut [RedisServer] {
        &mut self.nodes
    }

    /// The URL, which names the first node only.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis+cluster://127.0.0.1:{}", self.nodes[0].port)
    }

    /// The node that serves the slot of `key`, as the cluster itself says.
    ///
    /// # Panics
    /// When the cluster does not say.
    #[must_use]
    pub fn owner(&self, key: &str) -> usize {
        let Answer::Int(slot) = self.nodes[0].command(&["CLUSTER", "KEYSLOT", key]) else {
            panic!("no slot");
        };
        let Answer::List(ranges) = self.nodes[0].command(&["CLUSTER", "SLOTS"]) else {
            panic!("no slots");
        };
        for range in ranges {
            if let Answer::List(range) = range
                && let [
                    Answer::Int(first),
                    Answer::Int(last),
                    Answer::List(master),
                    ..,
                ] = range.as_slice()
                && (*first..=*last).contains(&slot)
                && let Some(Answer::Int(port)) = master.get(1)
            {
                let is_it = |node: &RedisServer| i64::from(node.port) == *port;
                return self.nodes.iter().position(is_it).expect("one of the nodes");
            }
        }
        panic!("nobody serves slot {slot}");
    }

    /// A node's id.
    ///
    /// # Panics
    /// When the node does not say.
    #[must_use]
    pub fn id(&self, node: usize) -> String {
        match self.nodes[node].command(&["CLUSTER", "MYID"]) {
            Answer::Text(id) => id,
            other => panic!("{other:?} is no id"),
        }
    }
}

impl RedisServer {
    fn cluster_port(&self) -> String {
        let at = self
            .options
            .extra
            .iter()
            .position(|word| word == "--cluster-port");
        let at = at.expect("the server is a cluster's node");
        self.options.extra[at + 1].clone()
    }
}
