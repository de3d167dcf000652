//! Owns what clients are about to say: transactions, and where they break off, lie or say too much.

use std::time::Duration;

use super::{Act, Client, Content, Expected, OK};
use crate::simulation::ledger::Ledger;
use crate::simulation::message::{Message, Origin};
use crate::simulation::plan::Manner;

/// More than a client ever sends after a lie.
const OCTETS_NEVER_SENT: usize = 200_000;

/// A script's words, and what they are answered.
type Words = (Vec<u8>, Vec<Expected>);

impl Client {
    pub(super) fn script(&mut self, ledger: &mut Ledger, manner: &Manner, lies: bool, floods: bool) {
        let is_extended = !self.random.one_in(8);
        self.hello(is_extended);
        let count = if self.random.one_in(6) && manner.sizes < 100_000 {
            self.random.between(5, 20)
        } else {
            self.random.between(1, 4)
        };
        for _ in 0..count {
            let size = usize::try_from(self.random.magnitude(20, manner.sizes)).unwrap_or(usize::MAX);
            let goes_on = match self.random.below(8) {
                0 => self.reset(),
                1..=3 if self.is_extended => self.chunks(ledger, manner, size),
                _ => self.data(ledger, manner, size),
            };
            if !goes_on {
                return;
            }
        }
        if lies {
            self.lie(ledger);
        }
        if floods {
            self.flood(ledger);
        }
        match self.random.below(12) {
            0..=1 => {}
            // Nothing that it said is left to be answered.
            2 if !lies && !floods => {
                self.acts.push_back(Act::Await);
                self.acts.push_back(Act::Silence);
            }
            _ => self.quit(),
        }
    }

    pub(super) fn hello(&mut self, is_extended: bool) {
        // HELO after EHLO changes the name only.
        self.is_extended |= is_extended;
        self.helo = format!("host{}.example", self.random.below(1000));
        let verb = if is_extended { "EHLO" } else { "HELO" };
        let line = format!("{verb} {}\r\n", self.helo).into_bytes();
        self.acts.push_back(Act::Greet(line));
    }

    pub(super) fn quit(&mut self) {
        self.acts.push_back(Act::Await);
        self.acts.push_back(Act::Say(b"QUIT\r\n".to_vec(), vec![Expected::Positive("221 2.0.0 Bye\r\n")]));
        self.acts.push_back(Act::Await);
    }

    /// A transaction that is given up before its content. Whether the script goes on.
    fn reset(&mut self) -> bool {
        self.acts.push_back(Act::Next);
        let ok = [Expected::Needed("250 2.1.0 Ok\r\n"), Expected::Needed("250 2.1.5 Ok\r\n")];
        for (line, expected) in
            [&b"MAIL FROM:<never@client.example>\r\n"[..], b"RCPT TO:<never@example.com>\r\n"]
                .into_iter()
                .zip(ok)
        {
            self.acts.push_back(Act::Say(line.to_vec(), vec![expected]));
            self.acts.push_back(Act::Await);
        }
        if self.random.one_in(4) {
            self.err("MAIL FROM:<again@client.example>\r\n", "503 5.5.1 Error: nested MAIL command\r\n");
        }
        self.break_off()
    }

    /// Ends a transaction in some way. Whether the script goes on.
    fn break_off(&mut self) -> bool {
        match self.random.below(8) {
            0 => {
                self.quit();
                return false;
            }
            1 => {
                self.acts.push_back(Act::Leave);
                return false;
            }
            2 => {
                self.acts.push_back(Act::Await);
                self.acts.push_back(Act::Silence);
                return false;
            }
            3..=4 => {
                self.acts.push_back(Act::Await);
                let is_extended = !self.random.one_in(4);
                self.hello(is_extended);
            }
            _ => {
                if !self.random.one_in(3) {
                    self.acts.push_back(Act::Await);
                }
                self.acts.push_back(Act::Say(b"RSET\r\n".to_vec(), vec![Expected::Positive(OK)]));
                self.acts.push_back(Act::Await);
            }
        }
        true
    }

    /// Says what makes no sense there; it changes nothing.
    fn err(&mut self, line: &str, reply: &'static str) {
        if self.errors_left == 0 {
            return;
        }
        self.errors_left -= 1;
        self.acts.push_back(Act::Await);
        self.acts.push_back(Act::Say(line.into(), vec![Expected::Refusal(reply)]));
        self.acts.push_back(Act::Await);
    }

