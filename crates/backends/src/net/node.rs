//! One server, and everything that is open to it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::ClientConfig;

use super::connection::{Connection, DialError};
use super::error::{Failure, broken, timed_out, unanswered};
use super::link::{self, Link};
use super::pool::{Place, Pool};
use super::tls::{self, TlsOptions};
use super::{Address, Protocol, Request};
use crate::deadline::after;
use crate::error::{BackendError, ErrorKind, Result};

/// How the servers of a backend are connected to.
pub(crate) struct Dial {
    pub(crate) connect_timeout: Duration,
    /// How many connections blocking calls may hold per server.
    pub(crate) pool_size: usize,
    options: Option<TlsOptions>,
    tls: OnceLock<Result<Arc<ClientConfig>>>,
}

impl Dial {
    pub(crate) fn new(
        connect_timeout: Duration,
        pool_size: usize,
        options: Option<TlsOptions>,
    ) -> Arc<Self> {
        Arc::new(Self {
            connect_timeout,
            pool_size,
            options,
            tls: OnceLock::new(),
        })
    }

    /// The TLS settings where TLS is wanted. Certificates are read at first use.
    pub(super) fn tls(&self) -> Result<Option<&Arc<ClientConfig>>> {
        let Some(options) = &self.options else {
            return Ok(None);
        };
        match self.tls.get_or_init(|| tls::client_config(options)) {
            Ok(config) => Ok(Some(config)),
            Err(error) => Err(error.clone()),
        }
    }
}

/// A server with its open connections.
pub(crate) struct Node<P: Protocol> {
    pub(crate) address: Address,
    pub(crate) protocol: P,
    pub(super) dial: Arc<Dial>,
    pub(super) link: Link<P>,
    pool: Pool<Connection<P>>,
}

impl<P: Protocol> Node<P> {
    pub(crate) fn new(address: Address, protocol: P, dial: &Arc<Dial>) -> Arc<Self> {
        Arc::new(Self {
            address,
            protocol,
            dial: Arc::clone(dial),
            link: Link::new(),
            pool: Pool::new(dial.pool_size),
        })
    }

    /// Closes what is open to this server, so that the next call connects anew.
    pub(crate) fn disconnect(&self) {
        self.pool.clear();
        self.link.disconnect();
    }

    /// The pooled connections: idle and in use.
    pub(crate) fn connections(&self) -> (usize, usize) {
        self.pool.usage()
    }

    /// Sends the commands on a pooled connection and waits for the replies.
    ///
    /// A pooled connection that turns out to be dead before it answered anything is replaced once.
    pub(crate) fn call(
        &self,
        request: &Request<'_, P::Command<'_>>,
    ) -> std::result::Result<Vec<P::Reply>, Failure> {
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

    /// As [`Self::call`], on the current runtime's shared connection.
    pub(crate) async fn call_async(
        self: &Arc<Self>,
        request: &Request<'_, P::Command<'_>>,
    ) -> std::result::Result<Vec<P::Reply>, Failure> {
        link::call(self, request).await
    }

    /// Sends the commands if there is an idle connection that takes them, without waiting for the
    /// replies: the caller does something else meanwhile.
    pub(crate) fn start(&self, request: &Request<'_, P::Command<'_>>) -> Option<Started<'_, P>> {
        let (place, idle) = self.pool.take_idle()?;
        let mut connection = Some(idle).filter(Connection::is_reusable)?;
        connection.send(request.batch, request.deadline).ok()?;
        Some(Started {
            place,
            connection,
            count: request.batch.len(),
        })
    }

    fn open(
        &self,
        request: &Request<'_, P::Command<'_>>,
    ) -> std::result::Result<Connection<P>, Failure> {
        let tls = self
            .dial
            .tls()
            .map_err(|error| Failure { error, lost: false })?;
        let limit = after(self.dial.connect_timeout).min(request.deadline);
        Connection::open(&self.address, &self.protocol, tls, limit).map_err(|error| match error {
            DialError::Broken(error) if timed_out(&error) => {
                let waited = request.timeout.min(self.dial.connect_timeout);
                Failure {
                    error: unanswered(request.operation, &self.address, waited),
                    lost: true,
                }
            }
            DialError::Broken(error) => self.lost(request, error),
            DialError::Refused(refusal) => Failure {
                error: refusal.with_operation(request.operation),
                lost: false,
            },
        })
    }

    pub(super) fn lost<C>(&self, request: &Request<'_, C>, error: std::io::Error) -> Failure {
        Failure {
            error: broken(request.operation, &self.address, error, request.timeout),
            lost: true,
        }
    }

    fn pool_exhausted<C>(&self, request: &Request<'_, C>) -> BackendError {
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

/// A call whose replies are still to be read. Dropping it drops the connection.
pub(crate) struct Started<'a, P: Protocol> {
    place: Place<'a, Connection<P>>,
    connection: Connection<P>,
    count: usize,
}

impl<P: Protocol> Started<'_, P> {
    /// The replies; None where the connection broke or they did not come in time.
    pub(crate) fn finish(mut self) -> Option<Vec<P::Reply>> {
        let replies = self.connection.receive(self.count).ok()?;
        self.place.give_back(self.connection);
        Some(replies)
    }
}
