//! Blocking byte streams (TCP, Unix, TLS) that never wait past a deadline.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use socket2::{Domain, SockAddr, Socket, TcpKeepalive, Type};

use super::Address;
use super::lookup::resolve;

/// The shortest wait a socket is given: the kernel takes zero for "for ever".
const SHORTEST: Duration = Duration::from_millis(1);

/// A blocking connection's bytes.
pub(crate) enum Stream {
    Plain(TimedSocket),
    Tls(Box<StreamOwned<ClientConnection, TimedSocket>>),
}

impl Stream {
    /// Connects, with the TLS handshake where one is wanted.
    ///
    /// # Errors
    /// `TimedOut` when the deadline passes; otherwise what refused, unreachable or untrusted
    /// servers and failed name look-ups cause.
    pub(crate) fn connect(
        address: &Address,
        tls: Option<&Arc<ClientConfig>>,
        deadline: Instant,
    ) -> io::Result<Self> {
        let socket = match address {
            Address::Tcp { host, port } => connect_tcp(host, *port, deadline)?,
            Address::Unix(path) => {
                let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
                // The send timeout bounds a connect that waits for room in the server's backlog.
                socket.set_write_timeout(Some(left(deadline)?))?;
                socket.connect(&SockAddr::unix(path)?)?;
                socket
            }
        };
        let mut socket = TimedSocket::new(socket, deadline);
        let (Some(config), Address::Tcp { host, .. }) = (tls, address) else {
            return Ok(Self::Plain(socket));
        };
        let mut session = ClientConnection::new(Arc::clone(config), server_name(host)?)
            .map_err(io::Error::other)?;
        while session.is_handshaking() {
            session.complete_io(&mut socket)?;
        }
        Ok(Self::Tls(Box::new(StreamOwned::new(session, socket))))
    }

    /// Sets the moment at which reads and writes give up.
    pub(crate) fn set_deadline(&mut self, deadline: Instant) {
        match self {
            Self::Plain(socket) => socket.deadline = deadline,
            Self::Tls(stream) => stream.sock.deadline = deadline,
        }
    }

