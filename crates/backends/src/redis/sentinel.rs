//! The master that sentinels name.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use super::command::{Command, Replies};
use super::node::{Node, Request, Role, Shared};
use super::reply::Reply;
use crate::error::{BackendError, ErrorKind, Result};
use crate::net::Address;

/// Knows the sentinels and the master that they last named.
pub(super) struct Sentinels {
    shared: Arc<Shared>,
    service: String,
    /// The one that answered last comes first.
    sentinels: Mutex<Vec<Arc<Node>>>,
    master: Mutex<Option<Arc<Node>>>,
}

impl Sentinels {
    /// The master, if it is known.
    pub(super) fn known_master(&self) -> Option<Arc<Node>> {
        self.master.lock().clone()
    }

    pub(super) fn new(addresses: &[Address], service: &str, shared: &Arc<Shared>) -> Self {
        let sentinels = addresses
            .iter()
            .map(|address| shared.node(address, Role::Sentinel))
            .collect();
        Self {
            shared: Arc::clone(shared),
            service: service.to_owned(),
            sentinels: Mutex::new(sentinels),
            master: Mutex::new(None),
        }
    }

    pub(super) fn master(&self) -> Option<Arc<Node>> {
        self.master.lock().clone()
    }

    /// Asks one sentinel after the other until one names a server that says it is the master.
    pub(super) fn ask(&self, request: &Request<'_>) -> Result<()> {
        let sentinels = self.sentinels.lock().clone();
        let mut last = None;
        for (asked, sentinel) in sentinels.iter().enumerate() {
            let share = request.share(sentinels.len() - asked);
            match self.ask_one(sentinel, &share) {
                Ok(master) => {
                    *self.master.lock() = Some(master);
                    self.sentinels
                        .lock()
                        .sort_by_key(|other| !Arc::ptr_eq(other, sentinel));
                    return Ok(());
                }
                Err(error) => last = Some(error),
            }
            if Instant::now() >= request.deadline {
                break;
            }
        }
        Err(last.unwrap_or_else(|| self.no_master(request, "none was asked")))
    }

    fn ask_one(&self, sentinel: &Arc<Node>, request: &Request<'_>) -> Result<Arc<Node>> {
        let batch = [Command::new("SENTINEL")
            .arg("get-master-addr-by-name")
            .arg(&self.service)];
        let request = Request {
            batch: &batch,
            ..*request
        };
        let replies = sentinel.call(&request).map_err(|failure| failure.error)?;
        let address = match Replies::new(request.operation, replies).next()? {
            Reply::Array(parts) => match parts.as_slice() {
                [host, port] => parse_address(host.text(), port.text()),
                _ => None,
            },
            Reply::Nil => {
                return Err(BackendError::new(
                    ErrorKind::Permanent,
                    request.operation,
                    format!(
                        "the sentinel {} knows no service '{}'; check the URL's path",
                        sentinel.address, self.service
                    ),
                ));
            }
            _ => None,
        };
        let address =
            address.ok_or_else(|| self.no_master(&request, "its answer was no address"))?;
        let known = self.master().filter(|master| master.address == address);
        let master = known.unwrap_or_else(|| self.shared.node(&address, Role::Store));
        self.check_role(&master, &request)?;
        Ok(master)
    }

    /// A sentinel may be behind: the server must say itself that it is a master. A user that may
    /// not ask takes the sentinel's word.
    fn check_role(&self, master: &Arc<Node>, request: &Request<'_>) -> Result<()> {
        let batch = [Command::new("ROLE")];
        let request = Request {
            batch: &batch,
            ..*request
        };
        let replies = master.call(&request).map_err(|failure| failure.error)?;
        match replies.first() {
            Some(Reply::Array(role)) if role.first().and_then(Reply::text) == Some("master") => {
                Ok(())
            }
            Some(Reply::Error(refusal)) if &*refusal.code == "NOPERM" => Ok(()),
            Some(Reply::Error(refusal)) => Err(super::error::refused(request.operation, refusal)),
            _ => Err(self.no_master(&request, &format!("{} is not a master yet", master.address))),
        }
    }

    fn no_master(&self, request: &Request<'_>, why: &str) -> BackendError {
        BackendError::new(
            ErrorKind::Transient,
            request.operation,
            format!("no sentinel named a master of '{}': {why}", self.service),
        )
    }
}

fn parse_address(host: Option<&str>, port: Option<&str>) -> Option<Address> {
    Some(Address::Tcp {
        host: host?.to_owned(),
        port: port?.parse().ok()?,
    })
}
