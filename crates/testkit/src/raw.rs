//! A minimal Redis client for tests, independent of the one under test.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nil.
    Nil,
    /// A number.
    Int(i64),
    /// A status, value or array element as text.
    Text(String),
    /// An error reply.
    Error(String),
    /// An array.
    List(Vec<Answer>),
}

/// A connection for one command after another.
#[derive(Debug)]
pub struct RawClient(BufReader<TcpStream>);

impl RawClient {
    /// Connects to a port of this machine.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends a command and reads the answer.
    ///
    /// # Errors
    /// When the connection breaks or no answer comes within 10 s.
    pub fn command(&mut self, words: &[&str]) -> io::Result<Answer> {
        let mut out = format!("*{}\r\n", words.len());
        for word in words {
            out += &format!("${}\r\n{word}\r\n", word.len());
        }
        self.0.get_mut().write_all(out.as_bytes())?;
        self.read()
    }

    fn read(&mut self) -> io::Result<Answer> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        let (kind, rest) = line.split_at_checked(1).ok_or(io::ErrorKind::InvalidData)?;
        let number = || {
            rest.parse::<i64>()
                .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
        };
        Ok(match kind {
            "+" => Answer::Text(rest.to_owned()),
            "-" => Answer::Error(rest.to_owned()),
            ":" => Answer::Int(number()?),
            "$" => match usize::try_from(number()?) {
                Err(_) => Answer::Nil,
                Ok(length) => {
                    let mut bytes = vec![0; length + 2];
                    self.0.read_exact(&mut bytes)?;
                    bytes.truncate(length);
                    Answer::Text(String::from_utf8_lossy(&bytes).into_owned())
                }
            },
            "*" => {
                let count = number()?.max(0);
                Answer::List((0..count).map(|_| self.read()).collect::<io::Result<_>>()?)
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        })
    }
}

/// Sends one command to the server at `port`, after a login if there is a password.
///
/// # Panics
/// When the server cannot be reached or refuses the command.
pub fn command(port: u16, password: Option<&str>, words: &[&str]) -> Answer {
    let mut client = RawClient::connect(port).expect("the server listens");
    if let Some(password) = password {
        client
            .command(&["AUTH", password])
            .expect("the server answers");
    }
    match client.command(words).expect("the server answers") {
        Answer::Error(error) => panic!("{words:?}: {error}"),
        answer => answer,
    }
}