    /// Says something between two chunks that changes nothing.
    fn interrupt(&mut self) {
        match self.random.below(8) {
            0 => self.err("MAIL FROM:<other@client.example>\r\n", "503 5.5.1 Error: nested MAIL command\r\n"),
            1 => self.err("RCPT TO:<other@example.com>\r\n", "503 5.5.1 Error: RCPT after BDAT\r\n"),
            2 => self.err("DATA\r\n", "503 5.5.1 Error: DATA after BDAT\r\n"),
            3 => self.err("STARTTLS\r\n", "502 5.5.1 Error: command not implemented\r\n"),
            4 => self.err("XYZZY\r\n", "500 5.5.2 Error: command not recognized\r\n"),
            5 => self.err("RSET now\r\n", "501 5.5.4 Syntax: RSET\r\n"),
            _ => {
                self.acts.push_back(Act::Await);
                self.acts.push_back(Act::Say(b"NOOP\r\n".to_vec(), vec![Expected::Positive(OK)]));
                self.acts.push_back(Act::Await);
            }
        }
    }

    fn begin(&mut self, ledger: &mut Ledger, message: impl FnOnce(usize, &mut Self) -> Message) -> usize {
        let generation = ledger.generation;
        let number = ledger.begin(|number| message(number, self));
        let origin = Origin { address: None, helo: self.helo.clone(), is_extended: self.is_extended };
        let message = ledger.message_mut(number);
        (message.origin, message.generation) = (origin, generation);
        self.numbers.push(number);
        number
    }

    /// MAIL and RCPT, together with `rest` if commands may be sent together.
    fn envelope(&mut self, number: usize, message: &Message, is_pipelining: bool, rest: Option<Words>) {
        self.acts.push_back(Act::Next);
        let mail = (message.mail().into_bytes(), vec![Expected::Mail(number)]);
        let recipients = message.recipients.iter().enumerate().map(|(index, recipient)| {
            (recipient.command().into_bytes(), vec![Expected::Recipient(number, index)])
        });
        let commands = std::iter::once(mail).chain(recipients);
        if is_pipelining {
            let (octets, replies) = together(commands.chain(rest));
            self.acts.push_back(Act::Say(octets, replies));
        } else {
            for (octets, replies) in commands {
                self.acts.push_back(Act::Say(octets, replies));
                self.acts.push_back(Act::Await);
            }
            self.acts.extend(rest.map(|(octets, replies)| Act::Say(octets, replies)));
        }
    }

    /// A message with DATA. Whether the script goes on.
    fn data(&mut self, ledger: &mut Ledger, manner: &Manner, size: usize) -> bool {
        let number = self.begin(ledger, |number, client| {
            Message::new(number, size, manner, (client.is_extended, false), &mut client.random)
        });
        let message = ledger.message(number);
        let mut wire = message.stuffed();
        let is_pipelining = self.is_extended && self.random.one_in(2);
        self.envelope(
            number,
            message,
            is_pipelining,
            Some((b"DATA\r\n".to_vec(), vec![Expected::Permission])),
        );
        self.acts.push_back(Act::Await);
        if self.random.one_in(40) {
            wire.truncate(self.random.index(wire.len() - 3));
            self.acts.push_back(Act::Content(Content { number, wire, end: None }, None));
            let end = if self.random.one_in(2) { Act::Silence } else { Act::Leave };
            self.acts.push_back(end);
            return false;
        }
        let end = Some(wire.len());
        self.content(Content { number, wire, end });
        if !is_pipelining || self.random.one_in(2) {
            self.acts.push_back(Act::Await);
        }
        true
    }

    /// A small message with DATA of which nothing is out of the ordinary.
    pub(super) fn plain_data(&mut self, ledger: &mut Ledger, size: usize) {
        let number = self.begin(ledger, |number, client| Message::plain(number, size, &mut client.random));
        let message = ledger.message(number);
        let wire = message.stuffed();
        self.envelope(number, message, true, Some((b"DATA\r\n".to_vec(), vec![Expected::Permission])));
        self.acts.push_back(Act::Await);
        let end = Some(wire.len());
        self.acts.push_back(Act::Content(Content { number, wire, end }, None));
    }

    fn content(&mut self, content: Content) {
        let silence = self.random.one_in(10).then(|| {
            let pause = Duration::from_millis(self.random.magnitude(1, 4000));
            (self.random.index(content.wire.len()), pause)
        });
        self.acts.push_back(Act::Content(content, silence));
    }

    /// A message in chunks. Whether the script goes on.
    fn chunks(&mut self, ledger: &mut Ledger, manner: &Manner, size: usize) -> bool {
        let number = self.begin(ledger, |number, client| {
            Message::new(number, size, manner, (client.is_extended, true), &mut client.random)
        });
        let message = ledger.message(number).clone();
        let is_pipelining = self.random.one_in(2);
        let wire = message.chunked();
        let mut chunks = self.cut(number, &wire);
        // Where it is given up, if it is.
        let end = self.random.one_in(8).then(|| self.random.index(chunks.len()));
        chunks.truncate(end.unwrap_or(chunks.len()));
        if is_pipelining && self.random.one_in(2) {
            self.envelope(number, &message, true, Some(together(chunks.into_iter())));
        } else {
            self.envelope(number, &message, is_pipelining, None);
            for (index, (octets, replies)) in chunks.into_iter().enumerate() {
                if index > 0 && self.random.one_in(12) {
                    self.interrupt();
                }
                if !is_pipelining || self.random.one_in(2) {
                    self.acts.push_back(Act::Await);
                }
                self.acts.push_back(Act::Say(octets, replies));
            }
        }
        if end.is_some() {
            return self.break_off();
        }
        if self.random.one_in(2) {
            self.acts.push_back(Act::Await);
        }
        true
    }

