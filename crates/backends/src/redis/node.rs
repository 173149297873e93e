//! One server, and everything that is open to it.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use super::aio::Link;
use super::command::Command;
use super::config::{Address, Login, RedisConfig};
use super::connection::{Connection, Dial, DialError};
use super::error::{Failure, broken, refused, timed_out, unanswered};
use super::pool::Pool;
use super::reply::Reply;
use super::tls;
use crate::error::{BackendError, ErrorKind, Result};

/// What all nodes of a backend share.
pub(super) struct Shared {
    pub(super) config: RedisConfig,
    tls: OnceLock<Result<Arc<ClientConfig>>>,
}

impl Shared {
    pub(super) fn new(config: RedisConfig) -> Self {
        Self {
            config,
            tls: OnceLock::new(),
        }
    }

    /// The TLS settings where the URL asks for TLS. Certificates are read at first use.
    pub(super) fn tls(&self) -> Result<Option<&Arc<ClientConfig>>> {
        let Some(options) = &self.config.tls else {
            return Ok(None);
        };
        match self.tls.get_or_init(|| tls::client_config(options)) {
            Ok(config) => Ok(Some(config)),
            Err(error) => Err(error.clone()),
        }
    }
}

/// Commands for one server, and the time they may take.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) operation: &'static str,
    pub(super) batch: &'a [Command<'a>],
    pub(super) timeout: Duration,
    pub(super) deadline: Instant,
}

impl<'a> Request<'a> {
    pub(super) fn new(
        operation: &'static str,
        batch: &'a [Command<'a>],
        timeout: Duration,
    ) -> Self {
        Self {
            operation,
            batch,
            timeout,
            deadline: after(timeout),
        }
    }

    /// The same request with one of `parts` equal shares of the time that is left.
    pub(super) fn share(&self, parts: usize) -> Self {
        let now = Instant::now();
        let left = self.deadline.saturating_duration_since(now);
        Self {
            deadline: now + left / u32::try_from(parts).unwrap_or(u32::MAX).max(1),
            ..*self
        }
    }
}

/// The moment after this long. What lies beyond the clock's reach is as good as a century.
pub(super) fn after(time: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    Instant::now() + time.min(CENTURY)
}

/// A server's role: sentinels have a login of their own and no databases.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Store,
    Sentinel,
}

/// A server with its open connections.
pub(super) struct Node {
    pub(super) address: Address,
    pub(super) shared: Arc<Shared>,
    pub(super) link: Link,
    role: Role,
    pool: Pool<Connection>,
}

impl Node {
    pub(super) fn new(address: Address, role: Role, shared: &Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            address,
            shared: Arc::clone(shared),
            link: Link::default(),
            role,
            pool: Pool::new(shared.config.pool_size),
        })
    }

    pub(super) fn login(&self) -> &Login {
        match self.role {
            Role::Store => &self.shared.config.login,
            Role::Sentinel => &self.shared.config.sentinel_login,
        }
    }

    pub(super) fn database(&self) -> u32 {
        match self.role {
            Role::Store => self.shared.config.database,
            Role::Sentinel => 0,
        }
    }

    /// Closes what is open to this server, so that the next call connects anew.
    pub(super) fn disconnect(&self) {
        self.pool.clear();
        self.link.disconnect();
    }

    /// The pooled connections: idle and in use.
    pub(super) fn connections(&self) -> (usize, usize) {
        self.pool.usage()
    }

    /// Sends the commands on a pooled connection and waits for the replies.
    ///
    /// A pooled connection that turns out to be dead before it answered anything is replaced once.
    pub(super) fn call(&self, request: &Request<'_>) -> std::result::Result<Vec<Reply>, Failure> {
        let Some((place, idle)) = self.pool.take(request.deadline) else {
            return Err(Failure {
                error: self.pool_exhausted(request),
                lost: false,
            });
        };
        if let Some(mut connection) = idle.filter(Connection::is_reusable) {
            match connection.call(request.batch, request.deadline) {
                Ok(replies) => {
                    place.give_back(connection);
                    return Ok(replies);
                }
                Err(broken) if broken.unanswered && !timed_out(&broken.error) => {}
                Err(broken) => return Err(self.lost(request, broken.error)),
            }
        }
        let mut connection = self.open(request)?;
        match connection.call(request.batch, request.deadline) {
            Ok(replies) => {
                place.give_back(connection);
                Ok(replies)
            }
            Err(broken) => Err(self.lost(request, broken.error)),
        }
    }

    fn open(&self, request: &Request<'_>) -> std::result::Result<Connection, Failure> {
        let tls = self
            .shared
            .tls()
            .map_err(|error| Failure { error, lost: false })?;
        let dial = Dial {
            address: &self.address,
            login: self.login(),
            database: self.database(),
            tls,
        };
        let limit = after(self.shared.config.connect_timeout);
        Connection::open(&dial, limit.min(request.deadline)).map_err(|error| match error {
            DialError::Broken(error) if timed_out(&error) => {
                let waited = request.timeout.min(self.shared.config.connect_timeout);
                Failure {
                    error: unanswered(request.operation, &self.address, waited),
                    lost: true,
                }
            }
            DialError::Broken(error) => self.lost(request, error),
            DialError::Refused(refusal) => Failure {
                error: refused(request.operation, &refusal),
                lost: false,
            },
        })
    }

    pub(super) fn lost(&self, request: &Request<'_>, error: std::io::Error) -> Failure {
        Failure {
            error: broken(request.operation, &self.address, error, request.timeout),
            lost: true,
        }
    }

    fn pool_exhausted(&self, request: &Request<'_>) -> BackendError {
        BackendError::new(
            ErrorKind::Timeout,
            request.operation,
            format!(
                "all {} connections to {} stayed busy for {:?}; raise the connection pool size",
                self.pool.size(),
                self.address,
                request.timeout
            ),
        )
    }
}
