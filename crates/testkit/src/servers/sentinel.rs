use std::process::{Command, Stdio};

use super::process::{Process, free_port, wait_until};
use super::redis::{RedisOptions, RedisServer};
use crate::TempDir;
use crate::raw::{self, Answer, RawClient};

/// A master and a replica, watched by three sentinels under the service name "main".
#[derive(Debug)]
pub struct RedisSentinels {
    servers: Vec<RedisServer>,
    sentinels: Vec<Sentinel>,
}

#[derive(Debug)]
struct Sentinel {
    port: u16,
    _process: Process,
    _dir: TempDir,
}

impl RedisSentinels {
    /// Starts them and waits until the sentinels know the replica and each other.
    ///
    /// # Panics
    /// When they do not.
    #[must_use]
    pub fn start() -> Self {
        let master = RedisServer::start();
        let replica = RedisServer::start_with(RedisOptions {
            extra: ["--replicaof", &format!("127.0.0.1 {}", master.port())]
                .map(str::to_owned)
                .to_vec(),
            ..RedisOptions::default()
        });
        wait_until(
            "the replica follows",
            || matches!(replica.command(&["INFO", "replication"]), Answer::Text(info) if info.contains("master_link_status:up")),
        );
        let sentinels: Vec<Sentinel> = (0..3).map(|_| Sentinel::start(master.port())).collect();
        for sentinel in &sentinels {
            wait_until("the sentinels know everybody", || {
                let count = |what| match sentinel.ask(&["SENTINEL", what, "main"]) {
                    Answer::List(items) => items.len(),
                    _ => 0,
                };
                count("replicas") == 1 && count("sentinels") == 2
            });
        }
        Self {
            servers: vec![master, replica],
            sentinels,
        }
    }

    /// The URL, which names all sentinels.
    #[must_use]
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self
            .sentinels
            .iter()
            .map(|s| format!("127.0.0.1:{}", s.port))
            .collect();
        format!("redis+sentinel://{}/main", hosts.join(","))
    }

    /// The server that the first sentinel names as the master.
    ///
    /// # Panics
    /// When it names none of ours.
    #[must_use]
    pub fn master(&self) -> usize {
        let port = self.sentinels[0].master_port().expect("a master is named");
        let is_it = |server: &RedisServer| server.port() == port;
        self.servers
            .iter()
            .position(is_it)
            .expect("one of the servers")
    }

    /// The two servers.
    pub fn servers_mut(&mut self) -> &mut [RedisServer] {
        &mut self.servers
    }

    /// Makes the replica the master and waits until every sentinel and both servers agree.
    ///
    /// # Panics
    /// When they do not.
    pub fn fail_over(&self) {
        let before = self.master();
        wait_until("a failover is accepted", || {
            let answer = RawClient::connect(self.sentinels[0].port)
                .and_then(|mut client| client.command(&["SENTINEL", "FAILOVER", "main"]));
            matches!(answer, Ok(Answer::Text(_)))
        });
        // A server that changes its role cuts its clients' connections, also the one that asks.
        let answers = |port: u16, words: &[&str]| {
            RawClient::connect(port).and_then(|mut client| client.command(words))
        };
        let (old, new) = (self.servers[before].port(), self.servers[1 - before].port());
        wait_until("the failover is complete", || {
            let role = answers(old, &["ROLE"]);
            let demoted = matches!(role, Ok(Answer::List(role)) if role[0] == Answer::Text("slave".to_owned()));
            demoted && self.sentinels.iter().all(|s| s.master_port() == Some(new))
        });
    }
}

impl Sentinel {
    fn start(master: u16) -> Self {
        let dir = TempDir::new();
        let port = free_port();
        let file = dir.path().join("sentinel.conf");
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor main 127.0.0.1 {master} 2\n\
             sentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 3000\n",
            dir.path().display()
        );
        std::fs::write(&file, text).expect("the directory is writable");
        let mut command = Command::new("redis-server");
        command.arg(&file).arg("--sentinel").stdout(Stdio::null());
        let process = Process::spawn(&mut command);
        wait_until("the sentinel answers", || RawClient::connect(port).is_ok());
        Self {
            port,
            _process: process,
            _dir: dir,
        }
    }

    fn ask(&self, words: &[&str]) -> Answer {
        raw::command(self.port, None, words)
    }

    fn master_port(&self) -> Option<u16> {
        match self.ask(&["SENTINEL", "get-master-addr-by-name", "main"]) {
            Answer::List(parts) => match parts.as_slice() {
                [_, Answer::Text(port)] => port.parse().ok(),
                _ => None,
            },
            _ => None,
        }
    }
}
