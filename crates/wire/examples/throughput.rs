//! Prints what the wire's operations cost, next to the bare libraries where there is a comparison.
//!
//! `cargo run --release -p cachekit-wire --example throughput [part of a name]`
#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use cachekit_wire::envelope::{Compression, open, seal};
use cachekit_wire::frame::{self, Extension, Header, Serializer};
use cachekit_wire::keys::{KeyPrefix, SerializerCode, content_hash};
use cachekit_wire::msgpack::{
    Reader, Token, skip, write_array_header, write_bool, write_f64, write_i64, write_map_header,
    write_str,
};

/// The best of several rounds, each long enough for the clock.
fn time(name: &str, mut work: impl FnMut()) {
    if std::env::args()
        .nth(1)
        .is_some_and(|part| !name.contains(&part))
    {
        return;
    }
    let mut best = f64::INFINITY;
    for _ in 0..15 {
        let mut count = 1_u32;
        loop {
            let start = Instant::now();
            (0..count).for_each(|_| work());
            let took = start.elapsed();
            if took >= Duration::from_millis(5) {
                best = best.min(took.as_nanos() as f64 / f64::from(count));
                break;
            }
            count *= 2;
        }
    }
    println!("{name:<52} {best:>12.1} ns");
}

/// Records as programs cache them: about `len` bytes of nested maps with short and longer strings.
fn records(len: usize) -> Vec<u8> {
    let mut out = vec![];
    let mut count = 0;
    let mut items = vec![];
    while items.len() < len {
        write_map_header(&mut items, 6);
        write_str(&mut items, "id");
        write_i64(&mut items, 1000 + count * 37);
        write_str(&mut items, "name");
        write_str(&mut items, &format!("user number {count}"));
        write_str(&mut items, "score");
        write_f64(&mut items, count as f64 * 1.37);
        write_str(&mut items, "active");
        write_bool(&mut items, count % 3 == 0);
        write_str(&mut items, "tags");
        write_array_header(&mut items, 3);
        for tag in ["alpha", "beta", "gamma"] {
            write_str(&mut items, tag);
        }
        write_str(&mut items, "address");
        write_map_header(&mut items, 2);
        write_str(&mut items, "street");
        let street = format!(
            "{} Some Rather Long Street Name, Building {count}",
            count * 7 % 300
        );
        write_str(&mut items, &street);
        write_str(&mut items, "zip");
        write_i64(&mut items, 10_000 + count * 7919 % 80_000);
        count += 1;
    }
    write_array_header(&mut out, u32::try_from(count).expect("few records"));
    out.extend_from_slice(&items);
    out
}

fn reader() {
    let value = records(10 * 1024);
    let mut tokens = 0;
    let mut reader = Reader::new(&value);
    while !reader.is_empty() {
        reader.next().expect("just written");
        tokens += 1;
    }
    time(
        &format!("reader: {} bytes, {tokens} tokens", value.len()),
        || {
            let mut reader = Reader::new(black_box(&value));
            let mut sum = 0;
            while !reader.is_empty() {
                // What a decoder does at least: look at the kind and take the content.
                sum += match reader.next().expect("just written") {
                    Token::Int(v) => v as usize,
                    Token::F64(v) => v.to_bits() as usize >> 32,
                    Token::Str(s) => s.len(),
                    Token::Bin(b) => b.len(),
                    Token::Array(n) | Token::Map(n) => n as usize,
                    _ => 1,
                };
            }
            black_box(sum);
        },
    );
    time(
        &format!("reader: skip the same {} bytes", value.len()),
        || {
            skip(&mut Reader::new(black_box(&value))).expect("just written");
        },
    );
    let mut ints = vec![];
    write_array_header(&mut ints, 10_000);
    (0..10_000).for_each(|i| write_i64(&mut ints, i));
    time("reader: array of 10000 integers", || {
        let mut reader = Reader::new(black_box(&ints));
        let mut sum = 0;
        while !reader.is_empty() {
            if let Token::Int(v) = reader.next().expect("just written") {
                sum += v;
            }
        }
        black_box(sum);
    });
    let mut out = Vec::with_capacity(64 * 1024);
    time("writer: array of 10000 integers", || {
        out.clear();
        write_array_header(&mut out, 10_000);
        (0..10_000).for_each(|i| write_i64(&mut out, black_box(i)));
        black_box(&out);
    });
    time("writer: 1000 strings of 12 bytes", || {
        out.clear();
        (0..1000).for_each(|_| write_str(&mut out, black_box("twelve bytes")));
        black_box(&out);
    });
}

