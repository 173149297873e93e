//! A TCP proxy that breaks what passes through it.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// What goes wrong between client and server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// The request does not reach the server and the connection is cut.
    CutRequest,
    /// The server gets the request; the connection is cut instead of the reply.
    CutReply,
    /// Only this many bytes of the reply arrive, then the connection is cut.
    HalfReply(usize),
    /// These bytes arrive instead of the reply; the connection stays.
    Garbage(Vec<u8>),
    /// These bytes follow the reply.
    Extra(Vec<u8>),
    /// The reply arrives this much later.
    Delay(Duration),
    /// The reply arrives byte by byte, one every so often.
    Drip(Duration),
    /// The server gets the request; no reply ever arrives and the connection stays.
    NoReply,
    /// Nothing passes in either direction; connections are accepted and stay.
    BlackHole,
}

/// A proxy on a free port of this machine, stopped when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    upstream: SocketAddr,
    fault: Mutex<Plan>,
    /// Both ends of each connection.
    open: Mutex<HashMap<usize, [TcpStream; 2]>>,
    accepted: AtomicUsize,
    stopped: AtomicBool,
}

#[derive(Debug)]
struct Plan {
    fault: Fault,
    once: bool,
}

impl Proxy {
    /// Starts a proxy for the server at a port of this machine.
    ///
    /// # Panics
    /// When there is no free port.
    #[must_use]
    pub fn start(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let state = Arc::new(State {
            upstream: SocketAddr::from(([127, 0, 0, 1], port)),
            fault: Mutex::new(Plan {
                fault: Fault::None,
                once: false,
            }),
            open: Mutex::default(),
            accepted: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
        });
        let serving = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if serving.stopped.load(Ordering::SeqCst) {
                    return;
                }
                if let Ok(client) = client {
                    serve(&serving, client);
                }
            }
        });
        Self { address, state }
    }

    /// The port to connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Lets the fault happen to everything from now on.
    pub fn always(&self, fault: Fault) {
        *self.state.fault.lock() = Plan { fault, once: false };
    }

    /// Lets the fault happen once, to what passes next.
    pub fn once(&self, fault: Fault) {
        *self.state.fault.lock() = Plan { fault, once: true };
    }

    /// Lets everything pass again.
    pub fn heal(&self) {
        self.always(Fault::None);
    }

    /// Cuts the connections that are open.
    pub fn cut(&self) {
        for (_, ends) in self.state.open.lock().drain() {
            for end in ends {
                // The other side may have closed it.
                let _ = end.shutdown(Shutdown::Both);
            }
        }
    }

    /// How many connections were accepted so far.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.state.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        self.cut();
        // Wakes the accepting thread.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(state: &Arc<State>, client: TcpStream) {
    let number = state.accepted.fetch_add(1, Ordering::SeqCst);
    let Ok(server) = TcpStream::connect(state.upstream) else {
        return;
    };
    let clones = || Some((client.try_clone().ok()?, server.try_clone().ok()?));
    let (Some((client_end, server_end)), Some((client_kept, server_kept))) = (clones(), clones())
    else {
        return;
    };
    for stream in [&client, &server] {
        let _ = stream.set_nodelay(true);
    }
    state.open.lock().insert(number, [client_kept, server_kept]);
    let requests = Arc::clone(state);
    std::thread::spawn(move || {
        pass(&client_end, &server_end, |bytes| requests.request(bytes));
        requests.close(number);
    });
    let replies = Arc::clone(state);
    std::thread::spawn(move || {
        pass(&server, &client, |bytes| replies.reply(bytes));
        replies.close(number);
    });
}

/// What to send on, and whether to go on after it.
enum Passage {
    Send(Vec<u8>),
    Drip(Vec<u8>, Duration),
    SendAndCut(Vec<u8>),
}

fn pass(mut from: &TcpStream, mut to: &TcpStream, mut treat: impl FnMut(&[u8]) -> Passage) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let received = match from.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(received) => received,
        };
        let sent = match treat(&buffer[..received]) {
            Passage::Send(bytes) => to.write_all(&bytes),
            Passage::Drip(bytes, pause) => bytes.iter().try_for_each(|byte| {
                std::thread::sleep(pause);
                to.write_all(&[*byte])
            }),
            Passage::SendAndCut(bytes) => {
                let _ = to.write_all(&bytes);
                return;
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

impl State {
    /// The fault, which is used up by this if `concerns` it.
    fn take(&self, concerns: impl Fn(&Fault) -> bool) -> Fault {
        let mut plan = self.fault.lock();
        if !concerns(&plan.fault) {
            return Fault::None;
        }
        if plan.once {
            return std::mem::replace(&mut plan.fault, Fault::None);
        }
        plan.fault.clone()
    }

    fn request(&self, bytes: &[u8]) -> Passage {
        match self.take(|fault| matches!(fault, Fault::CutRequest | Fault::BlackHole)) {
            Fault::CutRequest => Passage::SendAndCut(Vec::new()),
            Fault::BlackHole => Passage::Send(Vec::new()),
            _ => Passage::Send(bytes.to_vec()),
        }
    }

    fn reply(&self, bytes: &[u8]) -> Passage {
        match self.take(|fault| !matches!(fault, Fault::CutRequest)) {
            Fault::CutReply => Passage::SendAndCut(Vec::new()),
            Fault::HalfReply(length) => {
                Passage::SendAndCut(bytes[..length.min(bytes.len())].to_vec())
            }
            Fault::Garbage(garbage) => Passage::Send(garbage),
            Fault::Extra(extra) => Passage::Send([bytes, &extra].concat()),
            Fault::Delay(delay) => {
                std::thread::sleep(delay);
                Passage::Send(bytes.to_vec())
            }
            Fault::Drip(pause) => Passage::Drip(bytes.to_vec(), pause),
            Fault::NoReply | Fault::BlackHole => Passage::Send(Vec::new()),
            Fault::None | Fault::CutRequest => Passage::Send(bytes.to_vec()),
        }
    }

    fn close(&self, number: usize) {
        if let Some(ends) = self.open.lock().remove(&number) {
            for end in ends {
                let _ = end.shutdown(Shutdown::Both);
            }
        }
    }
}
