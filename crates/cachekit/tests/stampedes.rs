//! Many callers of one cold key, in several processes over one store: one of them computes.

mod common;

use std::{
    fs,
    io::{BufRead, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use cachekit::prelude::*;
use cachekit_testkit::{TempDir, raw::Answer};
use common::{
    MS, Runs, eventually,
    shared::{Shared, process},
};

#[derive(Debug, Clone, PartialEq)]
struct Broken;

/// How long a dead holder's lease lasts, and how long a test waits for what takes no time of its own.
const LEASE: Duration = Duration::from_secs(3);
const SLACK: Duration = Duration::from_secs(10);
const PROCESSES: usize = 4;
/// In each process, half of them threads and half of them tasks.
const CALLERS: usize = 50;

/// All callers at once, spread over the caches; what they got.
fn stampede(
    caches: &[Cache],
    compute: impl Fn() -> String + Clone + Send + 'static,
) -> Vec<String> {
    let here = caches.len() * CALLERS / 2;
    let start = Arc::new(Barrier::new(here + 1));
    let threads: Vec<_> = (0..here)
        .map(|n| {
            let (cache, start) = (caches[n % caches.len()].clone(), start.clone());
            let compute = compute.clone();
            thread::spawn(move || {
                start.wait();
                cache.get_or_compute_blocking("k", || Ok::<_, Broken>(compute()))
            })
        })
        .collect();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let tasks: Vec<_> = (0..here)
        .map(|n| {
            let (cache, compute) = (caches[n % caches.len()].clone(), compute.clone());
            runtime.spawn(async move {
                let compute = || async {
                    let computing = tokio::task::spawn_blocking(compute);
                    Ok::<_, Broken>(computing.await.expect("no panic"))
                };
                cache.get_or_compute("k", compute).await
            })
        })
        .collect();
    start.wait();
    let threads = threads.into_iter().map(|thread| thread.join());
    let threads: Vec<_> = threads.map(|got| got.expect("no panic")).collect();
    let tasks = tasks.into_iter().map(|task| runtime.block_on(task));
    let tasks = tasks.map(|got| got.expect("no panic"));
    let all = threads.into_iter().chain(tasks);
    all.map(|got| got.expect("it does not fail")).collect()
}

#[test]
fn of_caches_with_connections_of_their_own() {
    Shared::each(|store| {
        let runs = Runs::default();
        let caches: Vec<Cache> = (0..PROCESSES).map(|_| store.process()).collect();
        let computing = runs.clone();
        let begun = Instant::now();
        let got = stampede(&caches, move || {
            computing.add();
            thread::sleep(100 * MS);
            "once".to_owned()
        });
        assert_eq!(got, vec!["once"; PROCESSES * CALLERS]);
        assert_eq!(runs.count(), 1);
        // Nobody's patience ended. That who waits is told at once, `sharing.rs` shows with few of them.
        assert!(begun.elapsed() < SLACK, "{:?}", begun.elapsed());
        let hits: u64 = caches.iter().map(|cache| cache.stats().l2_hits).sum();
        assert_eq!(hits, PROCESSES as u64 - 1, "each other one read it once");
        if let Shared::Redis(server) = store {
            let none = Answer::List(Vec::new());
            eventually("the lock is gone", || {
                server.command(&["KEYS", "*:lock"]) == none
            });
        }
    });
}

/// Processes whose callers wait for a word. Each run leaves a line with its process's id in a file.
struct Fleet {
    directory: TempDir,
    children: Vec<Child>,
}

fn lines(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn leave(file: &Path, line: &str) {
    let file = fs::OpenOptions::new().append(true).create(true).open(file);
    let line = format!("{line}\n");
    let left = file.and_then(|mut file| file.write_all(line.as_bytes()));
    left.expect("the directory is writable");
}

impl Fleet {
    /// The first run takes `first` milliseconds, later ones 200.
    fn of(store: &Shared, first: u64) -> Self {
        let directory = TempDir::new();
        let start = |_| {
            Command::new(std::env::current_exe().expect("this test has a file"))
                .args(["--exact", "one_process", "--ignored"])
                .envs(store.environment())
                .env("DIRECTORY", directory.path())
                .env("FIRST_RUN", first.to_string())
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()
                .expect("this test can be run")
        };
        let children: Vec<Child> = (0..PROCESSES).map(start).collect();
        let mut fleet = Self {
            directory,
            children,
        };
        eventually("all are ready", || fleet.told("ready").len() == PROCESSES);
        for child in &mut fleet.children {
            let mut stdin = child.stdin.take().expect("it was asked for");
            stdin.write_all(b"go\n").expect("it listens");
        }
        fleet
    }

    fn told(&self, file: &str) -> Vec<String> {
        lines(&self.directory.path().join(file))
    }

    /// The ids of the processes that ran the function, in order.
    fn runs(&self) -> Vec<String> {
        self.told("runs")
    }

    /// Waits for all of them; what their callers got.
    fn outcomes(&mut self) -> Vec<String> {
        for child in &mut self.children {
            assert!(child.wait().expect("it is ours").success());
        }
        self.told("outcomes")
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What each process of a fleet does.
#[test]
#[ignore = "run by the tests below"]
fn one_process() {
    let Some(directory) = std::env::var_os("DIRECTORY").map(PathBuf::from) else {
        return; // By hand, with all that are ignored.
    };
    let first = std::env::var("FIRST_RUN").expect("set with the directory");
    let first: u64 = first.parse().expect("a number");
    let id = std::process::id().to_string();
    let cache = process();
    leave(&directory.join("ready"), &id);
    let mut word = String::new();
    let read = std::io::stdin().lock().read_line(&mut word);
    assert_eq!(read.expect("the test says it"), 3);
    let runs = directory.join("runs");
    let got = stampede(&[cache], move || {
        leave(&runs, &id);
        let took = if lines(&runs).len() == 1 { first } else { 200 };
        thread::sleep(Duration::from_millis(took));
        id.clone()
    });
    leave(&directory.join("outcomes"), &got.join("\n"));
}

#[test]
fn of_processes() {
    Shared::each(|store| {
        let mut fleet = Fleet::of(store, 300);
        let outcomes = fleet.outcomes();
        let runs = fleet.runs();
        assert_eq!(runs.len(), 1, "{runs:?}");
        assert_eq!(outcomes, vec![runs[0].clone(); PROCESSES * CALLERS]);
    });
}

#[test]
fn of_processes_one_of_which_is_killed_while_it_computes() {
    Shared::each(|store| {
        let mut fleet = Fleet::of(store, 600_000);
        eventually("one of them computes", || fleet.runs().len() == 1);
        let id = fleet.runs().remove(0);
        let dead = |child: &Child| child.id().to_string() == id;
        let at = fleet.children.iter().position(dead);
        let mut holder = fleet.children.remove(at.expect("it is one of them"));
        holder.kill().expect("it is ours");
        let killed = Instant::now();
        holder.wait().expect("it is ours");
        let outcomes = fleet.outcomes();
        let took = killed.elapsed();
        assert!(took < LEASE + SLACK, "{took:?}");
        let runs = fleet.runs();
        assert_eq!(runs.len(), 2, "{runs:?}");
        assert_eq!(outcomes, vec![runs[1].clone(); (PROCESSES - 1) * CALLERS]);
    });
}
