//! `top`, on a real server and on pages that a test writes.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use cachekit_testkit::servers::{CachekitServer, free_port};
use common::{Client, Version};
use serde_json::Value;

/// The program with only these variables.
fn top(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(CachekitServer::program());
    command
        .arg("top")
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied());
    command
}

fn ended(arguments: &[&str], variables: &[(&str, &str)]) -> (String, String, Option<i32>) {
    let Output {
        status,
        stdout,
        stderr,
    } = top(arguments, variables)
        .output()
        .expect("the program runs");
    let text = |bytes| String::from_utf8(bytes).expect("it is text");
    (text(stdout), text(stderr), status.code())
}

/// A program that prints JSON until it is dropped.
struct Watching {
    child: Child,
    lines: mpsc::Receiver<Value>,
}

impl Watching {
    fn start(url: &str, variables: &[(&str, &str)]) -> Self {
        let mut child = top(&[url, "--json", "--interval", "0.1"], variables)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program runs");
        let out = BufReader::new(child.stdout.take().expect("it is piped"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in out.lines() {
                let line = line.expect("it is text");
                let value = serde_json::from_str(&line).expect("a line is JSON");
                if sender.send(value).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    fn next(&self) -> Value {
        let limit = Duration::from_secs(20);
        self.lines.recv_timeout(limit).expect("another line")
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }
}

fn operation<'a>(shown: &'a Value, name: &str) -> Option<&'a Value> {
    let mut operations = shown["operations"].as_array()?.iter();
    operations.find(|line| line["operation"] == name)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_watched() {
    let server = CachekitServer::start();
    let client = Client::of(&server, Version::Http2).await;
    client.put("a", "value").await;
    let ca = server.ca();
    let variables = [("SSL_CERT_FILE", ca.to_str().expect("a plain path"))];
    let watching = Watching::start(&server.url(), &variables);
    let until = Instant::now() + Duration::from_secs(20);
    let shown = loop {
        for key in ["a", "a", "a", "b"] {
            client.get(key).await;
        }
        client.put("a", "value").await;
        let shown = watching.next();
        let of = |name, figure: &str| operation(&shown, name)?[figure].as_f64();
        // An interval may hold any part of such a round, and not one hit; one with most of it comes.
        if of("get", "hit_ratio") > Some(0.5) && of("put", "calls_per_second") > Some(0.0) {
            break shown;
        }
        assert!(Instant::now() < until, "{shown}");
    };
    let get = operation(&shown, "get").expect("gets");
    let ratio = get["hit_ratio"].as_f64().expect("a ratio");
    assert!(ratio <= 1.0, "{shown}");
    assert!(get["calls_per_second"].as_f64() > Some(0.0), "{shown}");
    let (p50, p99) = (get["p50_seconds"].as_f64(), get["p99_seconds"].as_f64());
    assert!(p50 > Some(0.0) && p50 <= p99 && p99 < Some(5.0), "{shown}");
    assert_eq!(get["errors_per_second"], 0.0);
    assert_eq!(
        operation(&shown, "put").expect("puts")["hit_ratio"],
        Value::Null
    );
    // Every figure that is looked for is one that the server has.
    let figures = shown["server"].as_object().expect("figures").keys();
    let figures: Vec<_> = figures.map(String::as_str).collect();
    let expected = [
        "connections",
        "disk_bytes",
        "entries",
        "evicted_per_second",
        "expired_per_second",
        "in_flight_bytes",
        "locks",
        "received_bytes_per_second",
        "sent_bytes_per_second",
        "stored_bytes",
    ];
    assert_eq!(figures, expected);
    assert_eq!(shown["server"]["entries"], 1);

    let arguments = [&server.url(), "--once", "--interval", "0.1"];
    let (out, said, code) = ended(&arguments, &variables);
    assert_eq!((said.as_str(), code), ("", Some(0)));
    assert!(
        out.starts_with("OPERATION  CALLS/S") && out.contains("now: entries 1,"),
        "{out}"
    );
    let (_, said, code) = ended(&arguments, &[]);
    assert!(code == Some(1) && said.contains("SSL_CERT_FILE"), "{said}");
}

#[test]
fn a_token_is_for_servers_that_ask_for_it() {
    let server = CachekitServer::with(&["--metrics-token", "s3cret-token-of-metrics"]);
    let (url, ca) = (server.url(), server.ca());
    let trusted = ("SSL_CERT_FILE", ca.to_str().expect("a plain path"));
    let token = |token| [trusted, ("CACHEKIT_SERVER_METRICS_TOKEN", token)];
    let arguments = [url.as_str(), "--once", "--interval", "0.1"];
    let (_, said, code) = ended(&arguments, &[trusted]);
    assert!(
        code == Some(1) && said.contains("CACHEKIT_SERVER_METRICS_TOKEN"),
        "{said}"
    );
    let (_, said, code) = ended(&arguments, &token("wrong-token"));
    assert!(code == Some(1) && !said.contains("wrong-token"), "{said}");
    assert_eq!(
        ended(&arguments, &token("s3cret-token-of-metrics")).2,
        Some(0)
    );
}

/// Answers requests with these pages, one after the other and the last one for ever; an empty one is a
/// connection that breaks off. The URL of it.
fn pages(pages: &[&str]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it has an address");
    let pages: Vec<_> = pages.iter().map(|page| (*page).to_owned()).collect();
    thread::spawn(move || {
        let mut at = 0;
        for stream in listener.incoming() {
            answer(stream.expect("a connection"), &pages[at]);
            at = (at + 1).min(pages.len() - 1);
        }
    });
    format!("http://{address}/metrics")
}

fn answer(mut stream: TcpStream, page: &str) {
    let mut asked = Vec::new();
    while !asked.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a request");
        asked.push(byte[0]);
    }
    if !page.is_empty() {
        let length = page.len();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{page}");
        stream
            .write_all(answer.as_bytes())
            .expect("the client reads");
    }
}

/// What a program has counted: its namespace is not plain text.
fn of_program(hits: u32, errors: u32, breaker: u32) -> String {
    let labels = "operation=\"get\",serializer=\"std\",namespace=\"a\u{1b}[31m\"";
    format!(
        "redis_cache_operations_total{{{labels},status=\"hit\"}} {hits}\n\
         redis_cache_operations_total{{{labels},status=\"timeout\"}} {errors}\n\
         redis_cache_operation_duration_seconds_bucket{{{labels},le=\"0.001\"}} {hits}\n\
         redis_cache_operation_duration_seconds_bucket{{{labels},le=\"+Inf\"}} {hits}\n\
         redis_circuit_breaker_state{{namespace=\"a\"}} {breaker}\n"
    )
}

#[test]
fn a_program_is_watched_by_namespace() {
    let (before, after) = (of_program(10, 1, 0), of_program(30, 2, 1));
    let url = pages(&[&before, &after]);
    let (out, said, code) = ended(&[&url, "--once", "--json", "--interval", "0.2"], &[]);
    assert_eq!((said.as_str(), code), ("", Some(0)));
    let shown: Value = serde_json::from_str(&out).expect("it is JSON");
    let get = operation(&shown, "get").expect("gets");
    let seconds = shown["seconds"].as_f64().expect("seconds");
    let counted = |name: &str| (get[name].as_f64().expect("a rate") * seconds).round();
    assert_eq!(
        (counted("calls_per_second"), counted("errors_per_second")),
        (21.0, 1.0)
    );
    assert_eq!(get["calls"], 32);
    assert_eq!(
        (&get["hit_ratio"], &shown["breakers"]["a"]),
        (&1.0.into(), &"open".into())
    );

    let url = pages(&[&before, &after]);
    let (out, _, _) = ended(&[&url, "--once", "--interval", "0.2"], &[]);
    assert!(
        out.starts_with("NAMESPACE") && out.contains("a\\u{1b}[31m"),
        "{out}"
    );
    assert!(
        out.contains("breakers: a open") && !out.contains('\u{1b}'),
        "{out}"
    );
}

#[test]
fn a_reading_that_fails_is_told_and_the_watch_goes_on() {
    let (before, after) = (of_program(10, 1, 0), of_program(30, 2, 1));
    let watching = Watching::start(&pages(&[&before, "", &after]), &[]);
    assert!(watching.next()["seconds"].as_f64() > Some(0.2));
    let (out, said, code) = ended(
        &[&pages(&[&before, ""]), "--once", "--interval", "0.1"],
        &[],
    );
    assert_eq!(
        (out.as_str(), code, said.lines().count()),
        ("", Some(1), 1),
        "{said}"
    );
}

#[test]
fn endpoints_that_cannot_be_watched_are_told_with_a_remedy() {
    let dead = format!("http://127.0.0.1:{}", free_port());
    let other = pages(&["up 1\n"]);
    for (url, expected) in [
        (dead.as_str(), "cannot be reached"),
        (other.as_str(), "shows no metrics of cachekit; name"),
        ("localhost:9090", "does not begin with http:// or https://"),
        (
            "http://me:hunter2@localhost",
            "CACHEKIT_SERVER_METRICS_TOKEN",
        ),
    ] {
        let (out, said, code) = ended(&[url, "--once", "--interval", "0.1"], &[]);
        assert_eq!(
            (out.as_str(), code, said.lines().count()),
            ("", Some(1), 1),
            "{said}"
        );
        assert!(
            said.contains(expected) && !said.contains("hunter2"),
            "{said}"
        );
    }
    assert_eq!(
        ended(&["http://localhost", "--interval", "0"], &[]).2,
        Some(2)
    );
}
