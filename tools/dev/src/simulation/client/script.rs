//! Owns what clients are about to say: transactions, and where they break off, lie or say too much.

use std::time::Duration;

use super::Client;
use super::act::{Act, Chunk, Content, End, Ending, Word, Words};
use super::expected::{Expected, OK};
use crate::simulation::ledger::Ledger;
use crate::simulation::message::{Message, Origin};
use crate::simulation::plan::Manner;

/// More than a client ever sends after a lie.
const OCTETS_NEVER_SENT: usize = 200_000;

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
            // What a dialogue that is out of step has to say in the end.
            _ if lies || floods => {
                self.acts.push_back(Act::Await);
                self.add([Word::Nonsense(b"QUIT\r\n".to_vec(), None)]);
            }
            _ => self.quit(),
        }
    }

    fn add<const COUNT: usize>(&mut self, words: [Word; COUNT]) {
        self.acts.push_back(Act::Say(words.into()));
    }

    pub(super) fn hello(&mut self, is_extended: bool) {
        // HELO after EHLO changes the name only.
        self.is_extended |= is_extended;
        self.helo = format!("host{}.example", self.random.below(1000));
        self.acts.push_back(Act::Greet(self.helo.clone(), is_extended));
    }

    pub(super) fn quit(&mut self) {
        self.acts.push_back(Act::Await);
        self.add([Word::Quit]);
        self.acts.push_back(Act::Await);
    }

    /// A transaction that is given up before its content. Whether the script goes on.
    fn reset(&mut self) -> bool {
        self.acts.push_back(Act::Next);
        for (line, reply) in [
            ("MAIL FROM:<never@client.example>", "250 2.1.0 Ok"),
            ("RCPT TO:<never@example.com>", "250 2.1.5 Ok"),
        ] {
            self.add([Word::Other(line, Expected::Needed(reply))]);
            self.acts.push_back(Act::Await);
        }
        if self.random.one_in(4) {
            self.err("MAIL FROM:<again@client.example>", "503 5.5.1 Error: nested MAIL command");
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
                self.add([Word::Reset]);
                self.acts.push_back(Act::Await);
            }
        }
        true
    }

    /// Says what makes no sense there; it changes nothing.
    fn err(&mut self, line: &'static str, reply: &'static str) {
        if self.errors_left == 0 {
            return;
        }
        self.errors_left -= 1;
        self.acts.push_back(Act::Await);
        self.add([Word::Other(line, Expected::Refusal(reply))]);
        self.acts.push_back(Act::Await);
    }

    /// Says something between two chunks that changes nothing.
    fn interrupt(&mut self) {
        match self.random.below(8) {
            0 => self.err("MAIL FROM:<other@client.example>", "503 5.5.1 Error: nested MAIL command"),
            1 => self.err("RCPT TO:<other@example.com>", "503 5.5.1 Error: RCPT after BDAT"),
            2 => self.err("DATA", "503 5.5.1 Error: DATA after BDAT"),
            3 => self.err("STARTTLS", "502 5.5.1 Error: command not implemented"),
            4 => self.err("XYZZY", "500 5.5.2 Error: command not recognized"),
            5 => self.err("RSET now", "501 5.5.4 Syntax: RSET"),
            _ => {
                self.acts.push_back(Act::Await);
                self.add([Word::Other("NOOP", Expected::Positive(OK))]);
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
    fn envelope(&mut self, number: usize, ledger: &Ledger, is_pipelining: bool, rest: Words) {
        self.acts.push_back(Act::Next);
        let recipients = 0..ledger.message(number).recipients.len();
        let commands = recipients.map(|index| Word::Recipient(number, index));
        let commands = std::iter::once(Word::Mail(number)).chain(commands);
        if is_pipelining {
            self.acts.push_back(Act::Say(commands.chain(rest).collect()));
        } else {
            for command in commands {
                self.add([command]);
                self.acts.push_back(Act::Await);
            }
            if !rest.is_empty() {
                self.acts.push_back(Act::Say(rest));
            }
        }
    }

    /// A message with DATA. Whether the script goes on.
    fn data(&mut self, ledger: &mut Ledger, manner: &Manner, size: usize) -> bool {
        let number = self.begin(ledger, |number, client| {
            Message::new(number, size, manner, (client.is_extended, false), &mut client.random)
        });
        let mut wire = ledger.message(number).stuffed();
        let is_pipelining = self.is_extended && self.random.one_in(2);
        self.envelope(number, ledger, is_pipelining, [Word::Data].into());
        self.acts.push_back(Act::Await);
        if self.random.one_in(40) {
            wire.truncate(self.random.index(wire.len()));
            self.acts.push_back(Act::Content(Content { number, wire, ending: Ending::None }, None));
            let end = if self.random.one_in(2) { Act::Silence } else { Act::Leave };
            self.acts.push_back(end);
            return false;
        }
        self.content(Content { number, wire, ending: Ending::Dot });
        if !is_pipelining || self.random.one_in(2) {
            self.acts.push_back(Act::Await);
        }
        true
    }

    /// A small message with DATA of which nothing is out of the ordinary.
    pub(super) fn plain_data(&mut self, ledger: &mut Ledger, size: usize) {
        let number = self.begin(ledger, |number, client| Message::plain(number, size, &mut client.random));
        let wire = ledger.message(number).stuffed();
        self.envelope(number, ledger, true, [Word::Data].into());
        self.acts.push_back(Act::Await);
        self.acts.push_back(Act::Content(Content { number, wire, ending: Ending::Dot }, None));
    }

    fn content(&mut self, content: Content) {
        let silence = self.random.one_in(10).then(|| {
            let pause = Duration::from_millis(self.random.magnitude(1, 4000));
            // It may be in the middle of the end, too.
            let end = if matches!(content.ending, Ending::Dot) { ".\r\n".len() } else { 0 };
            (self.random.index(content.wire.len() + end), pause)
        });
        self.acts.push_back(Act::Content(content, silence));
    }

    /// A message in chunks. Whether the script goes on.
    fn chunks(&mut self, ledger: &mut Ledger, manner: &Manner, size: usize) -> bool {
        let number = self.begin(ledger, |number, client| {
            Message::new(number, size, manner, (client.is_extended, true), &mut client.random)
        });
        let is_pipelining = self.random.one_in(2);
        let wire = ledger.message(number).chunked();
        let mut chunks = self.cut(number, &wire);
        // Where it is given up, if it is.
        let end = self.random.one_in(8).then(|| self.random.index(chunks.len()));
        chunks.truncate(end.unwrap_or(chunks.len()));
        if is_pipelining && self.random.one_in(2) {
            self.envelope(number, ledger, true, chunks.into());
        } else {
            self.envelope(number, ledger, is_pipelining, Words::new());
            for (index, chunk) in chunks.into_iter().enumerate() {
                if index > 0 && self.random.one_in(12) {
                    self.interrupt();
                }
                if !is_pipelining || self.random.one_in(2) {
                    self.acts.push_back(Act::Await);
                }
                self.add([chunk]);
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
    fn cut(&mut self, number: usize, wire: &[u8]) -> Vec<Word> {
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
            let total = is_last.then_some(wire.len());
            chunks.push(Word::Chunk(Chunk { number, octets: chunk.to_vec(), total }));
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
            // One that has less than it says never ends.
            let end = is_short.then(|| {
                message.cut(said);
                End { number, place: wire.len() + said, total: Some(said) }
            });
            wire.extend(octets);
            self.envelope(number, ledger, true, Words::new());
            self.acts.push_back(Act::Await);
            self.add([Word::Nonsense(wire, end)]);
        } else {
            let message = ledger.message_mut(number);
            if self.random.one_in(3) {
                let place = message.header_size;
                message.content.splice(place..place, *b"before\r\n.\r\nRSET\r\n");
            }
            let (mut wire, end) = message.leave_unstuffed();
            let ending = if end < wire.len() {
                Ending::Within(end)
            } else {
                wire.truncate(end - ".\r\n".len());
                Ending::Dot
            };
            self.envelope(number, ledger, false, [Word::Data].into());
            self.acts.push_back(Act::Await);
            self.content(Content { number, wire, ending });
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
        self.add([Word::Nonsense(octets, None)]);
    }

    /// More of something than any client needs.
    fn flood(&mut self, ledger: &mut Ledger) {
        self.acts.push_back(Act::Await);
        let size = usize::try_from(self.random.magnitude(1000, 60_000)).unwrap_or(usize::MAX);
        match self.random.below(4) {
            0 => self.add([Word::Nonsense(b"NOOP\r\n".repeat(size / 6), None)]),
            1 => self.add([Word::Nonsense(vec![b'x'; size], None)]),
            2 => self.garbage(size / 40),
            _ => {
                let number =
                    self.begin(ledger, |number, client| Message::plain(number, 100, &mut client.random));
                self.envelope(number, ledger, false, [Word::Data].into());
                self.acts.push_back(Act::Await);
                let wire = [b"X-Endless: ", vec![b'x'; size].as_slice()].concat();
                self.content(Content { number, wire, ending: Ending::None });
            }
        }
        self.acts.push_back(Act::Pause(Duration::from_millis(self.random.magnitude(1, 60_000))));
    }
}
