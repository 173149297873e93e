//! What it means when a server cannot be reached or stops talking.

use std::io;
use std::time::Duration;

use super::Address;
use super::tls::certificate_remedy;
use crate::error::{BackendError, ErrorKind};

/// A failed exchange with one server.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) error: BackendError,
    /// Whether the server could not be reached or stopped answering, so that it may be worth
    /// asking another one.
    pub(crate) lost: bool,
}

/// The error of a connection that could not be made or broke.
pub(crate) fn broken(
    operation: &'static str,
    address: &Address,
    error: io::Error,
    timeout: Duration,
) -> BackendError {
    if timed_out(&error) {
        return match error.get_ref() {
            None => unanswered(operation, address, timeout),
            // What took too long is said.
            Some(_) => {
                let message = format!("{address}: {error}");
                BackendError::new(ErrorKind::Timeout, operation, message).with_source(error)
            }
        };
    }
    let remedy = certificate_remedy(&error, "?ssl_ca= or SSL_CERT_FILE");
    let remedy = remedy.map_or_else(String::new, |remedy| format!("; {remedy}"));
    BackendError::new(
        ErrorKind::Transient,
        operation,
        format!("{address}: {error}{remedy}"),
    )
    .with_source(error)
}

/// The error of a server that did not answer in time.
pub(crate) fn unanswered(
    operation: &'static str,
    address: &Address,
    timeout: Duration,
) -> BackendError {
    BackendError::new(
        ErrorKind::Timeout,
        operation,
        format!("{address} did not answer within {timeout:?}"),
    )
}

pub(crate) fn timed_out(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_connections_are_transient_and_silent_ones_time_out() {
        let address = Address::Tcp {
            host: "h".into(),
            port: 1,
        };
        let of =
            |kind: io::ErrorKind| broken("get", &address, kind.into(), Duration::from_millis(5));
        assert_eq!(
            of(io::ErrorKind::ConnectionRefused).kind(),
            ErrorKind::Transient
        );
        assert_eq!(of(io::ErrorKind::InvalidData).kind(), ErrorKind::Transient);
        let late = of(io::ErrorKind::TimedOut);
        assert_eq!(late.kind(), ErrorKind::Timeout);
        assert_eq!(late.to_string(), "get: h:1 did not answer within 5ms");
        let late = io::Error::new(io::ErrorKind::TimedOut, "no name service");
        let late = broken("get", &address, late, Duration::from_millis(5));
        assert_eq!(late.kind(), ErrorKind::Timeout);
        assert_eq!(late.to_string(), "get: h:1: no name service");
    }
}
