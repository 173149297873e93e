//! Slow peers over HTTP/2, where one connection carries many requests.

mod common;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cachekit_testkit::servers::{CachekitServer, wait_until};
use common::{Client, Version, eventually};
use http_body_util::{BodyExt, Empty, combinators::BoxBody};
use hyper::Request;
use hyper::body::{Body, Frame};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Interval, interval};

/// A time that is enough for anything on a busy machine.
const MOST: Duration = Duration::from_secs(15);

/// A body of so many bytes, one now and then.
struct Drops(Interval, usize);

impl Body for Drops {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        ready!(self.0.poll_tick(context));
        match self.1.checked_sub(1) {
            Some(left) => self.1 = left,
            None => return Poll::Ready(None),
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"a")))))
    }
}

type Sender = http2::SendRequest<BoxBody<Bytes, Infallible>>;

/// A connection, and what ends with it. Its streams take no more than `window` bytes unread.
async fn connect(server: &CachekitServer, window: u32) -> (Sender, tokio::task::JoinHandle<()>) {
    let stream = common::tls(server.port(), &server.ca(), Version::Http2).await;
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(window)
        .initial_connection_window_size(1 << 20)
        .handshake(TokioIo::new(stream.unwrap()))
        .await
        .unwrap();
    (sender, tokio::spawn(async { drop(connection.await) }))
}

