//! Accepting connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::connection;
use super::exchange::Peer;
use super::tls::Certificate;
use crate::config::Config;
use crate::metrics::Metrics;

/// What lies between TCP and HTTP.
#[derive(Clone)]
pub(crate) enum Transport {
    /// Nothing.
    Plain,
    /// TLS; HTTP/2 by ALPN.
    Tls(Arc<Certificate>),
}

/// A bound socket with what is served on it.
pub(crate) struct Listener {
    socket: TcpListener,
    transport: Transport,
    router: Router,
    config: Arc<Config>,
    metrics: Arc<Metrics>,
}

impl Listener {
    pub(crate) async fn bind(
        address: SocketAddr,
        transport: Transport,
        router: Router,
        config: Arc<Config>,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        Ok(Self {
            socket: TcpListener::bind(address).await?,
            transport,
            router,
            config,
            metrics,
        })
    }

    pub(crate) fn address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until `drain` turns true, and then until every connection has ended. Dropping the
    /// future ends them all at once.
    pub(crate) async fn run(self, mut drain: watch::Receiver<bool>) {
        let mut connections = JoinSet::new();
        let free = Arc::new(Semaphore::new(self.config.max_connections));
        let stop = drain.clone();
        loop {
            // The set forgets those that have ended.
            while connections.try_join_next().is_some() {}
            let accepted = async {
                let permit = free.clone().acquire_owned().await;
                (permit, self.socket.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                _ = drain.wait_for(|drain| *drain) => break,
                accepted = accepted => accepted,
            };
            match accepted {
                Ok((stream, address)) => {
                    let serve = self.connection(stream, address, stop.clone());
                    connections.spawn(async move {
                        let _permit = permit;
                        serve.await;
                    });
                }
                Err(error) => {
                    // Most likely the process is out of descriptors; connections that end free some.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        drop(self.socket);
        while connections.join_next().await.is_some() {}
    }

    fn connection(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        drain: watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let transport = self.transport.clone();
        let router = self.router.clone();
        let config = self.config.clone();
        let metrics = self.metrics.clone();
        async move {
            metrics.connections.fetch_add(1, Ordering::Relaxed);
            let _open = scopeguard(|| {
                metrics.connections.fetch_sub(1, Ordering::Relaxed);
            });
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "TCP_NODELAY was refused");
            }
            let peer = Peer::new(address);
            match transport {
                Transport::Plain => {
                    connection::serve(stream, router, peer, &config, &metrics, drain).await;
                }
                Transport::Tls(certificate) => {
                    let handshake = certificate.acceptor().accept(stream);
                    match tokio::time::timeout(config.handshake_timeout, handshake).await {
                        Ok(Ok(stream)) => {
                            connection::serve(stream, router, peer, &config, &metrics, drain).await;
                        }
                        Ok(Err(error)) => {
                            metrics.handshakes_failed.fetch_add(1, Ordering::Relaxed);
                            tracing::debug!(%error, "a TLS handshake failed");
                        }
                        Err(_) => {
                            metrics.handshakes_failed.fetch_add(1, Ordering::Relaxed);
                            metrics.slow_peers.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            }
        }
    }
}

/// Runs `end` when dropped.
fn scopeguard(end: impl FnMut()) -> impl Drop {
    struct Guard<F: FnMut()>(F);
    impl<F: FnMut()> Drop for Guard<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    Guard(end)
}
