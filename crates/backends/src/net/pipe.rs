//! One connection on which the commands of many callers are pipelined.
//!
//! Callers append their commands to one buffer and wait; a task writes whatever has gathered since it
//! last wrote, in one go, and hands out replies in order. A caller that goes away leaves its place, so
//! that its reply is read and dropped.

use std::{
    collections::VecDeque,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
    task::AbortHandle,
};

use super::link::ByteStream;
use super::{Protocol, in_step};

/// A pipelined connection. Dropping it ends the connection.
pub(super) struct Pipe<P: Protocol> {
    queue: Arc<Queue<P>>,
    driver: AbortHandle,
}

struct Queue<P: Protocol> {
    state: Mutex<State<P>>,
    /// Wakes the driver when there is something to write.
    driver: AtomicWaker,
}

struct State<P: Protocol> {
    /// How many commands were appended, modulo 2^32.
    sent: u32,
    out: Vec<u8>,
    waiting: VecDeque<Waiting<P>>,
    /// Why the connection ended.
    ended: Option<(io::ErrorKind, String)>,
}

/// A caller whose replies are still to come.
struct Waiting<P: Protocol> {
    left: usize,
    replies: Vec<P::Reply>,
    done: oneshot::Sender<io::Result<Vec<P::Reply>>>,
}

/// How much is read at once.
const READ: usize = 64 << 10;
/// A write buffer that has grown larger than this is given back.
const KEEP: usize = 1 << 20;

impl<P: Protocol> Queue<P> {
    fn new() -> Self {
        Self {
            state: Mutex::new(State {
                sent: 0,
                out: Vec::new(),
                waiting: VecDeque::new(),
                ended: None,
            }),
            driver: AtomicWaker::new(),
        }
    }
}

impl<P: Protocol> State<P> {
    fn ended(&self) -> Option<io::Error> {
        let (kind, message) = self.ended.as_ref()?;
        Some(io::Error::new(*kind, message.clone()))
    }
}

impl<P: Protocol> Pipe<P> {
    /// Serves `stream` on a task of the current runtime.
    pub(super) fn open(stream: Box<dyn ByteStream>) -> Self {
        let queue = Arc::new(Queue::<P>::new());
        let driver = tokio::spawn(Driver {
            queue: Arc::clone(&queue),
            stream,
            out: Vec::new(),
            written: 0,
            flushed: true,
            received: 0,
            input: BytesMut::with_capacity(READ),
        });
        Self {
            queue,
            driver: driver.abort_handle(),
        }
    }

    /// Whether the connection has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.driver.is_finished()
    }

    /// Sends the commands and waits for a reply to each.
    ///
    /// # Errors
    /// Why the connection ended, if it did before the last reply.
    pub(super) async fn call(&self, batch: &[P::Command<'_>]) -> io::Result<Vec<P::Reply>> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let (done, replies) = oneshot::channel();
        {
            let state = &mut *self.queue.state.lock();
            if let Some(error) = state.ended() {
                return Err(error);
            }
            for command in batch {
                let encoded = P::encode(command, state.sent, &mut state.out, |out, bytes| {
                    out.extend_from_slice(bytes);
                    Ok(())
                });
                encoded.expect("memory takes every byte");
                state.sent = state.sent.wrapping_add(1);
            }
            state.waiting.push_back(Waiting {
                left: batch.len(),
                replies: Vec::with_capacity(batch.len()),
                done,
            });
        }
        self.queue.driver.wake();
        match replies.await {
            Ok(replies) => replies,
            // A driver that ends answers everybody; this one has vanished otherwise.
            Err(_) => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }
}

impl<P: Protocol> Drop for Pipe<P> {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

struct Driver<P: Protocol> {
    queue: Arc<Queue<P>>,
    stream: Box<dyn ByteStream>,
    /// What is being written, and how much of it has been.
    out: Vec<u8>,
    written: usize,
    flushed: bool,
    /// How many replies were received, modulo 2^32.
    received: u32,
    input: BytesMut,
}

impl<P: Protocol> Driver<P> {
    /// Writes what there is; ready when the stream takes no more, pending in the sense of a poll.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.written == self.out.len() {
                if self.out.capacity() > KEEP {
                    self.out = Vec::new();
                }
                self.out.clear();
                self.written = 0;
                std::mem::swap(&mut self.out, &mut self.queue.state.lock().out);
                if self.out.is_empty() {
                    if !self.flushed {
                        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
                        self.flushed = true;
                    }
                    return Poll::Pending;
                }
            }
            let rest = &self.out[self.written..];
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
            self.flushed = false;
        }
    }

    /// Reads what there is and hands out the replies in it.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            self.input.reserve(READ);
            let mut space = ReadBuf::uninit(self.input.spare_capacity_mut());
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut space))?;
            let received = space.filled().len();
            if received == 0 {
                let message = "the server closed the connection";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, message)));
            }
            // SAFETY: `ReadBuf` has tracked that so many bytes of the spare capacity were filled.
            unsafe { self.input.set_len(self.input.len() + received) };
            while let Some(reply) = P::take(&mut self.input)? {
                in_step::<P>(&reply, self.received)?;
                self.received = self.received.wrapping_add(1);
                let is_last = P::is_last(&reply);
                self.hand_out(reply)?;
                if is_last {
                    let message = "the server did not understand a request";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, message)));
                }
            }
        }
    }

    fn hand_out(&self, reply: P::Reply) -> io::Result<()> {
        let mut state = self.queue.state.lock();
        let Some(first) = state.waiting.front_mut() else {
            let message = "a reply was received that nothing had asked for";
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        };
        first.replies.push(reply);
        first.left -= 1;
        if first.left == 0 {
            let Waiting { replies, done, .. } = state
                .waiting
                .pop_front()
                .expect("it was looked at just before");
            drop(state);
            // A caller that has gone away wants no replies.
            let _ = done.send(Ok(replies));
        }
        Ok(())
    }

    fn end(&self, error: &io::Error) {
        let mut state = self.queue.state.lock();
        state
            .ended
            .get_or_insert_with(|| (error.kind(), error.to_string()));
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        for caller in waiting {
            let error = io::Error::new(error.kind(), error.to_string());
            let _ = caller.done.send(Err(error));
        }
    }
}

impl<P: Protocol> Drop for Driver<P> {
    fn drop(&mut self) {
        // Its runtime is gone, or the pipe is: nobody will answer those who still wait.
        self.end(&io::ErrorKind::ConnectionAborted.into());
    }
}

impl<P: Protocol> Future for Driver<P> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        this.queue.driver.register(context.waker());
        let failed = match this.poll_write(context) {
            Poll::Ready(Err(error)) => Some(error),
            _ => match this.poll_read(context) {
                Poll::Ready(Err(error)) => Some(error),
                _ => None,
            },
        };
        match failed {
            Some(error) => {
                this.end(&error);
                Poll::Ready(())
            }
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
#[path = "pipe_tests.rs"]
mod tests;
