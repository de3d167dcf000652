//! A blocking SMTP client that sends what it is given.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use mailrace_core::smtp::client::ReplyReader;

/// A connection to a server.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    reader: ReplyReader,
    received: Vec<u8>,
    /// Bytes of `received` that belong to replies already returned.
    read: usize,
}

/// A whole reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Three digits.
    pub code: u16,
    /// All lines, joined by LF.
    pub text: String,
}

impl Answer {
    /// Returns the last line.
    #[must_use]
    pub fn last_line(&self) -> &str {
        self.text.rsplit('\n').next().unwrap_or_default()
    }
}

impl Client {
    /// Connects. The greeting is not read. The server may take `patience` for each reply.
    ///
    /// # Errors
    /// The system's error.
    pub fn connect(server: SocketAddr, patience: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&server, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        // Small writes do not wait for each other.
        stream.set_nodelay(true)?;
        Ok(Self { stream, reader: ReplyReader::default(), received: Vec::new(), read: 0 })
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// The system's error.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Reads the next reply.
    ///
    /// # Errors
    /// [`ErrorKind::UnexpectedEof`] when the server has closed the connection, [`ErrorKind::InvalidData`] for what is no
    /// reply, or the system's error.
    pub fn reply(&mut self) -> io::Result<Answer> {
        loop {
            let mut input = self.received.get(self.read..).unwrap_or_default();
            if let Some(result) = self.reader.read(&mut input) {
                self.read = self.received.len() - input.len();
                let reply = result.map_err(|invalid| {
                    let got = String::from_utf8_lossy(invalid.got);
                    io::Error::new(ErrorKind::InvalidData, format!("{}: {got}", invalid.violation))
                })?;
                let lines: Vec<_> = reply.lines().map(String::from_utf8_lossy).collect();
                return Ok(Answer { code: reply.code(), text: lines.join("\n") });
            }
            self.received.resize(READ_SIZE, 0);
            self.read = 0;
            let result = self.stream.read(&mut self.received);
            self.received.truncate(*result.as_ref().unwrap_or(&0));
            if result? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Sends bytes and reads a reply.
    ///
    /// # Errors
    /// Those of [`Client::send`] and [`Client::reply`].
    pub fn ask(&mut self, bytes: &[u8]) -> io::Result<Answer> {
        self.send(bytes)?;
        self.reply()
    }

    /// Returns everything that is still received until the server closes or resets the connection.
    #[must_use]
    pub fn rest(mut self) -> Vec<u8> {
        let mut rest = self.received.split_off(self.read);
        // A reset after the last reply is an end, too.
        let _ = self.stream.read_to_end(&mut rest);
        rest
    }
}

const READ_SIZE: usize = 16 * 1024;