    /// Whether an idle connection is still open and has nothing to say. TLS connections are
    /// taken at their word, because session tickets may arrive at any time.
    pub(crate) fn is_quiet(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_quiet(),
            Self::Tls(_) => true,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(buffer),
            Self::Tls(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// The name that a server's certificate must be for.
pub(crate) fn server_name(host: &str) -> io::Result<ServerName<'static>> {
    ServerName::try_from(host.to_owned()).map_err(|_| {
        io::Error::other(format!(
            "'{host}' is no name that a TLS certificate can be for"
        ))
    })
}

/// A socket whose blocking reads and writes end at a deadline.
pub(crate) struct TimedSocket {
    socket: Socket,
    deadline: Instant,
    /// The timeouts that the kernel knows, to set them only when they no longer fit.
    read_timeout: Duration,
    write_timeout: Duration,
}

impl TimedSocket {
    fn new(socket: Socket, deadline: Instant) -> Self {
        Self {
            socket,
            deadline,
            read_timeout: Duration::MAX,
            write_timeout: Duration::MAX,
        }
    }

    #[cfg(unix)]
    fn is_quiet(&self) -> bool {
        let mut byte = [std::mem::MaybeUninit::uninit()];
        let peeked = self
            .socket
            .recv_with_flags(&mut byte, libc::MSG_PEEK | libc::MSG_DONTWAIT);
        matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    #[cfg(not(unix))]
    fn is_quiet(&self) -> bool {
        true
    }
}

/// Whether a timeout that the kernel knows still serves when `left` remains: it may end a little
/// late, or early, in which case the wait goes on.
fn serves(timeout: Duration, left: Duration) -> bool {
    timeout <= left + SHORTEST && timeout >= left / 2
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(left.max(SHORTEST))
}

fn should_go_on(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

impl Read for TimedSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let left = left(self.deadline)?;
            if !serves(self.read_timeout, left) {
                self.socket.set_read_timeout(Some(left))?;
                self.read_timeout = left;
            }
            match self.socket.read(buffer) {
                Err(error) if should_go_on(&error) => {}
                done => return done,
            }
        }
    }
}

impl Write for TimedSocket {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        loop {
            let left = left(self.deadline)?;
            if !serves(self.write_timeout, left) {
                self.socket.set_write_timeout(Some(left))?;
                self.write_timeout = left;
            }
            match self.socket.write(buffer) {
                Err(error) if should_go_on(&error) => {}
                done => return done,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn connect_tcp(host: &str, port: u16, deadline: Instant) -> io::Result<Socket> {
    let addresses = resolve(host, port, deadline)?;
    let count = u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    let mut last = None;
    for (done, address) in (0..).zip(addresses) {
        // An unreachable first address must leave time for the next one.
        let share = left(deadline)? / (count - done);
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        match socket.connect_timeout(&address.into(), share.max(SHORTEST)) {
            Ok(()) => {
                prepare(&socket)?;
                return Ok(socket);
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::other(format!("the name '{host}' has no address"))))
}

/// What every TCP connection to a server gets: no waiting for full packets, and probes that notice
/// a peer that vanished.
pub(crate) fn prepare(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(Duration::from_secs(30))
            .with_interval(Duration::from_secs(10)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// How late a call may end on a busy machine.
    const GRACE: Duration = Duration::from_secs(3);

    fn listening() -> (TcpListener, Address) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let host = "127.0.0.1".to_owned();
        (listener, Address::Tcp { host, port })
    }

    #[test]
    fn a_silent_peer_is_given_up_at_the_deadline() {
        let (_listener, address) = listening();
        let timeout = Duration::from_millis(60);
        let mut stream =
            Stream::connect(&address, None, Instant::now() + timeout).expect("connected");
        for _ in 0..2 {
            let start = Instant::now();
            stream.set_deadline(start + timeout);
            let error = stream.read(&mut [0; 1]).expect_err("nobody writes");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            let waited = start.elapsed();
            assert!(waited >= timeout && waited < timeout + GRACE, "{waited:?}");
        }
    }

    #[test]
    fn a_dripping_peer_does_not_move_the_deadline() {
        let (listener, address) = listening();
        let deadline = Instant::now() + Duration::from_millis(100);
        let mut stream = Stream::connect(&address, None, deadline).expect("connected");
        let (mut peer, _) = listener.accept().expect("accepted");
        let dripping = std::thread::spawn(move || {
            while peer.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let start = Instant::now();
        let error = stream.read_exact(&mut [0; 1000]).expect_err("too slow");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() < GRACE, "a thousand drops take ten seconds");
        drop(stream);
        dripping.join().expect("the peer stops");
    }

    #[test]
    fn a_peer_that_does_not_read_is_given_up_too() {
        let (_listener, address) = listening();
        let deadline = Instant::now() + Duration::from_millis(100);
        let mut stream = Stream::connect(&address, None, deadline).expect("connected");
        let error = stream
            .write_all(&vec![0; 32 << 20])
            .expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(deadline.elapsed() < GRACE);
    }

    #[test]
    fn unread_bytes_and_closed_peers_are_noticed() {
        let (listener, address) = listening();
        let deadline = Instant::now() + Duration::from_secs(5);
        let stream = Stream::connect(&address, None, deadline).expect("connected");
        let (mut peer, _) = listener.accept().expect("accepted");
        assert!(stream.is_quiet());
        peer.write_all(b"x").expect("written");
        while stream.is_quiet() {
            assert!(Instant::now() < deadline, "the byte never arrives");
        }
        let stream = Stream::connect(&address, None, deadline).expect("connected");
        drop(listener.accept().expect("accepted"));
        while stream.is_quiet() {
            assert!(Instant::now() < deadline, "the end never arrives");
        }
    }
}
