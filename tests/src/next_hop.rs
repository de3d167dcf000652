//! A server that the engine delivers to, played by a test.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// A next hop that a test plays, one connection at a time.
#[derive(Debug)]
pub struct NextHop(TcpListener);

/// What the next hop was sent in one session.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Commands without line ends, except QUIT.
    pub commands: Vec<String>,
    /// Content with LF, dots as they were before stuffing.
    pub content: String,
}

impl NextHop {
    /// Listens on a free port.
    #[must_use]
    pub fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// Takes one session. `answer` says what commands are answered with, apart from the usual.
    pub fn session(&self, answer: impl Fn(&str) -> Option<&'static str>) -> Sent {
        let (stream, _) = self.0.accept().unwrap();
        let mut sent = Sent::default();
        let mut lines = BufReader::new(stream.try_clone().unwrap());
        let say = |text: &str| (&stream).write_all(format!("{text}\r\n").as_bytes()).unwrap();
        say("220 next.example ESMTP");
        while let Some(command) = line(&mut lines) {
            let usual = match command.get(..4) {
                Some("EHLO") => "250-next.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 0",
                Some("DATA") => "354 Go",
                Some("QUIT") => break,
                _ => "250 2.0.0 Ok",
            };
            say(answer(&command).unwrap_or(usual));
            if command == "DATA" {
                sent.content = content(&mut lines);
                say(answer(".").unwrap_or("250 2.0.0 Ok: queued as NEXT"));
            }
            sent.commands.push(command);
        }
        sent
    }
}

impl Default for NextHop {
    fn default() -> Self {
        Self::new()
    }
}

fn line(lines: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    line.strip_suffix("\r\n").map(str::to_owned)
}

fn content(lines: &mut BufReader<TcpStream>) -> String {
    let mut content = String::new();
    while let Some(line) = line(lines).filter(|line| line != ".") {
        content += line.strip_prefix('.').unwrap_or(&line);
        content.push('\n');
    }
    content
}
