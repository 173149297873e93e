//! The `cachekit` command.

mod keys;
mod serve;

use std::process::ExitCode;

use clap::{Command, crate_version};

fn main() -> ExitCode {
    let command = Command::new("cachekit")
        .about("The self-hosted CacheKit server and its tools")
        .version(crate_version!())
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(serve::command())
        .subcommand(keys::command());
    let done = match command.get_matches().subcommand() {
        Some(("serve", arguments)) => serve::run(arguments),
        Some(("keys", arguments)) => keys::run(arguments),
        _ => unreachable!("a subcommand is required"),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cachekit: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What a subcommand ends with when it fails: a line for people.
type Failure = Box<dyn std::error::Error>;
