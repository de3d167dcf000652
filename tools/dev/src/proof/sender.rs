//! Owns the clients of a proof: they send until the server is gone, and note what was answered.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mailrace_io::sim::Random;
use mailrace_peers::Client;
use mailrace_postmark::{Fate, Identity, Ledger};

/// Sends until `stop` is set or the server is gone, over one connection after another.
pub fn send(address: SocketAddr, ledger: &Ledger, mut random: Random, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut session) = Session::open(address) else {
            // It may be starting, or out of descriptors.
            std::thread::sleep(PAUSE);
            continue;
        };
        while !stop.load(Ordering::Relaxed) {
            match session.send(ledger, &mut random) {
                Ok(true) => {}
                // As a client does that was told to come again later.
                Ok(false) => std::thread::sleep(PAUSE),
                Err(_) => break,
            }
        }
    }
}

/// A connection.
#[derive(Debug)]
pub struct Session {
    client: Client,
}

impl Session {
    /// Connects and says EHLO.
    ///
    /// # Errors
    /// When the server does not answer as it should.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let mut session = Self { client: Client::connect(address, TIMEOUT)? };
        session.reply("220")?.ok_or(io::ErrorKind::ConnectionRefused)?;
        session.write(b"EHLO client.example.org\r\n")?;
        session.reply("250")?.ok_or(io::ErrorKind::ConnectionRefused)?;
        Ok(session)
    }

    /// Sends one message; whether it was accepted.
    ///
    /// # Errors
    /// When the server is gone.
    pub fn send(&mut self, ledger: &Ledger, random: &mut Random) -> io::Result<bool> {
        let identity = ledger.begin();
        let fate = match random.below(3) {
            0 => self.plain(identity, ledger)?,
            1 => self.pipelined(identity, ledger)?,
            _ => self.chunked(identity, ledger, random)?,
        };
        let is_accepted = matches!(fate, Fate::Accepted(_));
        ledger.note(identity, fate);
        Ok(is_accepted)
    }

    /// A reply to each line.
    fn plain(&mut self, identity: Identity, ledger: &Ledger) -> io::Result<Fate> {
        for (line, wanted) in envelope(identity).into_iter().chain([("DATA\r\n".to_owned(), "354")]) {
            self.write(line.as_bytes())?;
            if self.reply(wanted)?.is_none() {
                return self.reset();
            }
        }
        self.content(identity, ledger)
    }

    /// All lines at once.
    fn pipelined(&mut self, identity: Identity, ledger: &Ledger) -> io::Result<Fate> {
        let [(mail, _), (rcpt, _)] = envelope(identity);
        self.write(format!("{mail}{rcpt}DATA\r\n").as_bytes())?;
        let mut is_open = true;
        for wanted in ["250", "250", "354"] {
            is_open &= self.reply(wanted)?.is_some();
        }
        if is_open { self.content(identity, ledger) } else { self.reset() }
    }

    /// BDAT, several chunks at once.
    fn chunked(&mut self, identity: Identity, ledger: &Ledger, random: &mut Random) -> io::Result<Fate> {
        let content = identity.content();
        for (line, wanted) in envelope(identity) {
            self.write(line.as_bytes())?;
            if self.reply(wanted)?.is_none() {
                return self.reset();
            }
        }
        let size = usize::try_from(1 + random.below(CHUNK_SIZE_MAX)).unwrap_or(1);
        let mut chunks = content.chunks(size).peekable();
        let mut is_taken = true;
        while let Some(chunk) = chunks.next() {
            let is_last = chunks.peek().is_none();
            if is_last {
                ledger.note(identity, Fate::Offered);
            }
            let last = if is_last { " LAST" } else { "" };
            let mut octets = format!("BDAT {}{last}\r\n", chunk.len()).into_bytes();
            octets.extend(chunk);
            self.write(&octets)?;
            let reply = self.reply("250")?;
            is_taken &= reply.is_some();
            match (reply, is_taken, is_last) {
                (Some(reply), true, true) => return Ok(fate(&reply)),
                (_, true, false) => {}
                _ => return self.reset(),
            }
        }
        self.reset()
    }

    fn content(&mut self, identity: Identity, ledger: &Ledger) -> io::Result<Fate> {
        let mut content = identity.content();
        content.extend(b".\r\n");
        ledger.note(identity, Fate::Offered);
        self.write(&content)?;
        Ok(self.reply("250")?.map_or(Fate::Refused, |reply| fate(&reply)))
    }

    /// What was refused half way.
    fn reset(&mut self) -> io::Result<Fate> {
        self.write(b"RSET\r\n")?;
        self.reply("250")?;
        Ok(Fate::Refused)
    }

    fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        self.client.send(octets)
    }

    /// The last line of a reply, if it begins with `wanted`.
    fn reply(&mut self, wanted: &str) -> io::Result<Option<String>> {
        let answer = self.client.reply()?;
        let line = answer.last_line();
        Ok(line.starts_with(wanted).then(|| line.to_owned()))
    }
}

fn envelope(identity: Identity) -> [(String, &'static str); 2] {
    [
        (format!("MAIL FROM:<{}>\r\n", identity.sender()), "250"),
        (format!("RCPT TO:<{}>\r\n", identity.recipient()), "250"),
    ]
}

/// `250 2.0.0 Ok: queued as ID`
fn fate(reply: &str) -> Fate {
    Fate::Accepted(reply.trim_end().rsplit(' ').next().unwrap_or_default().to_owned())
}

/// How long a client rests that was turned away.
const PAUSE: Duration = Duration::from_millis(20);
/// How long the server may be silent.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a BDAT chunk at most.
const CHUNK_SIZE_MAX: u64 = 90_000;
