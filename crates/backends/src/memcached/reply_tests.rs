use super::*;

use proptest::prelude::*;

/// Hands out its bytes a few at a time.
struct Drip<'a>(&'a [u8], usize);

impl Read for Drip<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.1.min(self.0.len()).min(buffer.len());
        buffer[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        Ok(n)
    }
}

fn read_all(bytes: &[u8], step: usize) -> io::Result<Vec<Reply>> {
    let mut reader = Reader::new(Drip(bytes, step));
    let mut replies = Vec::new();
    while reader.has_unread() || !reader.input().0.is_empty() {
        replies.push(read(&mut reader)?);
    }
    Ok(replies)
}

/// As `read_all`, through the reader that waits for nothing.
fn take_all(bytes: &[u8], step: usize) -> io::Result<Vec<Reply>> {
    let mut buffer = BytesMut::new();
    let mut replies = Vec::new();
    for chunk in bytes.chunks(step) {
        buffer.extend_from_slice(chunk);
        while let Some(reply) = take(&mut buffer)? {
            replies.push(reply);
        }
    }
    if buffer.is_empty() {
        Ok(replies)
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

fn value(bytes: &[u8], flags: Flags) -> Reply {
    Reply::Value(Bytes::copy_from_slice(bytes), flags)
}

const NONE: Flags = Flags {
    ttl: None,
    cas: None,
    number: None,
};

#[test]
fn every_kind_of_reply_however_it_arrives() {
    let stream = b"VA 4 t-1 c7 O3 s4 W\r\na\r\nb\r\nVA 0\r\n\r\nHD\r\nHD O1 t61\r\nEN\r\nNF O2\r\nNS\r\nEX\r\nSTORED\r\nVERSION 1.6.18\r\nERROR\r\nSERVER_ERROR out of memory\r\nCLIENT_ERROR bad\r\n";
    let told = |ttl, cas, number| Flags { ttl, cas, number };
    let expected = vec![
        value(b"a\r\nb", told(Some(-1), Some(7), Some(3))),
        value(b"", NONE),
        Reply::Done(NONE),
        Reply::Done(told(Some(61), None, Some(1))),
        Reply::Not(NONE),
        Reply::Not(told(None, None, Some(2))),
        Reply::Not(NONE),
        Reply::Not(NONE),
        Reply::Done(NONE),
        Reply::Version("1.6.18".into()),
        Reply::Refused("ERROR".into()),
        Reply::Refused("SERVER_ERROR out of memory".into()),
        Reply::Refused("CLIENT_ERROR bad".into()),
    ];
    for step in [1, 2, 3, 7, 1000] {
        assert_eq!(read_all(stream, step).expect("valid replies"), expected);
        assert_eq!(take_all(stream, step).expect("valid replies"), expected);
    }
}

#[test]
fn what_is_not_the_protocol_is_refused() {
    for garbage in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"\r\n",
        b"HD\n",
        b"OK\r\n",
        b"END\r\n",
        b"VA\r\n",
        b"VA x\r\n",
        b"VA -1\r\n",
        b"VA 1073741825\r\n",
        b"VA 99999999999999999999\r\n",
        b"VA 2\r\nabc\r\n",
        b"VA 2 tx\r\nab\r\n",
        b"HD c-1\r\n",
        b"HD O4294967296\r\n",
    ] {
        let shown = String::from_utf8_lossy(garbage);
        for step in [1, 1000] {
            let error = read_all(garbage, step).expect_err(&shown);
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{shown:?}");
            let error = take_all(garbage, step).expect_err(&shown);
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{shown:?}");
        }
    }
}

#[test]
fn a_false_length_costs_no_memory() {
    let mut buffer = BytesMut::from(&b"VA 1073741824\r\nabc"[..]);
    assert_eq!(take(&mut buffer).expect("so far it is valid"), None);
    assert!(buffer.capacity() < 1 << 20);
    let error = read_all(&b"VA 1073741824\r\nabc"[..], 1000).expect_err("it ends early");
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

fn any_reply() -> impl Strategy<Value = (Vec<u8>, Reply)> {
    let flags = (
        proptest::option::of(-1..1i64 << 40),
        proptest::option::of(any::<u64>()),
        proptest::option::of(any::<u32>()),
    );
    let flags = flags.prop_map(|(ttl, cas, number)| Flags { ttl, cas, number });
    let lengths = prop_oneof![0..300usize, SHARED - 3..SHARED + 3, 16_000..17_000usize];
    (0..3, flags, lengths, any::<u8>()).prop_map(|(kind, flags, length, seed)| {
        let mut line = Vec::new();
        if let Some(ttl) = flags.ttl {
            line.extend(format!(" t{ttl}").bytes());
        }
        if let Some(cas) = flags.cas {
            line.extend(format!(" c{cas}").bytes());
        }
        if let Some(number) = flags.number {
            line.extend(format!(" O{number}").bytes());
        }
        line.extend(b"\r\n");
        match kind {
            0 => {
                let bytes: Vec<u8> = (0..length).map(|i| (i as u8).wrapping_mul(seed)).collect();
                let mut wire = format!("VA {length}").into_bytes();
                wire.extend(&line);
                wire.extend(&bytes);
                wire.extend(b"\r\n");
                (wire, value(&bytes, flags))
            }
            1 => ([b"HD", &line[..]].concat(), Reply::Done(flags)),
            _ => ([b"NF", &line[..]].concat(), Reply::Not(flags)),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn replies_survive_every_cut(replies in prop::collection::vec(any_reply(), 1..6), step in 1..5000usize) {
        let wire: Vec<u8> = replies.iter().flat_map(|(wire, _)| wire.clone()).collect();
        let expected: Vec<Reply> = replies.into_iter().map(|(_, reply)| reply).collect();
        prop_assert_eq!(&read_all(&wire, step).expect("valid"), &expected);
        prop_assert_eq!(&take_all(&wire, step).expect("valid"), &expected);
    }

    #[test]
    fn both_readers_agree_about_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200), head in 0..6usize) {
        let heads: [&[u8]; 6] = [b"", b"VA 5 ", b"HD ", b"VA ", b"VA 3\r\nabc\r\n", b"EN\r\n"];
        let wire = [heads[head], &bytes].concat();
        match (read_all(&wire, 7), take_all(&wire, 7)) {
            (Ok(read), Ok(taken)) => prop_assert_eq!(read, taken),
            (Err(_), Err(_)) => {}
            (read, taken) => prop_assert!(false, "{:?} and {:?}", read, taken),
        }
    }
}
