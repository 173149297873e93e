//! `cachekit inspect`.

mod entry;
mod show;

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use cachekit::backends::file;
use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use self::entry::{Entry, KINDS};
use crate::{DONE, Failure, NOT_WELL};

/// How many entries are shown unless asked otherwise.
const SHOWN: usize = 50;

pub(crate) fn command() -> Command {
    let text = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    Command::new("inspect")
        .about("List and explain what is in a directory of the File backend, changing nothing")
        .after_help(
            "Values are not decoded: what is said of them stands in their headers. Programs may go on \
             using the directory. Exit status: 0 all is sound, 3 damaged entries or leavings of killed \
             writers were found, 1 there is nothing to inspect.",
        )
        .arg(
            Arg::new("directory")
                .value_name("DIR")
                .env("CACHEKIT_FILE_CACHE_DIR")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("The directory that programs name as cache_dir"),
        )
        .arg(text("key", "TEXT", "Only entries whose key contains TEXT"))
        .arg(text("function", "TEXT", "Only entries of functions whose module.name contains TEXT"))
        .arg(text("namespace", "NAME", "Only entries of this namespace"))
        .arg(text("tenant", "NAME", "Only entries of this tenant"))
        .arg(
            text("kind", "KIND", "Only entries of this kind")
                .value_parser(PossibleValuesParser::new(KINDS)),
        )
        .arg(
            text("sort", "BY", "Order of the entries")
                .value_parser(["key", "size", "age", "left"])
                .default_value("key"),
        )
        .arg(
            text("limit", "N", "Show at most N entries, 0 for all [default: 50, and all with --json]")
                .value_parser(value_parser!(usize)),
        )
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("Print JSON"),
        )
}

/// Which entries are asked for.
struct Filter<'a> {
    key: Option<&'a String>,
    function: Option<&'a String>,
    namespace: Option<&'a String>,
    tenant: Option<&'a String>,
    kind: Option<&'a String>,
}

impl<'a> Filter<'a> {
    fn new(arguments: &'a ArgMatches) -> Self {
        Self {
            key: arguments.get_one("key"),
            function: arguments.get_one("function"),
            namespace: arguments.get_one("namespace"),
            tenant: arguments.get_one("tenant"),
            kind: arguments.get_one("kind"),
        }
    }

    fn takes(&self, entry: &Entry) -> bool {
        let is = |wanted: Option<&String>, found: Option<&String>| {
            wanted.is_none_or(|wanted| found == Some(wanted))
        };
        let function = |wanted: &String| {
            let found = entry.function.as_ref();
            found.is_some_and(|found| found.contains(wanted.as_str()))
        };
        self.key
            .is_none_or(|text| entry.key.contains(text.as_str()))
            && self.function.is_none_or(function)
            && is(self.namespace, entry.namespace.as_ref())
            && is(self.tenant, entry.tenant.as_ref())
            && self.kind.is_none_or(|kind| entry.kind == kind)
    }
}

/// All that is known of a directory.
struct Report {
    directory: PathBuf,
    store: file::Inspection,
    /// Those that the filter takes, in the order asked for.
    entries: Vec<Entry>,
    /// How many there are of each of [`KINDS`], filter or not.
    counts: [usize; KINDS.len()],
}

impl Report {
    fn count(&self, kind: &str) -> usize {
        let counts = KINDS.iter().zip(self.counts);
        counts
            .filter(|(name, _)| **name == kind)
            .map(|(_, count)| count)
            .sum()
    }

    fn is_sound(&self) -> bool {
        self.count("damaged") == 0 && !self.store.interrupted && self.store.abandoned.is_empty()
    }
}

pub(crate) fn run(arguments: &ArgMatches) -> Result<u8, Failure> {
    let directory: &PathBuf = arguments.get_one("directory").expect("it is required");
    let filter = Filter::new(arguments);
    let (mut entries, mut counts) = (Vec::new(), [0; KINDS.len()]);
    let store = file::inspect(directory, |listed, value| {
        entries.push(Entry::new(listed, value));
    })?;
    entry::mark_cleared(&mut entries);
    for entry in &entries {
        let kind = KINDS.iter().position(|kind| *kind == entry.kind);
        counts[kind.expect("every kind is among them")] += 1;
    }
    entries.retain(|entry| filter.takes(entry));
    let by: &String = arguments.get_one("sort").expect("it has a default");
    entry::sort(&mut entries, by);
    let report = Report {
        directory: directory.clone(),
        store,
        entries,
        counts,
    };
    let limit = arguments.get_one::<usize>("limit").copied();
    let mut out = BufWriter::new(std::io::stdout().lock());
    if arguments.get_flag("json") {
        serde_json::to_writer_pretty(&mut out, &show::json(&report, limit.unwrap_or(0)))
            .map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        out.write_all(show::text(&report, limit.unwrap_or(SHOWN)).as_bytes())?;
    }
    out.flush()?;
    Ok(match report.is_sound() {
        true => DONE,
        false => NOT_WELL,
    })
}
