//! `cachekit keygen`.

use std::io::Write;

use cachekit::encryption::MasterKey;
use clap::Command;

use crate::{DONE, Failure, tell};

const KEY_BYTES: usize = 32;

pub(crate) fn command() -> Command {
    Command::new("keygen")
        .about("Print a new master key, as CACHEKIT_MASTER_KEY wants it")
        .after_help(
            "32 random bytes of the operating system in hexadecimal. To rotate, set the new key as \
             CACHEKIT_MASTER_KEY and the old one in CACHEKIT_PREVIOUS_MASTER_KEYS.",
        )
}

pub(crate) fn run() -> Result<u8, Failure> {
    let mut bytes = [0; KEY_BYTES];
    getrandom::fill(&mut bytes)
        .map_err(|error| format!("the operating system gives no random bytes: {error}"))?;
    let key: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    MasterKey::from_hex(&key).map_err(|error| format!("the new key {error}; please report it"))?;
    writeln!(std::io::stdout(), "{key}")?;
    tell("Keep it where only your programs read it: who has it reads what they encrypted.");
    Ok(DONE)
}
