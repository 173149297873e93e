//! One connection, from its first byte to its last.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tower_service::Service;

use super::exchange::{Peer, Verdict};
use crate::config::Config;
use crate::metrics::Metrics;

/// How often a connection is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How long a peer has to notice that its connection is to end. Clients that read only while they
/// ask something never do.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves the requests that come over `stream` until either side ends it. When `drain` turns true,
/// running requests end, and the connection with them.
pub(super) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    peer: Arc<Peer>,
    config: &Config,
    metrics: &Metrics,
    mut drain: watch::Receiver<bool>,
) {
    let asked = peer.clone();
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(asked.clone());
        // Routers are ready at all times.
        router.clone().call(request.map(Body::new))
    });
    let builder = builder(config);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let first = config.header_timeout;
    let mut look = tokio::time::interval(LOOK.min(first / 2).max(Duration::from_millis(1)));
    // Once the connection is asked to end, when it has to have.
    let mut end: Option<Instant> = None;
    let mut draining = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection broke");
                }
                return;
            }
            _ = drain.wait_for(|drain| *drain), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
            _ = look.tick() => {}
        }
        let now = Instant::now();
        if end.is_some_and(|end| end <= now) {
            return;
        }
        let verdict = if draining {
            peer.judge(now, Duration::ZERO, Duration::ZERO)
        } else {
            peer.judge(now, first, config.idle_timeout)
        };
        match verdict {
            Verdict::Fine => end = None,
            Verdict::Idle if end.is_none() => {
                connection.as_mut().graceful_shutdown();
                end = Some(now + first.min(FAREWELL));
            }
            Verdict::Idle => {}
            Verdict::Dawdles => {
                metrics
                    .slow_peers
                    .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                return;
            }
        }
    }
}

fn builder(config: &Config) -> Builder<TokioExecutor> {
    let header_bytes = config.max_header_bytes.as_usize();
    // The table of settings keeps it below 16 MiB.
    let window = u32::try_from(config.http2_window.0).unwrap_or(u32::MAX / 2);
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // It counts the rest between two requests too. A new connection's first headers have less.
        .header_read_timeout(config.idle_timeout.max(config.header_timeout))
        .max_buf_size(header_bytes)
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(config.max_streams)
        .initial_stream_window_size(window)
        .initial_connection_window_size(window * 2)
        .max_send_buf_size(1 << 16)
        .max_header_list_size(u32::try_from(header_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}
