//! SMTP client for tests.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use mailrace_core::smtp::client::DotStuffing;
use mailrace_peers as peers;

/// One connection.
#[derive(Debug)]
pub struct Client {
    client: peers::Client,
}

impl Client {
    /// Connects without reading the greeting.
    #[must_use]
    pub fn connect(address: SocketAddr) -> Self {
        // Fail instead of hanging.
        Self { client: peers::Client::connect(address, Duration::from_secs(60)).unwrap() }
    }

    /// Connects and sends EHLO.
    #[must_use]
    pub fn introduced(address: SocketAddr) -> Self {
        let mut client = Self::connect(address);
        client.expect("220 ");
        client.say("EHLO client.example", "250");
        client
    }

    /// Sends bytes.
    pub fn send(&mut self, octets: &[u8]) {
        self.client.send(octets).unwrap();
    }

    /// Returns a complete reply, lines joined by LF; empty if the server has closed the connection.
    pub fn reply(&mut self) -> String {
        match self.client.reply() {
            Ok(answer) => answer.text.trim_end().to_owned(),
            Err(error) if error.kind() == ErrorKind::InvalidData => panic!("{error}"),
            Err(_) => String::new(),
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

    /// Sends a message and returns its queue id.
    pub fn queue(&mut self, sender: &str, recipient: &str, content: &str) -> String {
        self.say(&format!("MAIL FROM:<{sender}>"), "250 ");
        self.say(&format!("RCPT TO:<{recipient}>"), "250 ");
        self.say("DATA", "354 ");
        self.send(content.as_bytes());
        self.say(".", "250 2.0.0 Ok: queued as ").rsplit(' ').next().unwrap().to_owned()
    }

    /// Sends a message with dot-stuffing and returns the reply to its end.
    pub fn offer(&mut self, sender: &str, recipient: &str, content: &[u8]) -> String {
        self.say(&format!("MAIL FROM:<{sender}>"), "250 ");
        self.say(&format!("RCPT TO:<{recipient}>"), "250 ");
        self.say("DATA", "354 ");
        let mut stuffed = Vec::new();
        DotStuffing::new().append(content, &mut stuffed);
        stuffed.extend_from_slice(b".\r\n");
        self.send(&stuffed);
        self.reply()
    }

    /// Returns all input until the server closes the connection.
    #[must_use]
    pub fn rest(self) -> String {
        String::from_utf8_lossy(&self.client.rest()).into_owned()
    }
}
