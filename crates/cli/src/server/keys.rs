//! `cachekit keys create|list|revoke`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cachekit_server::{KeyFile, KeyRecord, Mode, NewKey, Permission, key_path};
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::serve::{config_argument, environment};
use crate::text::{plain, table};
use crate::{Failure, tell};

/// The subcommand and its own.
pub(crate) fn command() -> Command {
    let file = Arg::new("keys_file")
        .long("keys-file")
        .value_name("FILE")
        .help("The key file [default: keys.json in the data directory]");
    let directory = Arg::new("data_dir")
        .long("data-dir")
        .value_name("DIR")
        .help("The server's data directory [default: cachekit-data]");
    let json = || {
        Arg::new("json")
            .long("json")
            .action(ArgAction::SetTrue)
            .help("Print JSON")
    };
    let create = Command::new("create")
        .about("Make a key and print it; it is not shown again")
        .arg(
            Arg::new("tenant")
                .long("tenant")
                .required(true)
                .value_name("NAME")
                .help("On whose behalf the key acts: 1 to 64 of a-z, 0-9, '-' and '_'"),
        )
        .arg(
            Arg::new("test")
                .long("test")
                .action(ArgAction::SetTrue)
                .help("A ck_test_ key, whose entries never meet those of ck_live_ keys"),
        )
        .arg(
            Arg::new("read_only")
                .long("read-only")
                .action(ArgAction::SetTrue)
                .help("A key that may only read"),
        )
        .arg(
            Arg::new("label")
                .long("label")
                .default_value("")
                .hide_default_value(true)
                .help("What the key is for"),
        );
    let revoke = Command::new("revoke")
        .about("Revoke a key; running servers refuse it within a second")
        .arg(
            Arg::new("id")
                .required(true)
                .help("The key's id, as list prints it"),
        );
    Command::new("keys")
        .about("Make, list and revoke API keys, also while the server runs")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .after_help(
            "The key file is the one that `cachekit serve` uses with the same --config, environment and flags.",
        )
        .arg(config_argument().global(true))
        .arg(file.global(true))
        .arg(directory.global(true))
        .subcommand(create.arg(json()))
        .subcommand(Command::new("list").about("List the keys").arg(json()))
        .subcommand(revoke)
}

/// Runs one of them.
pub(crate) fn run(arguments: &ArgMatches) -> Result<(), Failure> {
    let (name, arguments) = arguments.subcommand().expect("a subcommand is required");
    let flags = ["data_dir", "keys_file"].into_iter().filter_map(|name| {
        let text: &String = arguments.get_one(name)?;
        Some((name.to_owned(), text.clone()))
    });
    let config = arguments.get_one::<PathBuf>("config").map(PathBuf::as_path);
    let path = key_path(config, environment(), flags)?;
    let file = KeyFile::at(&path);
    let text = |name| -> &String {
        arguments
            .get_one(name)
            .expect("it is required or has a default")
    };
    let mut out = io::stdout().lock();
    match name {
        "create" => {
            let (test, read_only) = (arguments.get_flag("test"), arguments.get_flag("read_only"));
            let key = file.create(&NewKey {
                tenant: text("tenant"),
                mode: if test { Mode::Test } else { Mode::Live },
                permission: if read_only {
                    Permission::ReadOnly
                } else {
                    Permission::ReadWrite
                },
                label: text("label"),
            })?;
            if arguments.get_flag("json") {
                writeln!(out, "{}", serde_json::json!({ "key": key }))?;
            } else {
                writeln!(out, "{key}")?;
                tell("Keep it: it is not stored and cannot be shown again.");
            }
        }
        "list" => {
            let records = file.list()?;
            if records.is_empty() {
                let path = plain(&path.to_string_lossy());
                tell(format!(
                    "There are no keys in {path}; `cachekit keys create` makes one."
                ));
            }
            if arguments.get_flag("json") {
                let shown: Vec<_> = records.iter().map(as_json).collect();
                writeln!(out, "{}", serde_json::to_string_pretty(&shown)?)?;
            } else {
                let head = ["ID", "MODE", "MAY", "MADE", "STATE", "TENANT", "LABEL"];
                let rows: Vec<_> = records.iter().map(as_row).collect();
                write!(out, "{}", table(&head, &rows))?;
            }
        }
        "revoke" => {
            let id = text("id");
            if file.revoke(id)? {
                writeln!(out, "{id} is revoked")?;
            } else {
                writeln!(out, "{id} was revoked before")?;
            }
        }
        _ => unreachable!("clap knows the subcommands"),
    }
    Ok(())
}

fn permission(record: &KeyRecord) -> &'static str {
    match record.permission {
        Permission::ReadWrite => "read-write",
        Permission::ReadOnly => "read-only",
    }
}

fn as_json(record: &KeyRecord) -> serde_json::Value {
    serde_json::json!({
        "id": record.id,
        "tenant": record.tenant,
        "mode": record.mode.as_str(),
        "permission": permission(record),
        "label": record.label,
        "created": record.created,
        "revoked": record.revoked,
    })
}

fn as_row(record: &KeyRecord) -> Vec<String> {
    let state = match record.revoked {
        Some(_) => "revoked",
        None => "usable",
    };
    vec![
        record.id.clone(),
        record.mode.as_str().to_owned(),
        permission(record).to_owned(),
        ago(record.created),
        state.to_owned(),
        plain(&record.tenant),
        plain(&record.label),
    ]
}

/// How long ago that was, in the largest unit that is passed.
fn ago(seconds: u64) -> String {
    let then = UNIX_EPOCH + Duration::from_secs(seconds);
    let passed = SystemTime::now()
        .duration_since(then)
        .unwrap_or_default()
        .as_secs();
    match passed {
        0..60 => format!("{passed} s ago"),
        60..3600 => format!("{} min ago", passed / 60),
        3600..86400 => format!("{} h ago", passed / 3600),
        _ => format!("{} days ago", passed / 86400),
    }
}
