use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a poller")
}

fn ping() -> [Command<'static>; 1] {
    [Command::new("PING")]
}

/// A pipe and the server's end of it.
fn pair() -> (Arc<Pipe>, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    (Arc::new(Pipe::open(Box::new(ours))), theirs)
}

#[test]
fn replies_go_to_their_callers_however_the_bytes_arrive() {
    runtime().block_on(async {
        let (pipe, mut server) = pair();
        let callers: Vec<_> = (0..50)
            .map(|_| {
                let pipe = Arc::clone(&pipe);
                tokio::spawn(async move { pipe.call(&[ping()[0], ping()[0]]).await })
            })
            .collect();
        for number in 0..100 {
            for byte in format!(":{number}\r\n").into_bytes() {
                server.write_all(&[byte]).await.expect("the pipe is open");
                tokio::task::yield_now().await;
            }
        }
        for (index, caller) in callers.into_iter().enumerate() {
            let replies = caller.await.expect("no panic").expect("replies");
            let first = 2 * index as i64;
            assert_eq!(replies, [Reply::Int(first), Reply::Int(first + 1)]);
        }
    });
}

#[test]
fn commands_that_gather_are_one_write() {
    runtime().block_on(async {
        let (pipe, mut server) = pair();
        for _ in 0..10 {
            let pipe = Arc::clone(&pipe);
            tokio::spawn(async move { pipe.call(&ping()).await });
        }
        let mut received = vec![0; 4096];
        let first = server.read(&mut received).await.expect("the pipe is open");
        assert_eq!(first, 10 * b"*1\r\n$4\r\nPING\r\n".len());
    });
}

#[test]
fn a_caller_that_goes_away_leaves_its_place() {
    runtime().block_on(async {
        let (pipe, mut server) = pair();
        let gone = {
            let pipe = Arc::clone(&pipe);
            tokio::spawn(async move { pipe.call(&ping()).await })
        };
        tokio::task::yield_now().await;
        gone.abort();
        let stays = {
            let pipe = Arc::clone(&pipe);
            tokio::spawn(async move { pipe.call(&ping()).await })
        };
        tokio::task::yield_now().await;
        server.write_all(b":1\r\n:2\r\n").await.expect("open");
        let replies = stays.await.expect("no panic").expect("replies");
        assert_eq!(replies, [Reply::Int(2)]);
    });
}

#[test]
fn the_end_of_the_connection_reaches_every_caller_and_later_ones() {
    runtime().block_on(async {
        let (pipe, server) = pair();
        let waiting = {
            let pipe = Arc::clone(&pipe);
            tokio::spawn(async move { pipe.call(&ping()).await })
        };
        tokio::task::yield_now().await;
        drop(server);
        let error = waiting.await.expect("no panic").expect_err("it ended");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(pipe.call(&ping()).await.is_err());
        assert!(pipe.is_closed());
    });
}

#[test]
fn callers_are_told_when_the_pipe_is_dropped() {
    runtime().block_on(async {
        let (pipe, _server) = pair();
        let queue = Arc::clone(&pipe.queue);
        let (done, replies) = oneshot::channel();
        queue.state.lock().waiting.push_back(Waiting {
            left: 1,
            replies: Vec::new(),
            done,
        });
        drop(pipe);
        let error = replies.await.expect("an answer").expect_err("it ended");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    });
}

#[test]
fn a_reply_that_nobody_asked_for_ends_the_connection() {
    runtime().block_on(async {
        let (pipe, mut server) = pair();
        server.write_all(b"+OK\r\n").await.expect("open");
        while !pipe.is_closed() {
            tokio::task::yield_now().await;
        }
        let error = pipe.call(&ping()).await.expect_err("it ended");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    });
}
