//! The subcommands of the server in a build without it.

use std::ffi::OsString;

use clap::{Arg, ArgMatches, Command, value_parser};

use crate::Failure;

pub(crate) fn commands() -> [Command; 2] {
    let elsewhere = |name, about| {
        Command::new(name).about(about).disable_help_flag(true).arg(
            Arg::new("arguments")
                .num_args(0..)
                .trailing_var_arg(true)
                .allow_hyphen_values(true)
                .hide(true)
                .value_parser(value_parser!(OsString)),
        )
    };
    [
        elsewhere(
            "serve",
            "Run the server (comes with the server's program, not with this one)",
        ),
        elsewhere("keys", "Make, list and revoke its API keys (likewise)"),
    ]
}

pub(crate) fn run(name: &str, _: &ArgMatches) -> Result<u8, Failure> {
    Err(format!(
        "{name} comes with the server's program, which the Python package leaves out; install it with \
         `cargo install --locked --git {} cachekit-cli` and run ~/.cargo/bin/cachekit {name}",
        env!("CARGO_PKG_REPOSITORY"),
    )
    .into())
}