fn request(
    server: &CachekitServer,
    method: &str,
    key: &str,
    body: BoxBody<Bytes, Infallible>,
) -> Request<BoxBody<Bytes, Infallible>> {
    Request::builder()
        .method(method)
        .uri(format!("{}/v1/cache/{key}", server.url()))
        .header("authorization", format!("Bearer {}", server.key()))
        .body(body)
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_in_drops_is_refused_and_its_neighbours_are_served() {
    let server = CachekitServer::with(&["--body-timeout", "500ms", "--min-rate", "1MiB"]);
    let (mut sender, _connection) = connect(&server, 1 << 16).await;
    let drops = Drops(interval(Duration::from_millis(20)), usize::MAX).boxed();
    let dribbling = sender.send_request(request(&server, "PUT", "slow", drops));
    let mut other = sender.clone();
    let served = async {
        let asked = request(&server, "GET", "health", Empty::new().boxed());
        other.send_request(asked).await.unwrap().status()
    };
    let both = async { tokio::join!(dribbling, served) };
    let (refused, served) = tokio::time::timeout(MOST, both).await.unwrap();
    assert_eq!(
        (refused.unwrap().status().as_u16(), served.as_u16()),
        (408, 200)
    );
    // The connection is none the worse for it.
    let asked = request(&server, "GET", "slow", Empty::new().boxed());
    assert_eq!(sender.send_request(asked).await.unwrap().status(), 404);
    let client = Client::of(&server, Version::Http2).await;
    assert_eq!(client.metric("cachekit_server_in_flight_bytes").await, 0);
}

/// A body that tells how many of its bytes are still to come.
struct Counted(Drops, Arc<AtomicUsize>);

impl Body for Counted {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let polled = Pin::new(&mut self.0).poll_frame(context);
        self.1.store(self.0.1, Ordering::SeqCst);
        polled
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_comes_when_the_body_has_been_sent() {
    let server = CachekitServer::start();
    let (mut sender, _connection) = connect(&server, 1 << 16).await;
    let left = Arc::new(AtomicUsize::new(10));
    let drops = Drops(interval(Duration::from_millis(50)), 10);
    let body = Counted(drops, Arc::clone(&left)).boxed();
    let mut asked = request(&server, "PUT", "k", body);
    asked
        .headers_mut()
        .insert("x-cachekit-ttl", "0".parse().unwrap());
    let refused = tokio::time::timeout(MOST, sender.send_request(asked)).await;
    assert_eq!(refused.unwrap().unwrap().status(), 400);
    assert_eq!(left.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_does_not_wait_for_a_body_without_end() {
    let server = CachekitServer::with(&["--body-timeout", "500ms"]);
    let (mut sender, _connection) = connect(&server, 1 << 16).await;
    let drops = Drops(interval(Duration::from_millis(20)), usize::MAX).boxed();
    let mut asked = request(&server, "PUT", "k", drops);
    asked
        .headers_mut()
        .insert("x-cachekit-ttl", "0".parse().unwrap());
    let refused = tokio::time::timeout(MOST, sender.send_request(asked)).await;
    assert_eq!(refused.unwrap().unwrap().status(), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrives_slowly_is_taken_whole_during_a_drain() {
    let mut server = CachekitServer::start();
    let (mut sender, connection) = connect(&server, 1 << 16).await;
    let drops = Drops(interval(Duration::from_millis(100)), 40).boxed();
    let asked = sender.send_request(request(&server, "PUT", "slow", drops));
    let ended = async {
        common::under_way(&server).await;
        server.signal("TERM");
        connection.await.unwrap();
    };
    let both = async { tokio::join!(asked, ended) };
    let (answer, ()) = tokio::time::timeout(MOST, both).await.unwrap();
    assert_eq!(answer.unwrap().status(), 200);
    wait_until("the server has ended", || !server.is_running());
    assert!(!server.log().contains("cut off"), "{}", server.log());
    server.restart();
    let client = Client::of(&server, Version::Http2).await;
    assert_eq!(client.get("slow").await.body, [b'a'; 40][..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shut_window_ends_the_connection() {
    let server = CachekitServer::with(&["--body-timeout", "1s", "--min-rate", "10MiB"]);
    let client = Client::of(&server, Version::Http2).await;
    assert_eq!(client.put("large", vec![7; 20 << 20]).await.status, 200);
    let (mut sender, connection) = connect(&server, 1 << 16).await;
    let asked = request(&server, "GET", "large", Empty::new().boxed());
    let answer = sender.send_request(asked).await.unwrap();
    assert_eq!(answer.status(), 200);
    // The body is held and never read; pings are answered meanwhile, so that the peer looks alive.
    tokio::time::timeout(MOST, connection)
        .await
        .unwrap()
        .unwrap();
    drop(answer);
    eventually("the memory is given back", 12, async || {
        client.metric("cachekit_server_slow_peers_total").await == 1
            && client.metric("cachekit_server_in_flight_bytes").await == 0
    })
    .await;
}

/// The header of an HTTP/2 frame.
fn frame(length: u8, kind: u8, flags: u8, stream: u8) -> [u8; 9] {
    [0, 0, length, kind, flags, 0, 0, 0, stream]
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_never_end_end_the_connection() {
    const SETTINGS: u8 = 4;
    const HEADERS: u8 = 1;
    const CONTINUATION: u8 = 9;
    let server = CachekitServer::with(&["--header-timeout", "400ms", "--idle-timeout", "800ms"]);
    let stream = common::tls(server.port(), &server.ca(), Version::Http2).await;
    let (mut read, mut write) = tokio::io::split(stream.unwrap());
    write
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    write.write_all(&frame(0, SETTINGS, 0, 0)).await.unwrap();
    // `:method: GET`, without the flag that the headers are complete.
    write.write_all(&frame(1, HEADERS, 0, 1)).await.unwrap();
    write.write_all(&[0x82]).await.unwrap();
    let started = Instant::now();
    let dribble = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if write
                .write_all(&frame(0, CONTINUATION, 0, 1))
                .await
                .is_err()
            {
                return;
            }
        }
    });
    let mut sink = Vec::new();
    // A connection that is reset has ended too.
    let ended = tokio::time::timeout(MOST, read.read_to_end(&mut sink)).await;
    assert!(
        ended.is_ok(),
        "headers may dribble for {:?}",
        started.elapsed()
    );
    dribble.abort();
}