    /// Cuts content into chunks.
    fn cut(&mut self, number: usize, wire: &[u8]) -> Vec<Words> {
        let count = if self.random.one_in(3) { 1 + self.random.index(6) } else { 1 };
        let mut rest = wire;
        let mut chunks = Vec::new();
        for index in 1..=count {
            let size = if index == count { rest.len() } else { self.random.index(rest.len() + 1) };
            let (chunk, behind) = rest.split_at(size);
            let is_last = index == count;
            if chunk.is_empty() && !is_last {
                continue;
            }
            let mut octets = format!("BDAT {size}{}\r\n", if is_last { " LAST" } else { "" }).into_bytes();
            octets.extend_from_slice(chunk);
            let reply = if is_last {
                Expected::Verdict(number, Some(wire.len()))
            } else {
                Expected::Chunk(number, size)
            };
            chunks.push((octets, vec![reply]));
            rest = behind;
        }
        chunks
    }

    /// A message of which the client says something that is not so. Nothing sensible follows.
    fn lie(&mut self, ledger: &mut Ledger) {
        self.acts.push_back(Act::Await);
        let number = self.begin(ledger, |number, client| Message::plain(number, 2000, &mut client.random));
        if self.is_extended && self.random.one_in(2) {
            let message = ledger.message_mut(number);
            let octets = message.content.clone();
            let is_short = self.random.one_in(2);
            let said = if is_short {
                message.header_size + self.random.index(octets.len() - message.header_size)
            } else {
                octets.len() + OCTETS_NEVER_SENT
            };
            let mut wire = format!("BDAT {said} LAST\r\n").into_bytes();
            let reply = if is_short {
                message.cut(said);
                vec![Expected::Verdict(number, Some(said))]
            } else {
                // It never ends.
                vec![]
            };
            let message = message.clone();
            wire.extend(octets);
            self.envelope(number, &message, true, None);
            self.acts.push_back(Act::Await);
            self.acts.push_back(Act::Say(wire, reply));
        } else {
            let message = ledger.message_mut(number);
            if self.random.one_in(3) {
                let place = message.header_size;
                message.content.splice(place..place, *b"before\r\n.\r\nRSET\r\n");
            }
            let (wire, end) = message.leave_unstuffed();
            let message = message.clone();
            self.envelope(number, &message, false, None);
            self.acts.push_back(Act::Say(b"DATA\r\n".to_vec(), vec![Expected::Permission]));
            self.acts.push_back(Act::Await);
            self.content(Content { number, wire, end: Some(end) });
        }
        self.acts.push_back(Act::Pause(Duration::from_millis(self.random.magnitude(1, 60_000))));
        self.garbage(3);
    }

    fn garbage(&mut self, lines: usize) {
        let mut octets = Vec::new();
        for _ in 0..lines {
            let length = self.random.index(80);
            octets.extend((0..length).map(|_| u8::try_from(self.random.below(256)).unwrap_or(0)));
            octets.extend_from_slice(b"\r\n");
        }
        self.acts.push_back(Act::Say(octets, vec![]));
    }

    /// More of something than anybody needs.
    fn flood(&mut self, ledger: &mut Ledger) {
        self.acts.push_back(Act::Await);
        let size = usize::try_from(self.random.magnitude(1000, 60_000)).unwrap_or(usize::MAX);
        match self.random.below(4) {
            0 => self.acts.push_back(Act::Say(b"NOOP\r\n".repeat(size / 6), vec![])),
            1 => self.acts.push_back(Act::Say(vec![b'x'; size], vec![])),
            2 => self.garbage(size / 40),
            _ => {
                let number =
                    self.begin(ledger, |number, client| Message::plain(number, 100, &mut client.random));
                let message = ledger.message(number).clone();
                self.envelope(number, &message, false, None);
                self.acts.push_back(Act::Say(b"DATA\r\n".to_vec(), vec![Expected::Permission]));
                self.acts.push_back(Act::Await);
                let wire = [b"X-Endless: ", vec![b'x'; size].as_slice()].concat();
                self.content(Content { number, wire, end: None });
            }
        }
        self.acts.push_back(Act::Pause(Duration::from_millis(self.random.magnitude(1, 60_000))));
    }
}

/// All words at once.
fn together(words: impl Iterator<Item = Words>) -> Words {
    words.fold((Vec::new(), Vec::new()), |mut all, (octets, replies)| {
        all.0.extend(octets);
        all.1.extend(replies);
        all
    })
}
