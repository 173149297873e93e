//! The subcommands of the server.

mod keys;
mod serve;

use clap::{ArgMatches, Command};

use crate::{DONE, Failure};

pub(crate) fn commands() -> [Command; 2] {
    [serve::command(), keys::command()]
}

pub(crate) fn run(name: &str, arguments: &ArgMatches) -> Result<u8, Failure> {
    match name {
        "serve" => serve::run(arguments)?,
        "keys" => keys::run(arguments)?,
        _ => unreachable!("clap knows the subcommands"),
    }
    Ok(DONE)
}
