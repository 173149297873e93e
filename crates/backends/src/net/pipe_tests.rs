use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::error::BackendError;
use crate::net::{Reader, line_of};

/// A protocol of lines, of which "?" is the last that is believed.
struct Lines;

impl Protocol for Lines {
    type Command<'a> = &'a str;
    type Reply = String;

    fn encode(
        command: &&str,
        _number: u32,
        out: &mut Vec<u8>,
        mut long: impl FnMut(&mut Vec<u8>, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        long(out, command.as_bytes())?;
        out.extend_from_slice(b"\r\n");
        Ok(())
    }

    fn read<R: io::Read>(reader: &mut Reader<R>) -> io::Result<String> {
        Ok(String::from_utf8_lossy(reader.line()?).into_owned())
    }

    fn take(buffer: &mut BytesMut) -> io::Result<Option<String>> {
        let Some((line, next)) = line_of(buffer)? else {
            return Ok(None);
        };
        let line = String::from_utf8_lossy(line).into_owned();
        let _ = buffer.split_to(next);
        Ok(Some(line))
    }

    fn hello(&self) -> Vec<&str> {
        Vec::new()
    }

    fn refusal(_reply: &String) -> Option<BackendError> {
        None
    }

    fn is_last(reply: &String) -> bool {
        reply == "?"
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a poller")
}

fn ping() -> [&'static str; 1] {
    ["PING"]
}

/// A pipe and the server's end of it.
fn pair() -> (Arc<Pipe<Lines>>, DuplexStream) {
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
            for byte in format!("{number}\r\n").into_bytes() {
                server.write_all(&[byte]).await.expect("the pipe is open");
                tokio::task::yield_now().await;
            }
        }
        for (index, caller) in callers.into_iter().enumerate() {
            let replies = caller.await.expect("no panic").expect("replies");
            let first = 2 * index;
            assert_eq!(replies, [first.to_string(), (first + 1).to_string()]);
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
        assert_eq!(first, 10 * b"PING\r\n".len());
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
        server.write_all(b"1\r\n2\r\n").await.expect("open");
        let replies = stays.await.expect("no panic").expect("replies");
        assert_eq!(replies, ["2"]);
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

#[test]
fn nothing_is_believed_after_a_last_reply() {
    runtime().block_on(async {
        let (pipe, mut server) = pair();
        let callers: Vec<_> = (0..2)
            .map(|_| {
                let pipe = Arc::clone(&pipe);
                tokio::spawn(async move { pipe.call(&ping()).await })
            })
            .collect();
        tokio::task::yield_now().await;
        server.write_all(b"?\r\nmine\r\n").await.expect("open");
        let mut outcomes = Vec::new();
        for caller in callers {
            outcomes.push(caller.await.expect("no panic"));
        }
        assert_eq!(outcomes[0].as_ref().expect("the last reply"), &["?"]);
        let error = outcomes[1].as_ref().expect_err("it is not believed");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    });
}
