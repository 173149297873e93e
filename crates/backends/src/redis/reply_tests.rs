use super::*;

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

fn bulk(bytes: &[u8]) -> Reply {
    Reply::Bulk(Bytes::copy_from_slice(bytes))
}

#[test]
fn every_kind_of_reply_however_it_arrives() {
    let stream = b"+OK\r\n:-2\r\n$-1\r\n$0\r\n\r\n$4\r\na\r\nb\r\n*-1\r\n*2\r\n*0\r\n:7\r\n-MOVED 1 h:1\r\n-ERR\r\n";
    let expected = vec![
        Reply::Status("OK".into()),
        Reply::Int(-2),
        Reply::Nil,
        bulk(b""),
        bulk(b"a\r\nb"),
        Reply::Nil,
        Reply::Array(vec![Reply::Array(vec![]), Reply::Int(7)]),
        Reply::Error(Refusal {
            code: "MOVED".into(),
            detail: "1 h:1".into(),
        }),
        Reply::Error(Refusal {
            code: "ERR".into(),
            detail: "".into(),
        }),
    ];
    for step in [1, 2, 3, 7, 1000] {
        assert_eq!(read_all(stream, step).expect("valid replies"), expected);
        assert_eq!(take_all(stream, step).expect("valid replies"), expected);
    }
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
    assert!(buffer.is_empty(), "half a reply is left: {buffer:?}");
    Ok(replies)
}

#[test]
fn both_readers_agree_on_large_values_and_on_garbage() {
    let mut large = format!("*2\r\n${}\r\n", SHARED).into_bytes();
    large.extend(std::iter::repeat_n(b'x', SHARED));
    large.extend_from_slice(b"\r\n:1\r\n");
    assert_eq!(
        take_all(&large, 1000).expect("valid"),
        read_all(&large, 1000).expect("valid")
    );
    for garbage in [
        &b"HTTP/1.1 200 OK\r\n"[..],
        b"$-2\r\n",
        b"$3\r\nabcd\r\n",
        b":x\r\n",
        b"\r\n",
        b"+OK\n",
        b"$99999999999\r\n",
        b"*-7\r\n",
        b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n",
    ] {
        let shown = String::from_utf8_lossy(garbage);
        assert!(take_all(garbage, 1000).is_err(), "{shown:?}");
        assert!(read_all(garbage, 1000).is_err(), "{shown:?}");
    }
}

#[test]
fn values_around_the_buffer_and_the_first_allocation() {
    let (buffer, at_once) = (Reader::<Drip<'_>>::BUFFER, crate::net::AT_ONCE);
    for length in [
        1,
        buffer - 10,
        buffer - 3,
        buffer - 2,
        buffer - 1,
        buffer,
        100_000,
        at_once - 1,
        at_once + 5,
    ] {
        let value: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
        let mut stream = format!("${length}\r\n").into_bytes();
        stream.extend_from_slice(&value);
        stream.extend_from_slice(b"\r\n:5\r\n");
        let replies = read_all(&stream, 9000).expect("valid replies");
        assert!(replies == [bulk(&value), Reply::Int(5)], "length {length}");
    }
}

#[test]
fn what_is_not_the_protocol_is_refused() {
    for garbage in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"\r\n",
        b"+OK\n",
        b":1x\r\n",
        b":\r\n",
        b"$-2\r\n",
        b"$99999999999999999999\r\n",
        b"$536870913\r\n",
        b"$3\r\nabcde\r\n",
        b"*-2\r\n",
        &[&b"*1\r\n".repeat(20)[..], b":1\r\n"].concat(),
        &vec![b'+'; 200_000],
    ] {
        let error = read_all(garbage, 50).expect_err("garbage");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
    }
}

#[test]
fn a_stream_that_ends_early_is_an_error() {
    for part in [
        &b"$"[..],
        b"$5\r\nab",
        b"$20000\r\nab",
        b"*2\r\n:1\r\n",
        b"+OK\r",
    ] {
        let error = read_all(part, 3).expect_err("half a reply");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}

#[test]
fn a_false_length_does_not_take_memory() {
    // The largest length that is believed, and no bytes behind it.
    let error = read_all(b"$536870912\r\nx", 100).expect_err("no value follows");
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    let error = read_all(b"*9223372036854775807\r\n", 100).expect_err("no items follow");
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}
