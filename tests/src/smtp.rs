//! Owns a client that says what a test wants it to say.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// One connection.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects; the greeting is not read yet.
    #[must_use]
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        // A test that hangs is to fail.
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        // Small writes do not wait for each other.
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// Connects and says EHLO.
    #[must_use]
    pub fn introduced(address: SocketAddr) -> Self {
        let mut client = Self::connect(address);
        client.expect("220 ");
        client.say("EHLO client.example", "250");
        client
    }

    /// Sends octets.
    pub fn send(&mut self, octets: &[u8]) {
        self.stream.get_mut().write_all(octets).unwrap();
    }

    /// A whole reply, lines joined by LF; empty when the server has closed.
    pub fn reply(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let start = reply.len();
            if self.stream.read_line(&mut reply).unwrap_or(0) == 0 {
                return reply;
            }
            if reply.as_bytes().get(start + 3) != Some(&b'-') {
                return reply.replace("\r\n", "\n").trim_end().to_owned();
            }
        }
    }

    /// Reads a reply that begins with `start`.
    pub fn expect(&mut self, start: &str) -> String {
        let reply = self.reply();
        assert!(reply.starts_with(start), "{start} was expected: {reply}");
        reply
    }

    /// Sends a line and reads a reply that begins with `start`.
    pub fn say(&mut self, line: &str, start: &str) -> String {
        self.send(format!("{line}\r\n").as_bytes());
        let reply = self.reply();
        assert!(reply.starts_with(start), "{line}: {start} was expected: {reply}");
        reply
    }

    /// Sends a message; its queue id.
    pub fn queue(&mut self, sender: &str, recipient: &str, content: &str) -> String {
        self.say(&format!("MAIL FROM:<{sender}>"), "250 ");
        self.say(&format!("RCPT TO:<{recipient}>"), "250 ");
        self.say("DATA", "354 ");
        self.send(content.as_bytes());
        self.say(".", "250 2.0.0 Ok: queued as ").rsplit(' ').next().unwrap().to_owned()
    }

    /// Sends a message whose content is what a client wrote, dots not stuffed yet; the reply to its end.
    pub fn offer(&mut self, sender: &str, recipient: &str, content: &[u8]) -> String {
        self.say(&format!("MAIL FROM:<{sender}>"), "250 ");
        self.say(&format!("RCPT TO:<{recipient}>"), "250 ");
        self.say("DATA", "354 ");
        for line in content.split_inclusive(|octet| *octet == b'\n') {
            if line.starts_with(b".") {
                self.send(b".");
            }
            self.send(line);
        }
        self.send(b".\r\n");
        self.reply()
    }

    /// All that still comes until the server closes.
    #[must_use]
    pub fn rest(mut self) -> String {
        let mut rest = String::new();
        // A reset after the last reply is an end too.
        let _ = self.stream.read_to_string(&mut rest);
        rest
    }
}
