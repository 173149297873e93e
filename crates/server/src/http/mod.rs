//! Connections: TLS, both versions of HTTP, and the patience with peers.

mod connection;
mod exchange;
mod listener;
mod tls;

pub(crate) use self::exchange::{Exchange, Peer};
pub(crate) use self::listener::{Listener, Transport};
pub(crate) use self::tls::Certificate;