fn envelope() {
    for (label, len) in [("100 B", 100), ("10 KB", 10 << 10), ("1 MB", 1 << 20)] {
        let payload = records(len);
        let mut out = vec![];
        time(&format!("envelope {label}: seal"), || {
            out.clear();
            seal(black_box(&payload), "msgpack", Compression::Fast, &mut out).expect("small");
        });
        time(&format!("envelope {label}: seal into a new Vec"), || {
            let mut out = vec![];
            seal(black_box(&payload), "msgpack", Compression::Fast, &mut out).expect("small");
            black_box(&out);
        });
        time(
            &format!("envelope {label}: lz4_flex compress + xxh3"),
            || {
                black_box(lz4_flex::block::compress(black_box(&payload)));
                black_box(twox_hash::XxHash3_64::oneshot(black_box(&payload)));
            },
        );
        time(&format!("envelope {label}: seal, compression off"), || {
            out.clear();
            seal(black_box(&payload), "msgpack", Compression::Off, &mut out).expect("small");
        });
        let mut sealed = vec![];
        seal(&payload, "msgpack", Compression::Fast, &mut sealed).expect("small");
        let mut into = vec![];
        time(&format!("envelope {label}: open, buffer reused"), || {
            open(black_box(&sealed), &mut into).expect("just sealed");
        });
        time(
            &format!("envelope {label}: open, buffer reused but cleared"),
            || {
                into.clear();
                open(black_box(&sealed), &mut into).expect("just sealed");
            },
        );
        time(&format!("envelope {label}: open into a new Vec"), || {
            let mut into = vec![];
            open(black_box(&sealed), &mut into).expect("just sealed");
            black_box(&into);
        });
        let block = lz4_flex::block::compress(&payload);
        into.resize(payload.len(), 0);
        time(
            &format!("envelope {label}: lz4_flex decompress_into + xxh3"),
            || {
                lz4_flex::block::decompress_into(black_box(&block), &mut into).expect("a block");
                black_box(twox_hash::XxHash3_64::oneshot(&into));
            },
        );
        time(
            &format!("envelope {label}: lz4_flex decompress + xxh3"),
            || {
                let payload = lz4_flex::block::decompress(black_box(&block), payload.len());
                black_box(twox_hash::XxHash3_64::oneshot(&payload.expect("a block")));
            },
        );
        let mut off = vec![];
        seal(&payload, "msgpack", Compression::Off, &mut off).expect("small");
        time(
            &format!("envelope {label}: open literals, buffer reused"),
            || {
                open(black_box(&off), &mut into).expect("just sealed");
            },
        );
    }
}

fn frames() {
    let x = Extension {
        created_ms: Some(1_700_000_000_123),
        fresh_until_ms: Some(1_700_000_060_123),
        compute_ms: Some(12),
        generation: Some(3),
    };
    let plain = Header::msgpack(Serializer::Default, true);
    let extended = Header { x, ..plain.clone() };
    let arrow = Header {
        serializer: Serializer::Arrow,
        format: "arrow".into(),
        original_type: Some("arrow".into()),
        ..plain.clone()
    };
    for (label, header) in [
        ("plain", plain),
        ("plain with x", extended),
        ("other", arrow),
    ] {
        let mut out = Vec::with_capacity(512);
        frame::write(&header, &mut out);
        time(&format!("frame {label}: write"), || {
            out.clear();
            frame::write(black_box(&header), &mut out);
        });
        time(&format!("frame {label}: parse"), || {
            black_box(frame::parse(black_box(&out)).expect("just written"));
        });
    }
}

fn keys() {
    let prefix = KeyPrefix::new(Some("users"), "package.module", "function");
    for len in [8, 100, 1000] {
        let args = vec![7; len];
        time(&format!("key of {len} bytes of arguments"), || {
            black_box(prefix.key(black_box(&args), true, SerializerCode::Std));
        });
        time(&format!("blake2b alone of {len} bytes"), || {
            black_box(content_hash(black_box(&args)));
        });
    }
    let long = KeyPrefix::new(Some(&"n".repeat(200)), "package.module", "function");
    time("key that is shortened", || {
        black_box(long.key(black_box(b"\x92\x91\x2a\x80"), true, SerializerCode::Std));
    });
}

fn main() {
    reader();
    envelope();
    frames();
    keys();
}
